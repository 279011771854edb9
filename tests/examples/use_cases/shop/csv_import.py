"""An import of a CSV file that a user has uploaded. Rows that are wrong come back, each with all that is wrong with it.

On Rails's side it is a class without `perform`, that says where it runs:

    class Imports::Customers
      include Sidekiq::Job
      sidekiq_options queue: "imports", retry: 5
    end

    upload = current_user.uploads.create!(file: params[:file])            # at gs://shop-uploads/...
    jid = Imports::Customers.perform_async(upload.address, upload.address_of_failed_rows)

The uploader sees `shop.web.status(client, jid)` and `shop.web.problems(client, jid)` on a page, while it runs and for
a week. What could not be imported stands at `failed_address` when it is done: a file like theirs, with one more column.
They correct it, and upload that; the new column is none that the import looks at.

What makes it come out the same, however often it was interrupted:

* Rows that are done are not gone over again: the cursor is the row, and what was said of rows is written with it.
* The rows since the last write, five seconds ago at most, come a second time after a crash. That does no harm: a
  customer is written by an upsert, and what a row had failed for stands there once.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, NamedTuple

from sqlalchemy import text

import pyqik
from pyqik import enumerators
from shop import database

UPSERT = text("""
    INSERT INTO customers (email, name, born_on, credit_cents) VALUES (:email, :name, :born_on, :credit_cents)
    ON CONFLICT (email) DO UPDATE SET name = excluded.name, born_on = excluded.born_on,
    credit_cents = excluded.credit_cents
""")
COLUMNS = ("email", "name", "born_on", "credit")


class Problem(NamedTuple):
    """What is wrong with a row; `field` is the column that is meant, if one is."""

    message: str
    field: str | None = None


@pyqik.job("Imports::Customers", queue="imports", retry=5)
def import_customers(path: str, failed_address: str) -> None:
    """Write the customers of a file into the database, and what is no customer into another file."""
    rows = pyqik.rows()
    if pyqik.progress.total is None:
        pyqik.progress.total = count_rows(path)
    pyqik.progress.note = "importing"
    for row in pyqik.each(enumerators.csv_rows(path)):
        problems = list(problems_of(row))
        for problem in problems:
            rows.fail(problem.message, field=problem.field)
        if not problems:
            upsert(row)
    if rows.failed_count:
        rows.failed_csv().publish(failed_address)
    pyqik.progress.note = f"{rows.done_count} imported, {rows.failed_count} failed"


def count_rows(path: str) -> int:
    """How many there are. What is no CSV file is found here, before any row of it is imported."""
    try:
        return sum(1 for _ in enumerators.csv_rows(path).open())
    except (csv.Error, UnicodeDecodeError) as error:
        # No retry makes a CSV file of it. Whoever looks at the progress sees why.
        pyqik.progress.note = f"this file cannot be read: {error}"
        raise pyqik.Kill(str(error)) from error


def problems_of(row: Mapping[Any, Any]) -> Iterator[Problem]:
    """All of them, so that the uploader need not come again for the next one."""
    if None in row:
        yield Problem("has more fields than there are columns")
    missing = [column for column in COLUMNS if row.get(column) is None]
    if missing:
        yield Problem(f"lacks {', '.join(missing)}")
        return
    if not row["name"].strip():
        yield Problem("must not be empty", "name")
    if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", row["email"]):
        yield Problem("is no address", "email")
    if row["born_on"] and not is_day(row["born_on"]):
        yield Problem("is no day; write it as 1990-12-31", "born_on")
    if not re.fullmatch(r"[0-9]{1,9}\.[0-9]{2}", row["credit"]):
        yield Problem("is no amount; write it as 12.50", "credit")


def is_day(value: str) -> bool:
    try:
        return date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False


def upsert(row: Mapping[Any, Any]) -> None:
    """Write a customer; a second time changes nothing."""
    customer = {
        "email": row["email"].lower(),
        "name": row["name"].strip(),
        "born_on": row["born_on"] or None,
        "credit_cents": int(row["credit"].replace(".", "")),
    }
    with database.engine.begin() as connection:
        connection.execute(UPSERT, customer)
