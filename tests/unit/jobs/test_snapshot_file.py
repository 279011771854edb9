"""Files that are rewritten: a snapshot and the cursor are one write, and nothing says more than the last one has."""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import pyqik
from pyqik import enumerators, testing
from pyqik.core.errors import StoreError
from pyqik.jobs import rewritten_file
from pyqik.testing import performing, runs

ITEMS = list(range(6))
URL = "gs://exports/list.json"
WHOLE = json.dumps(ITEMS).encode()


def read(path: str) -> list[int]:
    found: list[int] = json.loads(Path(path).read_bytes())
    return found


@pyqik.job("Exports::List")
def rewrite() -> None:
    """It writes the whole file again for each item."""
    out = pyqik.file("list.json", snapshot=True)
    for item in pyqik.each(enumerators.array(ITEMS)):
        items = read(out.path) if out.size else []
        Path(out.path).write_text(json.dumps([*items, item]))
    out.publish(URL)


@pyqik.job("Exports::Gathered")
def gather() -> None:
    """It has everything in memory, and writes it when it is told to."""
    out = pyqik.file("list.json", snapshot=True)
    items = read(out.path) if out.size else []
    out.on_save(lambda: Path(out.path).write_text(json.dumps(items)))
    for item in pyqik.each(enumerators.array(ITEMS)):
        items.append(item)
    Path(out.path).write_text(json.dumps(items))
    out.publish(URL)


@pytest.mark.parametrize("piece", [1, 7, rewritten_file.PIECE])
@pytest.mark.parametrize("job", [rewrite, gather])
def test_it_is_the_same_wherever_the_job_was_interrupted(job: Any, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewritten_file, "PIECE", piece)
    runs = 0
    for run in testing.every_interruption(job):
        assert run.published == {URL: WHOLE}
        runs += 1
    assert runs > len(ITEMS)


def test_a_database_has_every_row_once_wherever_the_job_was_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewritten_file, "PIECE", 1000)

    @pyqik.job("Exports::Database")
    def export() -> None:
        out = pyqik.file("list.sqlite", snapshot=True)
        with closing(sqlite3.connect(out.path)) as database:
            out.on_save(database.commit)
            database.execute("CREATE TABLE IF NOT EXISTS items (item)")
            for item in pyqik.each(enumerators.array(ITEMS)):
                database.execute("INSERT INTO items VALUES (?)", (item,))
        out.publish(URL)

    for run in testing.every_interruption(export):
        assert rows_in(run.published[URL]) == ITEMS


def rows_in(data: bytes) -> list[int]:
    database = sqlite3.connect(":memory:")
    database.deserialize(data)
    found = [item for (item,) in database.execute("SELECT item FROM items ORDER BY rowid")]
    database.close()
    return found


def failing_at(item: int, *, once: bool = True) -> Any:
    fails = itertools.count()

    @pyqik.job("Exports::Failing")
    def failing() -> None:
        out = pyqik.file("list.json", snapshot=True)
        for each in pyqik.each(enumerators.array(ITEMS)):
            items = read(out.path) if out.size else []
            Path(out.path).write_text(json.dumps([*items, each]))
            pyqik.counters["done"] += 1
            if each == item and (next(fails) == 0 or not once):
                raise ConnectionError
        out.publish(URL)

    return failing


def test_an_error_goes_back_to_the_last_snapshot() -> None:
    run = testing.perform(failing_at(3))
    assert run.failed
    assert run.files == {}
    assert run.counters == {}

    run = run.again()
    assert run.completed
    assert run.published == {URL: WHOLE}
    assert run.counters == {"done": 6}


def test_an_error_at_the_item_after_a_snapshot_loses_nothing() -> None:
    fails = itertools.count()

    @pyqik.job("Exports::Each")
    def each() -> None:
        out = pyqik.file("list.json", snapshot=True)
        for item in pyqik.each(enumerators.array(ITEMS), flush_interval=0):
            items = read(out.path) if out.size else []
            Path(out.path).write_text(json.dumps([*items, item]))
            if item == 3 and next(fails) == 0:
                raise ConnectionError

    run = testing.perform(each)
    assert run.failed
    assert json.loads(run.files["list.json"]) == ITEMS[:3]
    run = run.again().or_raise()
    assert json.loads(run.files["list.json"]) == ITEMS


def test_the_safe_places_inside_of_an_item_take_no_snapshot() -> None:
    @pyqik.job("Exports::Slow")
    def slow() -> None:
        out = pyqik.file("list.json", snapshot=True)
        for item in pyqik.each(enumerators.array(ITEMS)):
            items = read(out.path) if out.size else []
            Path(out.path).write_text(json.dumps([*items, "half"]))
            pyqik.raise_if_stopping()
            Path(out.path).write_text(json.dumps([*items, item]))
        out.publish(URL)

    for run in testing.every_interruption(slow):
        assert run.published == {URL: WHOLE}


