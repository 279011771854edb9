"""The other words for the same state: steps, counters, `raise_if_stopping`, `ContinueIn` and `Complete`."""

from __future__ import annotations

import json
import time
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

import pyqik
from pyqik import enumerators, testing
from pyqik.testing import runs
from tests.unit.testing.styles import ITEMS, Style, each_style, numbers


def test_steps_that_are_finished_are_skipped(done: list[Any]) -> None:
    @pyqik.job
    def steps() -> None:
        with pyqik.step("load") as step:
            done.append("load")
            for day in range(step.resume(0), 2):
                done.append(day)
                step.checkpoint(day + 1)
        with pyqik.step("send"):
            done.append("send")
        with pyqik.step("tell"):
            done.append("tell")

    run = testing.perform(steps, interrupt_after=1)
    assert run.cursor == {"load": 1}
    # The second day, and the step itself.
    run = run.again(interrupt_after=2)
    assert (run.interrupted, run.items) == (True, 2)
    run = run.again(interrupt_after=1)
    assert (run.interrupted, run.items) == (True, 1)
    assert run.again().completed

    assert done == ["load", 0, "load", 1, "send", "tell"]


def test_a_crash_after_a_step_loses_it_unless_its_end_was_written(done: list[Any]) -> None:
    @pyqik.job
    def steps() -> None:
        for name in ("load", "send"):
            with pyqik.step(name):
                done.append(name)

    testing.perform(steps, crash_after=1).again()
    testing.perform(steps, crash_after=1, flush_after=1).again()

    assert done == ["load", "load", "send", "load", "send"]


def test_steps_of_async_jobs(done: list[Any]) -> None:
    @pyqik.job
    async def steps() -> None:
        async with pyqik.step("load") as step:
            for day in range(await step.aresume(0), 2):
                done.append(day)
                await step.acheckpoint(day + 1)
        async with pyqik.step("send"):
            done.append("send")

    run = testing.perform(steps, interrupt_after=1)
    assert run.again(interrupt_after=2).again().completed

    assert done == [0, 1, "send"]


def test_counters_agree_with_the_cursor(done: list[Any]) -> None:
    @pyqik.job
    def counts() -> None:
        for _ in pyqik.each(numbers(6)):
            pyqik.counters["done"] += 1

    run = testing.perform(counts, interrupt_after=2)
    assert run.counters == {"done": 2}
    crashed = run.again(crash_after=3, flush_after=1)
    assert crashed.counters == {"done": 3}
    assert crashed.again().counters == {"done": 6}
    assert json.loads(crashed.state["counters"]) == {"done": 3}


def test_what_an_item_counted_that_failed_is_not_kept() -> None:
    @pyqik.job
    def counts() -> None:
        for item in pyqik.each(numbers(6)):
            pyqik.counters["begun"] += 1
            assert item != 3

    run = testing.perform(counts)

    assert (run.failed, run.cursor, run.counters) == (True, 3, {"begun": 3})


@pytest.mark.parametrize(("plan", "expected"), [({"interrupt_after": 2}, [0, 1]), ({"crash_after": 2}, [0, 1])])
def test_raise_if_stopping_is_a_place_to_stop(plan: dict[str, int], expected: list[int], done: list[Any]) -> None:
    @pyqik.job
    def careful() -> None:
        for item in range(4):
            pyqik.raise_if_stopping()
            done.append(item)

    run = testing.perform(careful, **plan)  # type: ignore[arg-type]

    assert (run.interrupted or run.crashed, run.items) == (True, 2)
    assert done == expected


def test_continue_in_sends_a_job_to_the_schedule(done: list[Any]) -> None:
    @pyqik.job
    def waits() -> None:
        for item in pyqik.each(numbers(3)):
            if item == 1 and pyqik.counters["asked"] == 0:
                raise pyqik.ContinueIn(30)
            done.append(item)

    run = testing.perform(waits)

    assert (run.interrupted, run.reason, run.place, run.delay, run.cursor) == (True, "asked", "schedule", 30.0, 1)
    assert "enqueued_at" not in run.payload
    assert run.story == "interrupted (asked)"


def test_a_job_that_comes_from_the_schedule_has_been_enqueued(done: list[Any]) -> None:
    """As the poller, or the Web UI's button, would enqueue it."""

    class Waits(pyqik.IterableJob):
        def build_enumerator(self, *, cursor: int | None) -> pyqik.Source[int, int]:
            return enumerators.array(ITEMS)

        def each_iteration(self, item: int) -> None:
            done.append(pyqik.current().payload["enqueued_at"])
            if len(done) == 2:
                raise pyqik.ContinueIn(30)

    assert testing.perform(Waits).again().completed

    assert done[0] == done[1] < done[2]


def test_a_delay_is_the_one_that_was_meant_however_long_the_end_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = count(1_795_320_000.0, 10.0)
    slow = SimpleNamespace(time=lambda: next(moments), monotonic=time.monotonic, perf_counter=time.perf_counter)
    monkeypatch.setattr(runs, "time", slow)

    @pyqik.job
    def waits() -> None:
        pyqik.checkpoint(1)
        raise pyqik.ContinueIn(30)

    assert testing.perform(waits).delay == 30.0


def test_continue_in_no_time_sends_a_job_to_the_back() -> None:
    class Long(pyqik.IterableJob):
        def build_enumerator(self, *, cursor: int | None) -> pyqik.Source[int, int]:
            return enumerators.array(ITEMS)

        def each_iteration(self, item: int) -> None:
            if item == 2 and self.executions == 1:
                raise pyqik.ContinueIn

    run = testing.perform(Long)

    assert (run.place, run.delay, run.reason, run.cursor) == ("back", None, "asked", 2)
    assert run.again().completed


@each_style
def test_complete_ends_a_job(style: Style, done: list[Any]) -> None:
    def do(item: int) -> None:
        if item == 2:
            raise pyqik.Complete
        done.append(item)

    run = testing.perform(style(do), 6)

    assert (run.completed, run.cancelled, done) == (True, False, [0, 1])
