"""A short export that is begun anew: its file is there as a whole or not at all, and nothing else is left of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from shop import database
from shop.short_export import export_sales_by_day
from sqlalchemy import Connection, event

import pyqik
from pyqik import testing

Place = Callable[[int, str, str, list[tuple[str, int, int]]], None]

NOVEMBER = ("2026-11-01", "2026-11-04")
WHOLE = (
    "day,product,quantity,cents\r\n"
    "2026-11-01,Kaffee,3,2697\r\n"
    '2026-11-01,"Tee ""grün"",\nlose",2,900\r\n'
    "2026-11-03,Käse 🧀,1,1250\r\n"
    "2026-11-04,Kaffee,1,899\r\n"
).encode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is to be, in a directory of its own."""
    (tmp_path / "exports").mkdir()
    return tmp_path / "exports" / "november.csv"


@pytest.fixture
def orders(place: Place) -> None:
    """Four days, one of them without an order."""
    place(7, "2026-11-01", "Zoë", [("Kaffee", 1, 899), ('Tee "grün",\nlose', 2, 450)])
    place(8, "2026-11-01", "Jürgen", [("Kaffee", 2, 899)])
    place(7, "2026-11-03", "王芳", [("Käse 🧀", 1, 1250)])
    place(7, "2026-11-04", "Zoë", [("Kaffee", 1, 899)])
    place(7, "2026-11-05", "Zoë", [("of another month", 1, 1)])


@pytest.mark.usefixtures("orders")
def test_what_was_sold_stands_in_the_file(path: Path) -> None:
    assert testing.perform(export_sales_by_day, *NOVEMBER, str(path)).completed

    assert path.read_bytes() == WHOLE


@pytest.mark.usefixtures("orders")
def test_the_file_is_the_same_wherever_the_export_is_interrupted(path: Path) -> None:
    told = []

    def check_each_story() -> None:
        forget = partial(path.unlink, missing_ok=True)
        for run in testing.every_interruption(export_sales_by_day, *NOVEMBER, str(path), before=forget, most_runs=10):
            assert path.read_bytes() == WHOLE, run.story
            assert list(path.parent.iterdir()) == [path], run.story
            told.append(run.story)

    # What is begun anew is never done if every run of it is stopped: the one story that does not end well.
    with pytest.raises(pyqik.PyqikError, match="does not get on: stopped after every item"):
        check_each_story()
    assert {"stopped after 3 items", "killed after 3 items"} <= set(told)


@pytest.mark.usefixtures("orders")
def test_nothing_is_to_be_seen_of_a_run_that_was_interrupted(path: Path) -> None:
    run = testing.perform(export_sales_by_day, *NOVEMBER, str(path), interrupt_after=2)

    assert (run.interrupted, run.place, run.cursor) == (True, "front", None)
    assert list(path.parent.iterdir()) == []
    assert run.again().completed
    assert path.read_bytes() == WHOLE


@pytest.mark.usefixtures("orders")
def test_a_file_of_an_earlier_export_stays_until_the_new_one_is_whole(path: Path, place: Place) -> None:
    testing.perform(export_sales_by_day, *NOVEMBER, str(path)).or_raise()
    place(7, "2026-11-02", "Ann", [("Brot", 1, 420)])

    run = testing.perform(export_sales_by_day, *NOVEMBER, str(path), crash_after=3)
    assert path.read_bytes() == WHOLE
    run.again().or_raise()
    assert b"2026-11-02,Brot,1,420" in path.read_bytes()


@pytest.mark.usefixtures("orders")
def test_an_error_in_the_middle_is_retried_from_the_beginning(path: Path) -> None:
    def fail_on_the_third(
        connection: Connection, cursor: object, statement: str, parameters: object, *_: object
    ) -> None:
        if "2026-11-03" in str(parameters) and failing:
            raise ConnectionError(failing.pop())

    failing = ["the database is away"]
    event.listen(database.engine, "before_cursor_execute", fail_on_the_third)
    run = testing.perform(export_sales_by_day, *NOVEMBER, str(path))

    assert (run.failed, run.place, str(run.error)) == (True, "retry", "the database is away")
    assert list(path.parent.iterdir()) == []
    assert run.again().completed
    assert path.read_bytes() == WHOLE


def test_an_export_of_nothing_has_a_header(path: Path) -> None:
    testing.perform(export_sales_by_day, *NOVEMBER, str(path)).or_raise()

    assert path.read_bytes() == b"day,product,quantity,cents\r\n"


def test_an_export_of_one_row(path: Path, place: Place) -> None:
    place(7, "2026-11-01", "Zoë", [("Kaffee", 1, 899)])

    testing.perform(export_sales_by_day, "2026-11-01", "2026-11-01", str(path)).or_raise()

    assert path.read_bytes() == b"day,product,quantity,cents\r\n2026-11-01,Kaffee,1,899\r\n"
