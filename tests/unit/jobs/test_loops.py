"""`pyqik.each`: which items a loop does, where it was, and what it refuses."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from structlog.testing import capture_logs

import pyqik
from pyqik import enumerators
from pyqik.core.errors import Cancelled, Interrupted, InvalidCursor, PyqikError, Shutdown
from tests.unit.jobs.kept import Kept

ITEMS = [10, 11, 12, 13, 14]


def over(done: list[Any], **options: Any) -> Any:
    def job() -> None:
        for item in pyqik.each(enumerators.array(ITEMS), **options):
            done.append(item)

    return job


def over_async(done: list[Any], **options: Any) -> Any:
    async def job() -> None:
        async for item in pyqik.each(enumerators.array(ITEMS), **options):
            done.append(item)

    return job


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4])
def test_a_loop_goes_on_at_the_item_that_comes_next(stop_after: int) -> None:
    kept, done = Kept(), list[Any]()

    ended = kept.run(over(done), stop_after=stop_after)

    assert isinstance(ended, Interrupted)
    assert kept.texts["c"] == str(stop_after)
    assert kept.run(over(done)) is None
    assert done == ITEMS


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4])
def test_an_async_loop_goes_on_at_the_item_that_comes_next(stop_after: int) -> None:
    kept, done = Kept(), list[Any]()

    ended = kept.run_async(over_async(done), stop_after=stop_after)

    assert isinstance(ended, Interrupted)
    assert kept.texts["c"] == str(stop_after)
    assert kept.run_async(over_async(done)) is None
    assert done == ITEMS


def test_a_run_that_is_told_to_stop_from_the_start_does_one_item() -> None:
    kept, done = Kept(), list[Any]()

    while kept.run(over(done), stop_after=0) is not None:
        pass

    assert done == ITEMS
    assert kept.last_run is not None
    assert kept.last_run.executions == 5


def test_outside_of_a_job_it_is_a_plain_loop() -> None:
    done: list[Any] = []
    over(done)()

    assert done == ITEMS


def test_the_end_of_a_loop_is_written_before_the_job_goes_on() -> None:
    kept, done = Kept(), list[Any]()

    def job() -> None:
        over(done)()
        raise ValueError

    assert isinstance(kept.run(job), ValueError)
    assert isinstance(kept.run(job), ValueError)

    assert done == ITEMS
    assert json.loads(kept.texts["loops"]) == {"": {"cursor": 4, "done": True}}


@pytest.mark.parametrize("leave", ["break", "return"])
def test_a_loop_that_is_left_is_at_its_end(leave: str) -> None:
    kept, done = Kept(), list[Any]()

    def first() -> None:
        for item in pyqik.each(enumerators.array(ITEMS)):
            done.append(item)
            if item == 12:
                if leave == "break":
                    break
                return

    def job() -> None:
        first()
        raise ValueError

    assert isinstance(kept.run(job), ValueError)
    assert isinstance(kept.run(job), ValueError)

    assert done == [10, 11, 12]


def test_an_async_loop_that_is_left_is_at_its_end() -> None:
    kept, done = Kept(), list[Any]()

    async def job() -> None:
        async for item in pyqik.each(enumerators.array(ITEMS)):
            done.append(item)
            if item == 12:
                break
        raise ValueError

    assert isinstance(kept.run_async(job), ValueError)
    assert isinstance(kept.run_async(job), ValueError)

    assert done == [10, 11, 12]


def test_a_loop_that_an_error_leaves_is_not() -> None:
    kept, done = Kept(), list[Any]()

    def job() -> None:
        for item in pyqik.each(enumerators.array(ITEMS)):
            if item == 12 and len(done) == 2:
                raise ValueError
            done.append(item)

    def fails_twice() -> None:
        job()

    assert isinstance(kept.run(fails_twice), ValueError)
    assert kept.texts["c"] == "2"

    done.append("again")
    assert kept.run(fails_twice) is None
    assert done == [10, 11, "again", 12, 13, 14]


def test_a_loop_whose_error_the_job_has_caught_is_at_its_end() -> None:
    kept, done = Kept(), list[Any]()

    def job() -> None:
        with contextlib.suppress(ValueError):
            for item in pyqik.each(enumerators.array(ITEMS), name="first"):
                done.append(item)
                if item == 12:
                    raise ValueError
        for item in pyqik.each(enumerators.array(ITEMS), name="second"):
            done.append(item)

    kept.run(job, stop_after=4)
    kept.run(job)

    assert done == [10, 11, 12, *ITEMS]


def test_except_exception_around_an_item_swallows_no_interruption() -> None:
    kept, done = Kept(), list[Any]()

    def job() -> None:
        for item in pyqik.each(enumerators.array(ITEMS)):
            try:
                done.append(item)
            except Exception:
                done.append("swallowed")

    assert isinstance(kept.run(job, stop_after=2), Interrupted)
    assert done == [10, 11]


def test_several_loops_have_names() -> None:
    kept, done = Kept(), list[Any]()

    def job() -> None:
        over(done, name="first")()
        over(done, name="second")()

    assert isinstance(kept.run(job, stop_after=7), Interrupted)
    assert kept.texts["c"] == '{"second":2}'
    assert kept.run(job) is None
    assert done == ITEMS + ITEMS


@pytest.mark.parametrize("name", ["", "rows"])
def test_two_loops_of_one_name_are_refused(name: str) -> None:
    kept, done = Kept(), list[Any]()

    def job() -> None:
        over(done, name=name)()
        over(done, name=name)()

    ended = kept.run(job)

    assert isinstance(ended, PyqikError)
    assert "give each of them a name= of its own" in str(ended)


def test_an_item_that_was_done_is_left_out_if_its_source_failed_after_it() -> None:
    kept, done = Kept(), list[Any]()

    class Fragile(enumerators.array(ITEMS).__class__):  # type: ignore[misc]  # the class is private
        def open(self, cursor: int | None = None) -> Iterator[tuple[int, int]]:
            for item, index in super().open(cursor):
                if index == 2 and len(done) == 2 and "again" not in done:
                    raise ConnectionError
                yield item, index

    def job() -> None:
        for item in pyqik.each(Fragile(ITEMS)):
            done.append(item)

    assert isinstance(kept.run(job), ConnectionError)
    assert json.loads(kept.texts["loops"]) == {"": {"cursor": 1, "behind": True}}

    done.append("again")
    assert kept.run(job) is None
    assert done == [10, 11, "again", 12, 13, 14]


def test_a_batch_is_done_again_if_its_source_failed_after_it() -> None:
    """It may be made of other items by then."""
    kept, done = Kept(), list[Any]()

    def pairs(cursor: int | None) -> Iterator[tuple[list[int], int]]:
        for index in range(cursor or 0, 3):
            if index == 2 and "again" not in done:
                raise ConnectionError
            yield [index, index], index

    def job() -> None:
        for item in pyqik.each(pairs):
            done.append(item)

    assert isinstance(kept.run(job), ConnectionError)
    done.append("again")
    kept.run(job)

    assert done == [[0, 0], [1, 1], "again", [1, 1], [2, 2]]


def test_a_cursor_that_ruby_has_moved_counts() -> None:
    kept, done = Kept(), list[Any]()

    def fails(cursor: int | None) -> Iterator[tuple[int, int]]:
        yield 10, 0
        raise ConnectionError

    def job() -> None:
        for _ in pyqik.each(fails):
            pass

    kept.run(job)
    kept.hash[b"c"] = b"3"

    assert kept.run(over(done)) is None
    assert done == [13, 14]


@pytest.mark.parametrize(
    ("cursor", "named"),
    [
        (date(2027, 1, 1), "datetime.date"),
        (Decimal("1.5"), "decimal.Decimal"),
        ((1, 2), "tuple"),
        (b"x", "bytes"),
        (float("nan"), "nan"),
        ({1: 2}, "keys are strings"),
        (None, "None"),
        ("\ud800", "surrogate"),
    ],
    ids=str,
)
def test_a_cursor_that_json_does_not_hold_is_refused_at_the_first_item(cursor: Any, named: str) -> None:
    kept, done = Kept(), list[Any]()

    def pairs(saved: Any) -> Iterator[tuple[int, Any]]:
        yield 1, cursor

    def job() -> None:
        for item in pyqik.each(pairs):
            done.append(item)

    ended = kept.run(job)

    assert isinstance(ended, InvalidCursor)
    assert named in str(ended)
    assert done == []


@pytest.mark.parametrize("cursor", [7, 2**70, -1, 1.5, "text", [1, "a", None], {"a": [1]}, True])
def test_a_cursor_comes_back_as_it_was(cursor: Any) -> None:
    kept, opened_at = Kept(), list[Any]()

    def pairs(saved: Any) -> Iterator[tuple[int, Any]]:
        opened_at.append(saved)
        yield 1, "first"
        yield 2, cursor

    def job() -> None:
        for _ in pyqik.each(pairs):
            pass

    kept.run(job, stop_after=1)
    kept.run(job)

    assert opened_at == [None, cursor]
    assert type(opened_at[1]) is type(cursor)


def test_a_codec_writes_what_json_does_not_hold() -> None:
    kept, done = Kept(), list[Any]()

    def days(saved: date | None) -> Iterator[tuple[date, date]]:
        for day in range((saved or date(2027, 1, 1)).day, 5):
            yield date(2027, 1, day), date(2027, 1, day)

    def job() -> None:
        for item in pyqik.each(days, codec=enumerators.DATE):
            done.append(item.day)

    kept.run(job, stop_after=2)

    assert kept.texts["c"] == '"2027-01-03"'
    assert kept.run(job) is None
    assert done == [1, 2, 3, 4]


def test_a_cursor_of_another_version_is_migrated_or_refused() -> None:
    kept, done = Kept(), list[Any]()
    kept.run(over(done), stop_after=2)

    refused = kept.run(over(done, version=2))

    assert isinstance(refused, InvalidCursor)
    assert "version 0" in str(refused)
    assert kept.texts["c"] == "2"

    def migrate(cursor: Any, version: int) -> Any:
        assert (cursor, version) == (2, 0)
        return 4

    kept.run(over(done, version=2, migrate=migrate), stop_after=1)
    assert done == [10, 11, 14]


def test_a_migration_may_begin_anew() -> None:
    kept, done = Kept(), list[Any]()
    kept.run(over(done), stop_after=2)
    kept.run(over(done, version=1, migrate=lambda cursor, version: None))

    assert done == [10, 11, *ITEMS]


def test_each_item_is_written_if_that_is_asked_for() -> None:
    kept, done = Kept(), list[Any]()
    kept.run(over(done, flush_interval=0))

    assert [write["c"] for write in kept.writes] == ["0", "1", "2", "3", "4", "4"]


def test_a_cancelled_job_ends_at_the_next_item() -> None:
    kept, done = Kept(cancelled="1795320000"), list[Any]()

    assert isinstance(kept.run(over(done)), Cancelled)
    assert done == []


@pytest.mark.parametrize("run", ["plain", "async"])
def test_a_job_that_is_somebody_elses_ends_at_once(run: str) -> None:
    kept, done = Kept(), list[Any]()
    kept.verdict = "lost"

    ended = kept.run(over(done)) if run == "plain" else kept.run_async(over_async(done))

    assert isinstance(ended, Shutdown)
    assert done == []


def test_a_state_that_is_no_state_is_named() -> None:
    kept, done = Kept(ex="1", c="{nonsense", rt="0"), list[Any]()
    ended = kept.run(over(done))

    assert isinstance(ended, InvalidCursor)
    assert "it-aaaaaaaaaaaaaaaaaaaaaaaa" in str(ended)


def test_a_generator_is_refused_as_it_cannot_be_opened_in_the_middle() -> None:
    with pytest.raises(PyqikError, match="give it the function itself"):
        pyqik.each((x, x) for x in ITEMS)  # type: ignore[arg-type]


@pytest.mark.parametrize("items", [range(5), [1, 2], "text", {"a": 1}, 5, None])
def test_what_has_no_cursors_is_refused_by_name(items: Any) -> None:
    with pytest.raises(PyqikError, match=rf"was given a {type(items).__name__}, .* pyqik\.enumerators\.array"):
        pyqik.each(items)


@pytest.mark.parametrize("pair", [7, (7,), (7, 7, 7)])
def test_a_generator_of_something_else_than_pairs_is_refused(pair: Any) -> None:
    kept, done = Kept(), list[Any]()

    def items(cursor: int | None) -> Iterator[Any]:
        yield pair

    async def items_async(cursor: int | None) -> AsyncIterator[Any]:
        yield pair

    def job() -> None:
        done.extend(pyqik.each(items))

    async def job_async() -> None:
        done.extend([item async for item in pyqik.each(items_async)])

    for ended in (kept.run(job), kept.run_async(job_async)):
        assert isinstance(ended, PyqikError)
        assert "a loop of Long goes over a generator that does not yield pairs of item and cursor" in str(ended)
    assert done == []


def test_an_error_of_a_generator_itself_is_left_as_it_is() -> None:
    kept = Kept()

    def items(cursor: int | None) -> Iterator[tuple[int, int]]:
        one, two = [1, 2, 3]  # too many values to unpack
        yield one, two

    def job() -> None:
        for _ in pyqik.each(items):
            pass

    assert type(kept.run(job)) is ValueError


@pytest.mark.parametrize("stop_after", [1, 4])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_generator_whose_cursors_name_what_is_done_is_warned_of(stop_after: int, is_async: bool) -> None:
    kept, done = Kept(), list[Any]()

    def after(cursor: int | None) -> Iterator[tuple[int, int]]:
        for number in range(0 if cursor is None else cursor + 1, 5):
            yield number, number

    def job() -> None:
        done.extend(pyqik.each(after))

    async def job_async() -> None:
        async for item in pyqik.each(after):
            done.append(item)

    def run(**how: Any) -> BaseException | None:
        return kept.run_async(job_async, **how) if is_async else kept.run(job, **how)

    with capture_logs() as lines:
        assert isinstance(run(stop_after=stop_after), Interrupted)
        assert lines == []
        assert run() is None

    [line] = lines
    assert "either the item there is gone, or it was left out and is lost" in line["event"]
    assert (line["class"], line["log_level"]) == ("Long", "warning")


def test_a_source_of_the_enumerators_is_not_doubted() -> None:
    """It is known to give the item after one that is gone."""
    kept = Kept(c="2", loops='{"": {"cursor": 2}}')

    class Gone(enumerators.array(ITEMS).__class__):  # type: ignore[misc]  # the class is private
        def open(self, cursor: int | None = None) -> Iterator[tuple[int, int]]:
            return iter([(13, 3)])

    with capture_logs() as lines:
        assert kept.run(lambda: list(pyqik.each(Gone(ITEMS)))) is None

    assert lines == []


def test_an_asynchronous_generator_function_is_a_source() -> None:
    kept, done = Kept(), list[Any]()

    async def pairs(cursor: int | None) -> AsyncIterator[tuple[int, int]]:
        for number in range(cursor or 0, 5):
            yield number, number

    async def job() -> None:
        async for item in pyqik.each(pairs):
            done.append(item)

    with capture_logs() as lines:
        kept.run_async(job, stop_after=2)
        assert kept.run_async(job) is None
    assert done == [0, 1, 2, 3, 4]
    assert lines == []


def test_a_million_items_need_no_memory() -> None:
    kept = Kept()
    numbers = range(1_000_000)

    def job() -> None:
        for _ in pyqik.each(enumerators.array(numbers), flush_interval=60):
            pass

    tracemalloc.start()
    try:
        kept.run(job)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 200_000
