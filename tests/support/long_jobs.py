"""Long jobs for process tests. What each item does is written into a ledger in Redis that knows no cursors."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing

import redis as redis_py

import pyqik
from pyqik import enumerators

ledger = redis_py.Redis.from_url(os.environ["LEDGER"])
#: Seconds that one item takes.
PACE = 0.002

HELD: list[bytearray] = []


def do(item: object) -> None:
    """Write `item` down."""
    ledger.rpush("ledger", str(item))
    threading.Event().wait(PACE)


@pyqik.job("Long::Loop")
def loop(count: int) -> None:
    """A loop in a plain function."""
    for item in pyqik.each(enumerators.array(list(range(count)))):
        do(item)
    ledger.incr("completed")


@pyqik.job("Long::Safe")
def safe(count: int) -> None:
    """The same, with each item safe before the next begins."""
    for item in pyqik.each(enumerators.array(list(range(count))), flush_interval=0):
        do(item)
    ledger.incr("completed")


@pyqik.job("Long::LoopOnLoop")
async def loop_on_loop(count: int) -> None:
    """The same on the event loop."""
    async for item in pyqik.each(enumerators.array(list(range(count)))):
        do(item)
    ledger.incr("completed")


class Callbacks(pyqik.IterableJob, name="Long::Callbacks"):
    """Writes its callbacks down, too."""

    def build_enumerator(self, count: int, *, cursor: int | None) -> Iterator[tuple[int, int]]:
        return ((number, number) for number in range(cursor or 0, count))

    def each_iteration(self, item: int, count: int) -> None:
        do(item)

    def on_start(self) -> None:
        ledger.rpush("callbacks", "on_start")

    def on_resume(self) -> None:
        ledger.rpush("callbacks", "on_resume")

    def on_stop(self) -> None:
        ledger.rpush("callbacks", "on_stop")

    def on_complete(self) -> None:
        ledger.rpush("callbacks", "on_complete")
        ledger.incr("completed")


@pyqik.job("Long::Steps")
def steps(count: int) -> None:
    """Two steps, the second with a loop and counters."""
    with pyqik.step("first") as step:
        for item in range(step.resume(0), count):
            do(f"first {item}")
            step.checkpoint(item + 1)
    with pyqik.step("second"):
        for item in pyqik.each(enumerators.array(list(range(count)))):
            do(f"second {item}")
            pyqik.counters["done"] += 1
        ledger.set("counted", pyqik.counters["done"])
    ledger.incr("completed")


@pyqik.job("Long::Post")
def post(count: int) -> None:
    """Adds one for each item to a total in SQLite, exactly once; and writes each attempt into the ledger."""
    with closing(sqlite3.connect(os.environ["BOOKS"])) as books:
        books.execute("PRAGMA synchronous = OFF")  # It is the process that is killed, not the machine.
        numbers = enumerators.array(list(range(count)))
        for item in pyqik.each(enumerators.exactly_once(numbers, books, create=True), flush_interval=0.05):
            books.execute("UPDATE total SET amount = amount + ?", (item,))
            books.execute("INSERT INTO posted (item) VALUES (?)", (item,))
            do(item)
    ledger.incr("completed")


@pyqik.job("Long::Grows")
def grows(count: int) -> None:
    """Needs more and more memory, and keeps it when it is interrupted."""
    for item in pyqik.each(enumerators.array(list(range(count)))):
        HELD.append(b"x" * 10_000_000)
        do(item)
        threading.Event().wait(0.05)
    ledger.incr("completed")


@pyqik.job("Long::SlowItem")
def slow_item(seconds: float) -> None:
    """One item that takes long, and can be cut off."""
    for _ in pyqik.each(enumerators.array([1])):
        ledger.rpush("ledger", "begun")
        for _ in range(int(seconds * 100)):
            threading.Event().wait(0.01)
    ledger.incr("completed")


@pyqik.job("Long::Import")
def import_rows(count: int) -> None:
    """Everything that is kept beside the cursor: failed rows, a file, progress, processed ids."""
    pyqik.progress.total = count
    rows, seen = pyqik.rows(), pyqik.processed("row")
    out = pyqik.file("good.csv")
    for row in pyqik.each(enumerators.csv_rows(os.environ["TABLE"])):
        number = int(row["number"])
        seen.add(number)
        if number % 7 == 0:
            rows.fail("seven", field="number")
            rows.fail("again")
        else:
            out.write(f"{number},{'x' * 100}\n")
        do(number)
    assert len(seen) == count
    out.publish(os.environ["EXPORT"])
    ledger.incr("completed")
