"""The guide's examples of progress, rows and files, as they stand there."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pyqik
from pyqik import enumerators, testing

deleted: list[str] = []
customers: list[str] = []
sent: list[bytes] = []


def delete(item_id: str) -> None:
    deleted.append(item_id)


def problems(row: Any) -> list[str]:
    return [] if "@" in row["email"] else ["the address has no @"]


def upsert_customer(row: Any) -> None:
    if row["email"] not in customers:
        customers.append(row["email"])


def send_back(text: bytes) -> None:
    sent.append(text)


def total_of(order_id: int) -> int:
    return order_id * 10


@pyqik.job("Items::PurgeAll")
def purge(ids: list[str]) -> None:
    done = pyqik.processed("item_id")
    for item_id in ids:
        pyqik.raise_if_stopping()
        if item_id not in done:
            delete(item_id)
            done.add(item_id)


@pyqik.job("Customers::ImportAll")
def import_customers(path: str) -> None:
    rows = pyqik.rows()
    for row in pyqik.each(enumerators.csv_rows(path)):
        errors = problems(row)
        if errors:
            rows.fail(*errors)
        else:
            upsert_customer(row)
    if rows.failed_count:
        send_back(rows.failed_csv().read())


@pyqik.job("Exports::AllOrders")
def export_orders(order_ids: list[int], path: str) -> None:
    pyqik.progress.total = len(order_ids)
    pyqik.progress.note = "writing the orders"
    out = pyqik.file("orders.csv")
    for order_id in pyqik.each(enumerators.array(order_ids)):
        csv.writer(out).writerow([order_id, total_of(order_id)])
    out.publish(path)


def test_processed_ids_are_done_once_after_each_stop() -> None:
    for run in testing.every_interruption(purge, ["a", "b", "c"], before=deleted.clear):
        assert sorted(set(deleted)) == ["a", "b", "c"], run.story
        assert "killed" in run.story or deleted == ["a", "b", "c"], run.story


def test_the_failed_rows_are_the_same_wherever_the_import_is_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "customers.csv"
    path.write_bytes(b'email;name\r\na@b;"A ""B"""\r\nno;"C\r\nD"\r\nc@d;E\r\n')
    path.write_bytes(path.read_bytes().replace(b";", b","))

    def begin() -> None:
        customers.clear()
        sent.clear()

    for run in testing.every_interruption(import_customers, str(path), before=begin):
        assert customers == ["a@b", "c@d"], run.story
        assert sent[-1] == b'email,name,errors\r\nno,"C\r\nD",the address has no @\r\n', run.story
        assert [(error.row, str(error.messages[0])) for error in run.rows.errors()] == [(3, "the address has no @")]


def test_the_file_is_the_same_wherever_the_export_is_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    for run in testing.every_interruption(
        export_orders, [1, 2, 3], str(path), before=lambda: path.unlink(missing_ok=True)
    ):
        assert path.read_text() == "1,10\n2,20\n3,30\n", run.story
        assert (run.progress.done, run.progress.total, run.progress.percent) == (3, 3, 100.0), run.story
