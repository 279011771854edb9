"""An export that takes a minute or two. A deploy interrupts it, and it is simply begun anew.

On Rails's side it is a class without `perform`, that says where it runs:

    class Exports::SalesByDay
      include Sidekiq::Job
      sidekiq_options queue: "exports", retry: 3
    end

    Exports::SalesByDay.perform_async("2026-11-01", "2026-11-30", Rails.root.join("exports/2026-11.csv").to_s)

There is no cursor, no counter and no file that is kept, and nothing is missing:

* It may be run twice. What it writes goes into a directory of this run alone, which is removed with it; then the whole
  file appears in its place, or takes the place of the same one.
* It hears of a deploy. At `raise_if_stopping` it ends within the time of one day's query, goes back to the front of its
  queue, and spends no retry. Without that line it would go on until the stop's deadline (25 seconds), and end likewise.
* What it costs is the minute that was already done, once a deploy. A rolling deploy stops a job twice at most.

As soon as that minute is one of many, write it as `long_export` is written.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import text

import pyqik
from shop import database

SALES = text("""
    SELECT product, sum(quantity), sum(quantity * cents) FROM orders JOIN order_lines ON order_id = orders.id
    WHERE placed_on = :day GROUP BY product ORDER BY product
""")


@pyqik.job("Exports::SalesByDay", queue="exports", retry=3)
def export_sales_by_day(first: str, last: str, path: str) -> None:
    """What was sold from day to day, of each product."""
    with TemporaryDirectory() as directory:
        written = Path(directory, "sales.csv")
        write_sales(written, date.fromisoformat(first), date.fromisoformat(last))
        publish(written, Path(path))


def write_sales(path: Path, first: date, last: date) -> None:
    # One connection and one transaction: a short export can afford that, and shows the books of one moment.
    with path.open("w", encoding="utf-8", newline="") as file, database.engine.connect() as connection:
        writer = csv.writer(file)
        writer.writerow(["day", "product", "quantity", "cents"])
        for day in days(first, last):
            pyqik.raise_if_stopping()
            for sold in connection.execute(SALES, {"day": day.isoformat()}):
                writer.writerow([day, *sold])


def days(first: date, last: date) -> Iterator[date]:
    while first <= last:
        yield first
        first += timedelta(days=1)


def publish(written: Path, path: Path) -> None:
    """Move a file to its place, where it appears as a whole. In Cloud Storage an upload does that by itself:

    bucket.blob(name).upload_from_filename(written)
    """
    # What a killed run has left here, the next one writes over.
    beside = path.with_name(f".{path.name}.unfinished")
    shutil.copyfile(written, beside)
    os.replace(beside, path)
