"""The application of the use cases, with a database of its own for each test."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

import pytest
from sqlalchemy import create_engine

from pyqik.jobs.registry import registry

HERE = Path(__file__).parent
# As `pyqik work` does it with the directory that it is started in.
sys.path.insert(0, str(HERE))

# The jobs are there in these tests only: others ask for all that are registered in their process.
with registry.restored():
    from shop import csv_import, database, long_export, short_export

#: Place an order: shop, day, customer, and lines of product, quantity and cents.
Place: TypeAlias = Callable[[int, str, str, list[tuple[str, int, int]]], None]


@pytest.fixture(autouse=True)
def jobs() -> None:
    """As `-r shop.short_export -r shop.long_export -r shop.csv_import` has them."""
    for job in (short_export.export_sales_by_day, long_export.export_order_lines, csv_import.import_customers):
        registry.register(job.definition)


@pytest.fixture(autouse=True)
def shop_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty database, as Rails has made it."""
    path = tmp_path / "shop.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((HERE / "structure.sql").read_text("utf-8"))
    monkeypatch.setattr(database, "engine", create_engine(f"sqlite:///{path}"))
    yield path
    database.engine.dispose()


@pytest.fixture
def place(shop_database: Path) -> Place:
    """See `Place`."""

    def place(shop: int, day: str, customer: str, lines: list[tuple[str, int, int]]) -> None:
        with closing(sqlite3.connect(shop_database)) as connection, connection:
            insert = "INSERT INTO orders (shop_id, placed_on, customer) VALUES (?, ?, ?)"
            order = connection.execute(insert, (shop, day, customer)).lastrowid
            numbered = [(order, position, *line) for position, line in enumerate(lines)]
            connection.executemany("INSERT INTO order_lines VALUES (?, ?, ?, ?, ?)", numbered)

    return place
