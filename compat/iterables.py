"""Long jobs that Ruby knows under the same names (compat/ruby/iterables.rb), so that either side can go on with one.

What they do stands in the list `ledger:<jid>`, as [language, what, value] in JSON. At each item they write it down and
wait for a word in the list `gate:<jid>`: "go", or "fail". The number of items that runs in Python have counted is in
`counted:<jid>` at the end.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

import pyqik
from compat.jobs import shared_redis
from pyqik import enumerators


def write(what: str, value: object = None) -> None:
    """Add an entry to the ledger."""
    shared_redis().rpush(f"ledger:{pyqik.current().jid}", json.dumps(["python", what, value]))


def heard() -> bytes:
    """The next word at the gate."""
    while True:
        said: Any = shared_redis().blpop([f"gate:{pyqik.current().jid}"], timeout=0.2)
        if said:
            word: bytes = said[1]
            return word


class Gated(pyqik.IterableJob, abstract=True):
    """What the jobs have in common."""

    def each_iteration(self, item: Any, source: Any) -> None:
        pyqik.counters["items"] += 1
        write("item", self.shown(item))
        if heard() == b"fail":
            raise ValueError("told to fail")

    def on_start(self) -> None:
        write("on_start")

    def on_resume(self) -> None:
        write("on_resume")

    def on_stop(self) -> None:
        write("on_stop")

    def on_cancel(self) -> None:
        write("on_cancel")

    def on_complete(self) -> None:
        write("on_complete")
        shared_redis().set(f"counted:{pyqik.current().jid}", pyqik.counters["items"])

    def shown(self, item: Any) -> Any:
        """An item as it is written down."""
        return item


class Numbers(Gated, name="Long::Numbers"):
    """Goes over its argument."""

    def build_enumerator(self, source: list[Any], *, cursor: int | None) -> pyqik.Source[Any, int]:
        return enumerators.array(source)


@pyqik.job("Long::Loop", queue="long")
def loop(source: list[Any]) -> None:
    """The same as a loop in a function, which has no callbacks; in Ruby it is a class as the others."""
    for item in pyqik.each(enumerators.array(source)):
        write("item", item)
        heard()
    write("on_complete")


class Rows(Gated, name="Long::Rows"):
    """Goes over a CSV file."""

    def build_enumerator(self, source: str, *, cursor: int | None) -> pyqik.Source[Any, int]:
        return enumerators.csv_rows(source)

    def shown(self, item: Mapping[str, str]) -> list[str]:
        return list(item.values())


class Batches(Gated, name="Long::Batches"):
    """Goes over a CSV file by twos."""

    def build_enumerator(self, source: str, *, cursor: int | None) -> pyqik.Source[Any, int]:
        return enumerators.csv_batches(source, size=2)

    def shown(self, item: list[Mapping[str, str]]) -> list[list[str]]:
        return [list(row.values()) for row in item]


class Records(Gated, name="Long::Records"):
    """Goes over a table in SQLite by its number, two rows a query."""

    def build_enumerator(self, source: str, *, cursor: int | None) -> pyqik.Source[Any, Any]:
        return enumerators.sql_rows(lambda: sqlite3.connect(source), "SELECT id, name FROM products", batch=2)

    def shown(self, item: Mapping[str, Any]) -> list[Any]:
        return list(item.values())


class RecordBatches(Gated, name="Long::RecordBatches"):
    """Goes over a table in SQLite by its code, which is text, by twos."""

    def build_enumerator(self, source: str, *, cursor: str | None) -> pyqik.Source[Any, Any]:
        query = "SELECT code, name FROM places"
        return enumerators.sql_batches(lambda: sqlite3.connect(source), query, key="code", size=2)

    def shown(self, item: list[Mapping[str, Any]]) -> list[list[Any]]:
        return [list(place.values()) for place in item]
