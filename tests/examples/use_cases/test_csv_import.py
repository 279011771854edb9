"""An import with rows that are wrong: the same customers, the same messages and the same file to correct, always."""

from __future__ import annotations

import csv
import io
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from shop import csv_import, web
from shop.csv_import import import_customers

import pyqik
from pyqik import testing
from tests.support.running import run_queued

FAILED = "gs://shop-uploads/17/failed.csv"

#: As Excel writes it. Rows 3, 4 and 6 are wrong; row 5 has two lines, and row 7 is blank.
UPLOADED = (
    "\ufeffemail,name,born_on,credit\r\n"
    "zoe@example.org,Zoë Łuczak,1990-12-31,12.50\r\n"
    'no address," ",31.12.1990,"12,5"\r\n'
    "li@example.org,王芳\r\n"
    'Ann@Example.org,"Ann ""Lee"",\r\nBerlin",,0.00\r\n'
    'bo@example.org,"Bo\r\nJensen",1990-02-30,=1+1\r\n'
    "\r\n"
    "cy@example.org,Cy 🧀,,3.00\r\n"
).encode()
CUSTOMERS = [
    ("ann@example.org", 'Ann "Lee",\r\nBerlin', None, 0),
    ("cy@example.org", "Cy 🧀", None, 300),
    ("zoe@example.org", "Zoë Łuczak", "1990-12-31", 1250),
]
NO_DAY, NO_AMOUNT = "born_on: is no day; write it as 1990-12-31", "credit: is no amount; write it as 12.50"
LEDGER = [
    (3, ["name: must not be empty", "email: is no address", NO_DAY, NO_AMOUNT]),
    (4, ["lacks born_on, credit"]),
    (6, [NO_DAY, NO_AMOUNT]),
]
GIVEN_BACK = (
    "\ufeffemail,name,born_on,credit,errors\r\n"
    'no address," ",31.12.1990,"12,5",'
    f"name: must not be empty; email: is no address; {NO_DAY}; {NO_AMOUNT}\r\n"
    'li@example.org,王芳,,,"lacks born_on, credit"\r\n'
    f'bo@example.org,"Bo\r\nJensen",1990-02-30,=1+1,{NO_DAY}; {NO_AMOUNT}\r\n'
).encode()

Upload = Callable[[bytes], str]


@pytest.fixture
def upload(tmp_path: Path) -> Upload:
    """Have a user upload a file; its path."""

    def upload(data: bytes) -> str:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.csv"
        path.write_bytes(data)
        return str(path)

    return upload


@pytest.fixture
def customers(shop_database: Path) -> Callable[[], list[Any]]:
    """All customers."""

    def customers() -> list[Any]:
        with closing(sqlite3.connect(shop_database)) as connection:
            return connection.execute("SELECT * FROM customers ORDER BY email").fetchall()

    return customers


@pytest.fixture
def forget(shop_database: Path) -> Callable[[], None]:
    """Remove all customers."""

    def forget() -> None:
        with closing(sqlite3.connect(shop_database)) as connection, connection:
            connection.execute("DELETE FROM customers")

    return forget


Customers = Callable[[], list[Any]]


def ledger(rows: pyqik.FailedRows) -> list[tuple[int, list[str]]]:
    return [(error.row, [str(message) for message in error.messages]) for error in rows.errors()]


def test_what_is_right_is_imported_and_the_rest_given_back(upload: Upload, customers: Customers) -> None:
    run = testing.perform(import_customers, upload(UPLOADED), FAILED).or_raise()

    assert customers() == CUSTOMERS
    assert ledger(run.rows) == LEDGER
    assert run.published == {FAILED: GIVEN_BACK}
    assert (run.rows.done_count, run.rows.failed_count) == (3, 3)
    assert (run.progress.done, run.progress.total, run.progress.note) == (6, 6, "3 imported, 3 failed")


def test_the_outcome_is_the_same_wherever_the_import_is_interrupted(
    upload: Upload, customers: Customers, forget: Callable[[], None]
) -> None:
    for run in testing.every_interruption(import_customers, upload(UPLOADED), FAILED, before=forget):
        assert customers() == CUSTOMERS, run.story
        assert ledger(run.rows) == LEDGER, run.story
        assert run.published == {FAILED: GIVEN_BACK}, run.story
        assert (run.rows.done_count, run.progress.done, run.progress.failed_rows) == (3, 6, 3), run.story