def test_what_is_written_before_the_end_of_an_item_is_refused() -> None:
    @pyqik.job("Exports::Durable")
    def durable() -> None:
        out = pyqik.file("list.json", snapshot=True)
        done = pyqik.processed("id", durable=True)
        for item in pyqik.each(enumerators.array(ITEMS)):
            Path(out.path).write_text("[]")
            done.add(item)

    run = testing.perform(durable)
    assert run.failed
    assert "snapshots" in str(run.error)


def test_only_blocks_that_have_changed_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewritten_file, "PIECE", 1000)

    @pyqik.job("Exports::Blocks")
    def blocks() -> None:
        out = pyqik.file("blocks", snapshot=True)
        if not out.size:
            Path(out.path).write_bytes(os.urandom(20_000))
        for item in pyqik.each(enumerators.array(ITEMS), flush_interval=0):
            with open(out.path, "r+b") as file:
                file.seek(item * 3000)
                file.write(os.urandom(10))

    run = testing.perform(blocks, interrupt_after=3)
    assert run._state.storage.store.received == 20_000 + 3 * 1000
    run = run.again()
    assert run.completed
    # That of a copy, which begins with what is there.
    assert run._state.storage.store.received == 3 * 1000


def test_another_attempt_to_publish_writes_the_same_bytes() -> None:
    """Those of a workbook differ each time: they hold the time at which it was made."""
    made = itertools.count()

    @pyqik.job("Exports::Stamped")
    def stamped() -> None:
        out = pyqik.file("stamped", snapshot=True)
        Path(out.path).write_text(f"made {next(made)}")
        out.publish(URL)

    @pyqik.job("Exports::Undisturbed")
    def undisturbed() -> None:
        stamped()

    asked: list[str] = []
    perform_with(undisturbed, lambda verb, name: asked.append(verb))
    assert asked.count("replace") == 1
    for at in range(len(asked)):
        for after in (False, True):
            run = perform_with(undisturbed, failing_call(at, after=after))
            while not run.completed:
                assert run.place == "retry"
                assert isinstance(run.error, StoreError)
                run = run.again()
            assert run.published[URL].startswith(b"made ")


def failing_call(at: int, *, after: bool) -> Callable[[str, str], None]:
    calls = itertools.count()

    def fault(verb: str, name: str) -> None:
        if next(calls) == at and verb != "get":
            raise StoreError("the store is down")

    return fault


def perform_with(job: Any, fault: Callable[[str, str], object]) -> testing.Run:
    trial = performing.trial_of(job, (), runs.Plan(), performing.current_config())
    trial.state.storage.store.fault = trial.state.storage.published.fault = fault
    return trial.here()


def test_a_file_that_was_removed_by_somebody_is_an_error_and_not_an_empty_file() -> None:
    removes = itertools.count()

    @pyqik.job("Exports::Removed")
    def removed() -> None:
        out = pyqik.file("list.json", snapshot=True)
        for item in pyqik.each(enumerators.array(ITEMS), flush_interval=0):
            items = read(out.path) if out.size else []
            Path(out.path).write_text(json.dumps([*items, item]))
            if item == 3 and next(removes) == 0:
                os.unlink(out.path)
        out.publish(URL)

    run = testing.perform(removed)
    assert run.failed
    assert "was removed by somebody" in str(run.error)
    assert run.again().published == {URL: WHOLE}


def test_a_job_that_never_looks_at_it_keeps_what_is_there() -> None:
    looks = iter([True, False, True])

    @pyqik.job("Exports::Looking")
    def looking() -> None:
        out = pyqik.file("a", snapshot=True)
        if next(looks):
            Path(out.path).write_text("abc") if not out.size else None
            assert Path(out.path).read_text() == "abc"
        for _ in pyqik.each(enumerators.array(ITEMS)):
            pass

    run = testing.perform(looking, interrupt_after=2)
    assert run.files == {"a": b"abc"}
    run = run.again(interrupt_after=2)
    assert run.files == {"a": b"abc"}
    assert run.again().files == {"a": b"abc"}


def test_it_is_one_kind_of_file_at_a_time() -> None:
    @pyqik.job("Exports::Both")
    def both() -> None:
        assert pyqik.file("a", snapshot=True) is pyqik.file("a", snapshot=True)
        with pytest.raises(pyqik.PyqikError, match="another mode"):
            pyqik.file("a")

    testing.perform(both).or_raise()


async def gathered() -> None:
    out = await pyqik.afile("list.json", snapshot=True)
    items = read(out.path) if out.size else []
    out.on_save(lambda: Path(out.path).write_text(json.dumps(items)))
    async for item in pyqik.each(enumerators.array(ITEMS)):
        items.append(item)
    Path(out.path).write_text(json.dumps(items))
    await out.apublish(URL)


def test_async_code_has_them_too() -> None:
    job = pyqik.job("Exports::Async")(gathered)
    for run in testing.every_interruption(job):
        assert run.published == {URL: WHOLE}
