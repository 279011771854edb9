"""`resume` and `checkpoint`, `raise_if_stopping`, `step` and `counters`, in plain functions and in async ones."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from types import FrameType
from typing import Any

import pytest

import pyqik
from pyqik import enumerators
from pyqik.core.errors import Cancelled, Interrupted, InvalidCursor, PyqikError
from tests.unit.jobs.kept import Kept


def test_a_job_resumes_what_it_has_saved() -> None:
    kept, done = Kept(), list[Any]()

    def job() -> None:
        for day in range(pyqik.resume(0), 5):
            done.append(day)
            pyqik.checkpoint(day + 1)

    assert isinstance(kept.run(job, stop_after=2), Interrupted)
    assert kept.texts["c"] == "2"
    assert kept.run(job) is None
    assert done == [0, 1, 2, 3, 4]


def test_an_async_job_resumes_what_it_has_saved() -> None:
    kept, done = Kept(), list[Any]()

    async def job() -> None:
        for day in range(await pyqik.aresume(0), 5):
            done.append(day)
            await pyqik.acheckpoint(day + 1, flush=True)

    assert isinstance(kept.run_async(job, stop_after=2), Interrupted)
    assert kept.run_async(job) is None
    assert done == [0, 1, 2, 3, 4]


def test_outside_of_a_job_nothing_is_kept() -> None:
    pyqik.checkpoint(7, flush=True)
    pyqik.raise_if_stopping()
    with pyqik.step("one") as step:
        step.checkpoint(7)

    assert pyqik.resume("the default") == "the default"


def test_what_is_saved_is_what_it_was_at_the_checkpoint() -> None:
    kept = Kept()

    def job() -> None:
        seen = pyqik.resume({"ids": [1]})
        pyqik.checkpoint(seen)
        seen["ids"].append(2)
        raise ValueError

    kept.run(job)

    assert kept.texts["c"] == '{"ids":[1]}'


def test_a_state_that_json_does_not_hold_is_refused() -> None:
    kept = Kept()
    ended = kept.run(lambda: pyqik.checkpoint({1, 2}))

    assert isinstance(ended, InvalidCursor)
    assert "set" in str(ended)


def test_a_checkpoint_beside_a_loop_without_a_name_is_refused() -> None:
    def job() -> None:
        for _ in pyqik.each(enumerators.array([1, 2])):
            pyqik.checkpoint(1)

    ended = Kept().run(job)

    assert isinstance(ended, PyqikError)
    assert "give the loop a name=" in str(ended)


def test_a_safe_place_to_stop_comes_after_a_piece_of_work() -> None:
    kept, done = Kept(), list[Any]()

    def job() -> None:
        for number in range(5):
            pyqik.raise_if_stopping()
            done.append(number)

    assert isinstance(kept.run(job, stop_after=0), Interrupted)
    assert done == [0]


def test_a_safe_place_hears_of_a_cancellation_at_once() -> None:
    assert isinstance(Kept(cancelled="1").run(pyqik.raise_if_stopping), Cancelled)


def test_a_safe_place_within_an_item_is_no_new_item() -> None:
    """Or counters of an item that is done again would be counted twice."""
    kept, seen = Kept(), list[Any]()

    def job() -> None:
        for item in pyqik.each(enumerators.array([1, 2, 3])):
            pyqik.counters["begun"] += 1
            pyqik.raise_if_stopping()
            if item == 2 and not seen:
                seen.append(item)
                raise ValueError
        seen.append(pyqik.counters["begun"])

    kept.run(job)
    kept.run(job)

    assert seen == [2, 3]


def steps(done: list[Any]) -> None:
    with pyqik.step("load") as step:
        for day in range(step.resume(0), 3):
            done.append(f"load {day}")
            step.checkpoint(day + 1)
    with pyqik.step("send"):
        done.append("send")
    with pyqik.step("tell"):
        for item in pyqik.each(enumerators.array([1, 2])):
            done.append(f"tell {item}")
        with pyqik.step("inner"):
            done.append("inner")
        done.append("after inner")


async def async_steps(done: list[Any]) -> None:
    async with pyqik.step("load") as step:
        for day in range(await step.aresume(0), 3):
            done.append(f"load {day}")
            await step.acheckpoint(day + 1)
    async with pyqik.step("send"):
        done.append("send")
    async with pyqik.step("tell"):
        async for item in pyqik.each(enumerators.array([1, 2])):
            done.append(f"tell {item}")
        async with pyqik.step("inner"):
            done.append("inner")
        done.append("after inner")


ALL = ["load 0", "load 1", "load 2", "send", "tell 1", "tell 2", "inner", "after inner"]


@pytest.mark.parametrize("stop_after", range(1, 9))
@pytest.mark.parametrize("kind", ["plain", "async"])
def test_steps_that_are_finished_are_skipped(kind: str, stop_after: int) -> None:
    kept, done = Kept(), list[Any]()

    def run(stop_after: int | None) -> BaseException | None:
        if kind == "plain":
            return kept.run(lambda: steps(done), stop_after=stop_after)
        return kept.run_async(lambda: async_steps(done), stop_after=stop_after)

    first = run(stop_after)
    second = run(None)

    assert first is None or isinstance(first, Interrupted)
    assert second is None
    assert [each for each in done if each != "after inner"] == ALL[:-1]


def test_a_step_that_failed_is_done_again_from_its_checkpoint() -> None:
    kept, done = Kept(), list[Any]()

    def job() -> None:
        with pyqik.step("load") as step:
            for day in range(step.resume(0), 4):
                if day == 2 and "failed" not in done:
                    done.append("failed")
                    raise ValueError
                done.append(day)
                step.checkpoint(day + 1)

    kept.run(job)
    assert json.loads(kept.texts["loops"])["load/"] == {"cursor": 2}
    assert kept.run(job) is None
    assert done == [0, 1, "failed", 2, 3]


def test_only_the_end_of_a_finished_step_is_kept() -> None:
    kept = Kept()

    def job() -> None:
        with pyqik.step("load") as step:
            step.checkpoint("a long text")
        raise ValueError

    kept.run(job)

    assert json.loads(kept.texts["loops"]) == {"load": {"cursor": None, "done": True}}


def test_tracing_goes_on_after_a_step_was_skipped() -> None:
    kept, seen = Kept(), list[str]()
    done: list[Any] = []
    kept.run(lambda: steps(done))

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        seen.append(frame.f_code.co_name)
        return trace

    def job() -> None:
        steps(done)
        sys.exit()

    before = sys.gettrace()
    kept.hash.pop(b"c", None)
    sys.settrace(trace)
    try:
        kept.run(job)
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)

    assert seen[-1] != "steps"


def test_a_skipped_step_in_an_exit_stack_is_refused() -> None:
    kept = Kept()

    def job() -> None:
        with ExitStack() as stack:
            stack.enter_context(pyqik.step("load"))
        raise ValueError

    assert isinstance(kept.run(job), ValueError)
    ended = kept.run(job)

    assert isinstance(ended, PyqikError)
    assert "ExitStack" in str(ended)


@pytest.mark.parametrize("name", ["", "a/b", 7])
def test_a_step_has_a_name(name: Any) -> None:
    with pytest.raises(PyqikError, match="give it a name"):
        pyqik.step(name)


def test_two_steps_of_one_name_are_refused() -> None:
    def job() -> None:
        for _ in range(2):
            with pyqik.step("load"):
                pass

    assert isinstance(Kept().run(job), PyqikError)


def test_counters_begin_at_nothing_and_survive() -> None:
    kept, seen = Kept(), list[Any]()

    def job() -> None:
        for _ in pyqik.each(enumerators.array([1, 2, 3, 4])):
            pyqik.counters["done"] += 1
            pyqik.counters["share"] += 0.25
        seen.append(dict(pyqik.counters))

    kept.run(job, stop_after=2)
    assert json.loads(kept.texts["counters"]) == {"done": 2, "share": 0.5}

    kept.run(job)
    assert seen == [{"done": 4, "share": 1.0}]


@pytest.mark.parametrize("value", ["1", None, float("inf"), True, [1]], ids=str)
def test_a_counter_is_a_number(value: Any) -> None:
    def job() -> None:
        pyqik.counters["done"] = value

    assert isinstance(Kept().run(job), TypeError)


def test_outside_of_a_job_there_are_no_counters() -> None:
    with pytest.raises(PyqikError, match="no job runs here"):
        pyqik.counters["done"] += 1


def test_a_job_that_is_called_has_counters_of_its_own() -> None:
    @pyqik.job("Counts")
    def counts() -> float:
        pyqik.counters["done"] += 1
        return pyqik.counters["done"]

    assert [counts(), counts()] == [1, 1]