def test_a_deploy_costs_no_row(upload: Upload, customers: Customers, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    def upsert(row: Any) -> None:
        written.append(row["email"])
        csv_import_upsert(row)

    csv_import_upsert = csv_import.upsert
    monkeypatch.setattr(csv_import, "upsert", upsert)
    run = testing.perform(import_customers, upload(UPLOADED), FAILED, interrupt_after=4)

    assert ledger(run.rows) == LEDGER[:2]
    assert (run.published, run.progress.percent) == ({}, 400 / 6)
    assert run.again().published == {FAILED: GIVEN_BACK}
    assert written == ["zoe@example.org", "Ann@Example.org", "cy@example.org"]


def test_rows_that_come_twice_after_a_crash_count_once(upload: Upload, customers: Customers) -> None:
    run = testing.perform(import_customers, upload(UPLOADED), FAILED, crash_after=5, flush_after=1)
    assert (run.crashed, len(customers()), ledger(run.rows)) == (True, 2, [])

    run = run.again()
    assert (run.items, customers(), ledger(run.rows)) == (5, CUSTOMERS, LEDGER)
    assert run.published == {FAILED: GIVEN_BACK}


@pytest.mark.parametrize("email", ["zoe@example.org", "Ann@Example.org", "cy@example.org"])
def test_an_error_in_a_row_is_retried_from_that_row(
    upload: Upload, customers: Customers, monkeypatch: pytest.MonkeyPatch, email: str
) -> None:
    failures, upsert = [ConnectionError("the database is away")], csv_import.upsert

    def fail_once(row: Any) -> None:
        if row["email"] == email and failures:
            raise failures.pop()
        upsert(row)

    monkeypatch.setattr(csv_import, "upsert", fail_once)
    run = testing.perform(import_customers, upload(UPLOADED), FAILED)

    assert (run.failed, run.place, run.published) == (True, "retry", {})
    assert run.again().published == {FAILED: GIVEN_BACK}
    assert customers() == CUSTOMERS


def test_the_corrected_file_is_imported_again(upload: Upload, customers: Customers) -> None:
    """All columns come back, the messages too, of which the import takes no notice."""
    given_back = testing.perform(import_customers, upload(UPLOADED), FAILED).published[FAILED]
    first, second, third = csv.DictReader(io.StringIO(given_back.decode("utf-8-sig"), newline=""))
    first |= {"email": "di@example.org", "name": "Di", "born_on": "", "credit": "12.50"}
    second |= {"born_on": "1995-05-05", "credit": "0.50"}
    corrected = io.StringIO(newline="")
    writer = csv.DictWriter(corrected, list(first))
    writer.writeheader()
    writer.writerows([first, second, third])

    run = testing.perform(import_customers, upload(corrected.getvalue().encode()), FAILED).or_raise()

    new = [("di@example.org", "Di", None, 1250), ("li@example.org", "王芳", "1995-05-05", 50)]
    assert customers() == sorted([*CUSTOMERS, *new])
    assert ledger(run.rows) == [(4, LEDGER[2][1])]
    header, *_ = run.published[FAILED].decode().splitlines()
    assert header == "email,name,born_on,credit,errors,errors 2"


def test_the_same_file_imported_again_changes_nothing(upload: Upload, customers: Customers) -> None:
    for _ in range(2):
        run = testing.perform(import_customers, upload(UPLOADED), FAILED).or_raise()

        assert (customers(), run.published) == (CUSTOMERS, {FAILED: GIVEN_BACK})


@pytest.mark.parametrize("data", [b"email,name,born_on,credit\n", b"email,name,born_on,credit", b""])
def test_a_file_without_rows_is_imported(upload: Upload, data: bytes) -> None:
    run = testing.perform(import_customers, upload(data), FAILED).or_raise()

    assert (run.published, run.progress.total, run.progress.note) == ({}, 0, "0 imported, 0 failed")


def test_a_file_of_one_row(upload: Upload, customers: Customers) -> None:
    path = upload("email,name,born_on,credit\nzoe@example.org,Zoë,,1.00".encode())

    for run in testing.every_interruption(import_customers, path, FAILED):
        assert customers() == [("zoe@example.org", "Zoë", None, 100)], run.story
        assert (run.published, run.progress.note) == ({}, "1 imported, 0 failed"), run.story


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("email,name,born_on,credit\na@b.org,Zoë,,1.00\n".encode("cp1252"), id="no UTF-8"),
        pytest.param(b'email,name,born_on,credit\na@b.org,"Zoe,,1.00\n', id="a quote that is not closed"),
    ],
)
def test_what_cannot_be_read_waits_for_a_person_and_nothing_of_it_is_imported(
    upload: Upload, customers: Customers, data: bytes
) -> None:
    run = testing.perform(import_customers, upload(data), FAILED)

    assert (run.failed, run.place, customers(), run.published) == (True, "dead", [], {})
    assert run.progress.note.startswith("this file cannot be read: ")


def test_the_uploader_sees_how_far_it_is_and_what_is_wrong(
    redis_url: str, redis: redis_py.Redis, upload: Upload, tmp_path: Path
) -> None:
    failed = tmp_path / "given" / "failed.csv"
    with pyqik.Client(redis_url) as client:
        # As Rails does: Imports::Customers.perform_async(path, failed)
        jid = client.push("Imports::Customers", upload(UPLOADED), str(failed), queue="imports", retry=5)
        assert jid is not None
        assert (web.status(client, jid), web.problems(client, jid)) == ("waiting", [])

        assert run_queued(redis_url, ["imports"]) == ["job.done"]
        assert web.status(client, jid) == "done; 3 imported, 3 failed"
        assert web.problems(client, jid, limit=2) == [
            *(f"row 3: {message}" for message in LEDGER[0][1]),
            "row 4: lacks born_on, credit",
        ]
    assert failed.read_bytes() == GIVEN_BACK
    assert 0 < redis.ttl(f"errors/{jid}") <= 7 * 86_400
