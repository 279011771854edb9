"""`interrupt_after`: a job whose process stops after some items goes on where it was."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import pyqik
from pyqik import testing
from tests.unit.testing.styles import ITEMS, Style, array, each_style


def plain(state: dict[str, str]) -> dict[str, str]:
    """A state without what changes from run to run."""
    return {name: value for name, value in state.items() if name not in ("rt", "stops", "owner")}


@each_style
def test_a_job_that_is_stopped_goes_on_where_it_was(style: Style, done: list[Any]) -> None:
    run = testing.perform(style(done.append), 6, interrupt_after=3)

    assert run.interrupted
    assert done == [0, 1, 2]
    assert plain(run.state) == {"ex": "1", "c": "3", "items": "3"}
    assert (run.cursor, run.items, run.reason, run.place) == (3, 3, "stop", "front")
    assert run.story == "stopped after 3 items"

    run = run.again(interrupt_after=2)

    assert (run.interrupted, run.cursor, run.items, run.executions) == (True, 5, 2, 2)

    run = run.again()

    assert run.completed
    assert done == ITEMS
    assert (run.state, run.executions) == ({}, 3)
    assert run.story == "stopped after 3 items, then stopped after 2 items"


@each_style
def test_a_process_that_is_stopping_already_lets_the_job_do_an_item(style: Style, done: list[Any]) -> None:
    run = testing.perform(style(done.append), 6, interrupt_after=0)

    assert (run.interrupted, done) == (True, [0])
    assert run.story == "stopped after 1 item"


def test_a_job_may_ask_whether_its_process_stops(done: list[Any]) -> None:
    @pyqik.job
    def asks() -> None:
        done.append(pyqik.current().stopping())

    testing.perform(asks, interrupt_after=0)
    testing.perform(asks)

    assert done == [True, False]


def test_a_stop_that_the_job_does_not_come_to_leaves_it_alone(done: list[Any]) -> None:
    run = testing.perform(array(done.append), 6, interrupt_after=6)

    assert (run.completed, run.story) == (True, "not interrupted")


def test_a_job_that_is_stopped_twice_within_a_minute_goes_to_the_back() -> None:
    run = testing.perform(array(lambda item: None), 6, interrupt_after=1).again(interrupt_after=1)

    assert run.place == "back"


def test_each_run_from_the_same_place_begins_there(done: list[Any]) -> None:
    run = testing.perform(array(done.append), 6, interrupt_after=3)
    before = run.state

    run.again()
    run.again(crash_after=1, flush_after=1)

    assert run.state == before
    assert done == [0, 1, 2, 3, 4, 5, 3]


def test_a_run_may_begin_with_the_state_of_another_one(done: list[Any]) -> None:
    state = {"ex": "4", "c": "4", "rt": "12.5"}

    run = testing.perform(array(done.append), 6, state=state, interrupt_after=1)

    assert done == [4]
    assert run.executions == 5
    assert float(run.state["rt"]) >= 12.5


def test_the_end_of_a_time_slice_sends_a_job_to_the_back(done: list[Any]) -> None:
    config = pyqik.Config(max_iteration_runtime=1e-6)

    run = testing.perform(array(done.append), 6, config=config)

    assert (run.interrupted, run.reason, run.place, run.cursor) == (True, "time_slice", "back", 1)
    assert run.story == "interrupted (time_slice)"


def declare_with_callbacks(called: list[Any]) -> type[pyqik.IterableJob]:
    class Long(pyqik.IterableJob):
        def build_enumerator(self, count: int, *, cursor: int | None) -> Iterator[tuple[int, int]]:
            called.append(f"build {cursor}")
            return ((number, number) for number in range(cursor or 0, count))

        def each_iteration(self, item: int, count: int) -> None:
            called.append(item)

        def around_iteration(self) -> Iterator[None]:
            called.append("(")
            yield
            called.append(")")

        def on_start(self) -> None:
            called.append("start")

        def on_resume(self) -> None:
            called.append("resume")

        def on_stop(self) -> None:
            called.append("stop")

        def on_cancel(self) -> None:
            called.append("cancel")

        def on_complete(self) -> None:
            called.append("complete")

    return Long


def declare_with_async_callbacks(called: list[Any]) -> type[pyqik.IterableJob]:
    class Long(pyqik.IterableJob):
        async def build_enumerator(self, count: int, *, cursor: int | None) -> AsyncIterator[tuple[int, int]]:
            called.append(f"build {cursor}")

            async def pairs() -> AsyncIterator[tuple[int, int]]:
                for number in range(cursor or 0, count):
                    yield number, number

            return pairs()

        async def each_iteration(self, item: int, count: int) -> None:
            called.append(item)

        async def around_iteration(self) -> AsyncIterator[None]:
            called.append("(")
            yield
            called.append(")")

        async def on_start(self) -> None:
            called.append("start")

        async def on_resume(self) -> None:
            called.append("resume")

        async def on_stop(self) -> None:
            called.append("stop")

        async def on_cancel(self) -> None:
            called.append("cancel")

        async def on_complete(self) -> None:
            called.append("complete")

    return Long


with_callbacks = pytest.mark.parametrize("declare", [declare_with_callbacks, declare_with_async_callbacks])
FIRST = ["build None", "start", "(", 0, ")", "stop"]


@with_callbacks
def test_callbacks_come_in_sidekiqs_order(declare: Any, done: list[Any]) -> None:
    job = declare(done)

    testing.perform(job, 2, interrupt_after=1).again()

    assert done == [*FIRST, "build 1", "resume", "(", 1, ")", "stop", "complete"]


@with_callbacks
def test_a_cancelled_job_ends_when_it_begins_again(declare: Any, done: list[Any]) -> None:
    run = testing.perform(declare(done), 3, interrupt_after=1)
    run.cancel()
    assert int(run.state["cancelled"]) > 1_700_000_000

    run = run.again()

    assert (run.completed, run.cancelled, run.state) == (True, True, {})
    assert done == [*FIRST, "build 1", "resume", "cancel", "stop", "complete"]


@each_style
def test_a_job_that_is_cancelled_before_it_begins_does_nothing(style: Style, done: list[Any]) -> None:
    run = testing.perform(style(done.append), 3, state={"cancelled": "1795320000"})

    assert (run.completed, run.cancelled, done) == (True, True, [])


def test_a_cancellation_keeps_its_first_time() -> None:
    run = testing.perform(array(lambda item: None), 3, state={"cancelled": "7"}, crash_after=1)
    run = testing.perform(array(lambda item: None), 3, interrupt_after=1)
    run.cancel()
    since = run.state["cancelled"]

    run.cancel()

    assert run.state["cancelled"] == since
