"""`crash_after`: a job whose process is killed goes on from what was written by then."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import pyqik
from pyqik import enumerators, testing
from tests.unit.testing.styles import ITEMS, Style, array, async_array, each_style, numbers


@each_style
def test_a_killed_job_loses_what_was_not_written(style: Style, done: list[Any]) -> None:
    run = testing.perform(style(done.append), 6, crash_after=3)

    assert run.crashed
    assert not any((run.completed, run.interrupted, run.failed))
    assert done == [0, 1, 2]
    assert (run.cursor, run.items, run.place) == (None, 3, "front")
    assert run.story == "killed after 3 items"

    run = run.again()

    assert run.completed
    assert done == [0, 1, 2, *ITEMS]


@each_style
@pytest.mark.parametrize("flushed", [2, 3])
def test_a_killed_job_keeps_what_was_written(style: Style, flushed: int, done: list[Any]) -> None:
    run = testing.perform(style(done.append), 6, crash_after=3, flush_after=flushed)

    assert (run.crashed, run.cursor, done) == (True, flushed, [0, 1, 2])
    assert run.state["owner"]
    assert run.story == f"killed after 3 items, its state written after {flushed}"

    run = run.again()

    assert done == [0, 1, 2, *range(flushed, 6)]
    assert run.executions == 2


@each_style
def test_with_a_flush_after_each_item_a_killed_job_repeats_one(style: Style, done: list[Any]) -> None:
    config = pyqik.Config(flush_interval=0)

    run = testing.perform(style(done.append), 6, crash_after=3, config=config)

    assert run.cursor == 2
    run.again()
    assert done == [0, 1, 2, 2, 3, 4, 5]


@each_style
def test_a_job_may_be_killed_after_its_last_item(style: Style, done: list[Any]) -> None:
    run = testing.perform(style(done.append), 6, crash_after=6)

    assert (run.crashed, done) == (True, ITEMS)


def test_a_checkpoint_that_is_flushed_survives(done: list[Any]) -> None:
    @pyqik.job
    def saves() -> None:
        for item in range(pyqik.resume(0), 6):
            done.append(item)
            pyqik.checkpoint(item + 1, flush=item == 1)

    run = testing.perform(saves, crash_after=3)

    assert run.cursor == 2


def test_a_killed_job_has_no_callbacks_no_handlers_and_no_events(done: list[Any]) -> None:
    class Long(pyqik.IterableJob):
        def build_enumerator(self, *, cursor: int | None) -> pyqik.Source[int, int]:
            return enumerators.array(ITEMS)

        def each_iteration(self, item: int) -> None:
            done.append(item)

        def on_stop(self) -> None:
            done.append("on_stop")

        def retries_exhausted(self, error: Exception) -> None:
            done.append("exhausted")

    config = pyqik.Config(error_handlers=[lambda *told: done.append(told)], death_handlers=[done.append])
    ends = [
        pyqik.events.subscribe(event, lambda **told: done.append(told))
        for event in ("job.done", "job.failed", "job.interrupted", "job.died")
    ]
    try:
        run = testing.perform(Long, crash_after=2, config=config)
    finally:
        for end in ends:
            end()

    assert run.crashed
    assert done == [0, 1]


@pytest.mark.parametrize("style", [array, async_array])
def test_a_killed_job_lets_go_of_what_it_had_in_its_hands(style: Style) -> None:
    """Even of what refers to itself, as an error does that is kept by a frame that it has come through."""
    held: list[weakref.ref[Any]] = []

    def hold(payload: pyqik.Payload) -> Iterator[None]:
        in_hand = {payload.jid}
        held.append(weakref.ref(in_hand))
        try:
            raise KeyError(in_hand)
        except KeyError as error:
            kept = [error]
        yield
        kept.clear()

    run = testing.perform(style(lambda item: None), 3, crash_after=2, config=pyqik.Config(server_middleware=[hold]))

    assert run.crashed
    assert [reference() for reference in held] == [None]


@pytest.mark.parametrize("flushed", [None, 2, 3])
def test_a_generator_that_ends_its_loop_when_it_is_closed_writes_nothing_any_more(
    flushed: int | None, done: list[Any]
) -> None:
    """It is closed when the job is dead."""

    def items() -> Iterator[int]:
        for item in pyqik.each(numbers(6), name="items"):
            try:
                yield item
            except GeneratorExit:
                return

    @pyqik.job
    def wraps() -> None:
        for item in items():
            done.append(item)
            pyqik.checkpoint(item)

    run = testing.perform(wraps, crash_after=3, flush_after=flushed)

    assert run.crashed
    assert "done" not in run.state.get("loops", "")
    assert run.again().completed
    assert set(done) == set(ITEMS)


@pytest.mark.parametrize("style", [array, async_array])
def test_a_job_that_swallows_everything_is_killed_all_the_same(style: Style, done: list[Any]) -> None:
    def swallow(payload: pyqik.Payload) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            done.append(type(error).__name__)

    run = testing.perform(style(done.append), 6, crash_after=2, config=pyqik.Config(server_middleware=[swallow]))

    assert run.crashed
    assert done == [0, 1, "Killed"]
