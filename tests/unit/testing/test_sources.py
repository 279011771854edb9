"""`testing.every_interruption` with all that a loop can go over: whatever the source, nothing is left out."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import pyqik
from pyqik import enumerators, testing
from pyqik.core.errors import InvalidCursor

#: Makes a source, or what else `each` takes, in a directory that has the files.
Makes = Callable[[Path], Any]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A table of five numbers, as a CSV file and as a database."""
    (tmp_path / "numbers.csv").write_text("number\n1\n2\n3\n4\n5\n", "utf-8")
    with closing(sqlite3.connect(tmp_path / "numbers.db")) as connection, connection:
        connection.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY)")
        connection.execute("CREATE TABLE effects (number INTEGER)")
        connection.executemany("INSERT INTO numbers VALUES (?)", [(number,) for number in range(1, 6)])
    return tmp_path


def database(files: Path) -> Callable[[], sqlite3.Connection]:
    return lambda: sqlite3.connect(files / "numbers.db")


def array(files: Path) -> Any:
    return enumerators.array([1, 2, 3, 4, 5])


def generator(files: Path) -> Any:
    def opened(cursor: int | None) -> Iterator[tuple[int, int]]:
        for number in range(cursor or 1, 6):
            yield number, number

    return opened


def async_generator(files: Path) -> Any:
    async def opened(cursor: int | None) -> AsyncIterator[tuple[int, int]]:
        for number in range(cursor or 1, 6):
            await asyncio.sleep(0)
            yield number, number

    return opened


def csv_rows(files: Path) -> Any:
    return enumerators.csv_rows(str(files / "numbers.csv"))


def csv_batches(files: Path) -> Any:
    return enumerators.csv_batches(str(files / "numbers.csv"), size=2)


def sql_rows(files: Path) -> Any:
    return enumerators.sql_rows(database(files), "SELECT number FROM numbers", key="number", batch=2)


def sql_batches(files: Path) -> Any:
    return enumerators.sql_batches(database(files), "SELECT number FROM numbers", key="number", size=2)


def nested(files: Path) -> Any:
    return enumerators.nested(enumerators.array([1, 3]), lambda first: enumerators.array(range(first, first + 2)))


def chunked(files: Path) -> Any:
    return enumerators.chunked(csv_rows(files), 2)


def limited(files: Path) -> Any:
    return enumerators.limit(sql_rows(files), when=lambda: False)


SOURCES: list[Makes] = [
    *(array, generator, csv_rows, csv_batches, sql_rows, sql_batches, nested, chunked, limited),
]
each_source = pytest.mark.parametrize("makes", SOURCES, ids=lambda makes: makes.__name__)


def plain_job(makes: Makes, files: Path, done: list[Any]) -> testing.Performable:
    @pyqik.job("Sources::Plain")
    def plain() -> None:
        for item in pyqik.each(makes(files)):
            done.append(item)

    return plain


def async_job(makes: Makes, files: Path, done: list[Any]) -> testing.Performable:
    @pyqik.job("Sources::Async")
    async def asynchronous() -> None:
        async for item in pyqik.each(makes(files)):
            done.append(item)

    return asynchronous


def class_job(makes: Makes, files: Path, done: list[Any]) -> testing.Performable:
    class Plain(pyqik.IterableJob, name="Sources::Class"):
        def build_enumerator(self, *, cursor: Any) -> Any:
            source = makes(files)
            return source if isinstance(source, pyqik.Source) else source(cursor)

        def each_iteration(self, item: Any) -> None:
            done.append(item)

    return Plain


def without_repetitions(items: list[Any]) -> list[Any]:
    return [item for index, item in enumerate(items) if item not in items[:index]]


def wrong(job: testing.Performable, done: list[Any]) -> list[tuple[str, list[Any]]]:
    """The stories in which not just that was done, in this order, what is done by a job that is left alone."""
    testing.perform(job).or_raise()
    whole = done.copy()
    runs = testing.every_interruption(job, before=done.clear)
    told = [(run.story, done.copy()) for run in runs]

    assert len(told) > len(whole) > 2
    return [
        (story, items)
        for story, items in told
        if without_repetitions(items) != whole or ("stopped" in story and items != whole)
    ]


@each_source
@pytest.mark.parametrize("declare", [plain_job, async_job, class_job])
def test_nothing_is_left_out_and_a_stop_repeats_nothing(
    declare: Callable[..., testing.Performable], makes: Makes, files: Path, done: list[Any]
) -> None:
    assert wrong(declare(makes, files, done), done) == []


def test_asynchronous_generators_are_sources_too(files: Path, done: list[Any]) -> None:
    assert wrong(async_job(async_generator, files, done), done) == []


def test_what_is_done_exactly_once_is_done_once_after_a_crash_too(files: Path) -> None:
    @pyqik.job
    def writes() -> None:
        with closing(database(files)()) as connection:
            once = enumerators.exactly_once(csv_rows(files), connection, create=True)
            for row in pyqik.each(once):
                connection.execute("INSERT INTO effects VALUES (?)", (row["number"],))

    def effects(query: str) -> list[Any]:
        with closing(database(files)()) as connection, connection:
            return [number for (number,) in connection.execute(query)]

    runs = testing.every_interruption(writes, before=lambda: effects("DELETE FROM effects"))
    told = {run.story: effects("SELECT number FROM effects ORDER BY rowid") for run in runs}

    assert len(told) > 10
    assert {story: items for story, items in told.items() if items != [1, 2, 3, 4, 5]} == {}


def test_a_cursor_in_the_database_that_the_codec_cannot_read_is_named(files: Path) -> None:
    class Numbers(pyqik.Source[int, Any]):
        def open(self, cursor: Any = None) -> Iterator[tuple[int, Any]]:
            return ((number, number) for number in range(cursor or 0, 5))

    numbers = Numbers()

    @pyqik.job
    def writes() -> None:
        with closing(database(files)()) as connection:
            for _ in pyqik.each(enumerators.exactly_once(numbers, connection, create=True)):
                pass

    killed = testing.perform(writes, crash_after=3)
    numbers.codec = enumerators.DATE

    with pytest.raises(InvalidCursor, match="the saved cursor 3 does not fit its codec"):
        killed.again().or_raise()
