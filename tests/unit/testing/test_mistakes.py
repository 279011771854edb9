"""What `testing.every_interruption` is for: jobs that are fine as long as nobody interrupts them, and are found out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import pyqik
from pyqik import enumerators, testing
from pyqik.testing import Performable

COUNT = 4

#: Declares a job of `COUNT` items; what it does with each, and with its result, is appended to the list.
Mistake = Callable[[list[Any]], Performable]


def sum_in_a_local_variable(done: list[Any]) -> Performable:
    @pyqik.job("Mistake")
    def mistake() -> None:
        total = 0
        for item in pyqik.each(enumerators.array(range(COUNT))):
            total += item + 1
        done.append(total)

    return mistake


def sum_in_an_attribute(done: list[Any]) -> Performable:
    class Mistake(pyqik.IterableJob, name="Mistake"):
        def build_enumerator(self, *, cursor: int | None) -> pyqik.Source[int, int]:
            return enumerators.array(range(COUNT))

        def on_start(self) -> None:
            self.total = 0

        def on_resume(self) -> None:
            self.total = 0

        def each_iteration(self, item: int) -> None:
            self.total += item + 1

        def on_complete(self) -> None:
            done.append(self.total)

    return Mistake


def sum_in_an_async_local_variable(done: list[Any]) -> Performable:
    @pyqik.job("Mistake")
    async def mistake() -> None:
        total = 0
        async for item in pyqik.each(enumerators.array(range(COUNT))):
            total += item + 1
        done.append(total)

    return mistake


def list_from_a_step_before(done: list[Any]) -> Performable:
    @pyqik.job("Mistake")
    def mistake() -> None:
        found: list[int] = []
        with pyqik.step("find"):
            found += range(COUNT)
        with pyqik.step("use"):
            done.extend(found)

    return mistake


def checkpoint_before_the_effect(done: list[Any]) -> Performable:
    @pyqik.job("Mistake")
    def mistake() -> None:
        for item in range(pyqik.resume(0), COUNT):
            pyqik.checkpoint(item + 1)
            done.append(item)

    return mistake


def async_checkpoint_before_the_effect(done: list[Any]) -> Performable:
    @pyqik.job("Mistake")
    async def mistake() -> None:
        for item in range(await pyqik.aresume(0), COUNT):
            await pyqik.acheckpoint(item + 1)
            done.append(item)

    return mistake


def cursor_of_the_next_item(done: list[Any]) -> Performable:
    """As job-iteration has them, where a cursor is that of the item that is done."""

    def opened(cursor: int | None) -> Iterator[tuple[int, int]]:
        for item in range(cursor or 0, COUNT):
            yield item, item + 1

    @pyqik.job("Mistake")
    def mistake() -> None:
        for item in pyqik.each(opened):
            done.append(item)

    return mistake


def source_that_begins_anew(done: list[Any]) -> Performable:
    def opened(cursor: int | None) -> Iterator[tuple[int, int]]:
        for item in range(COUNT):
            yield item, item

    @pyqik.job("Mistake")
    def mistake() -> None:
        for item in pyqik.each(opened):
            done.append(item)

    return mistake


def checkpoint_that_is_forgotten(done: list[Any]) -> Performable:
    @pyqik.job("Mistake")
    def mistake() -> None:
        for item in range(COUNT):
            pyqik.raise_if_stopping()
            done.append(item)

    return mistake


def step_that_ends_before_the_effect(done: list[Any]) -> Performable:
    @pyqik.job("Mistake")
    def mistake() -> None:
        for item in range(COUNT):
            decided: list[int] = []
            with pyqik.step(f"decide on {item}"):
                decided.append(item)
            done.extend(decided)

    return mistake


def interrupted(mistake: Mistake, done: list[Any]) -> dict[str, list[Any]]:
    """What was done in each story."""
    job = mistake(done)
    return {run.story: done.copy() for run in testing.every_interruption(job, before=done.clear)}


def left_alone(mistake: Mistake, done: list[Any]) -> list[Any]:
    """What is done by a job that nobody interrupts."""
    testing.perform(mistake(done)).or_raise()
    return done.copy()


@pytest.mark.parametrize(
    "mistake", [sum_in_a_local_variable, sum_in_an_attribute, sum_in_an_async_local_variable, list_from_a_step_before]
)
def test_what_is_kept_in_memory_is_found_to_be_lost(mistake: Mistake, done: list[Any]) -> None:
    whole = left_alone(mistake, done)

    stories = interrupted(mistake, done)

    assert whole != []
    assert stories["stopped after 1 item"] != whole
    assert stories["killed after 1 item, its state written after 1"] != whole
    # From the very beginning nothing is lost, which is why one crash is no test.
    assert stories["killed after 1 item"] == whole


@pytest.mark.parametrize(
    "mistake", [checkpoint_before_the_effect, async_checkpoint_before_the_effect, cursor_of_the_next_item]
)
def test_what_is_written_down_before_it_is_done_is_found_to_be_left_out(mistake: Mistake, done: list[Any]) -> None:
    whole = left_alone(mistake, done)

    stories = interrupted(mistake, done)

    assert whole == [0, 1, 2, 3]
    assert stories["stopped after 2 items"] == stories["killed after 2 items, its state written after 2"]
    assert len(stories["stopped after 2 items"]) == 3
    assert len(stories["killed after every item"]) < 4


def test_an_effect_that_only_a_crash_loses_is_found_to_be_left_out(done: list[Any]) -> None:
    """A stop comes before a step, never at its end, where the crash comes."""
    stories = interrupted(step_that_ends_before_the_effect, done)

    assert stories["stopped after 2 items"] == stories["stopped after every item"] == [0, 1, 2, 3]
    assert stories["killed after 2 items, its state written after 2"] == [0, 2, 3]
    assert stories["killed after every item"] == []


def test_a_source_that_does_not_go_on_is_found_to_repeat(done: list[Any]) -> None:
    stories = testing.every_interruption(source_that_begins_anew(done), before=done.clear, most_runs=10)

    assert (next(stories).story, done) == ("stopped after 1 item", [0, *range(COUNT)])
    with pytest.raises(pyqik.PyqikError, match=r"does not get on: stopped after every item.*its cursor is 1"):
        list(stories)


def test_a_job_that_has_no_checkpoint_is_found_not_to_get_on(done: list[Any]) -> None:
    with pytest.raises(pyqik.PyqikError, match="does not get on: stopped after every item"):
        list(testing.every_interruption(checkpoint_that_is_forgotten(done), before=done.clear, most_runs=10))


def test_an_effect_that_may_not_come_twice_is_found_to_come_twice(done: list[Any]) -> None:
    """After a crash the item that was in hand is done again."""

    @pyqik.job("Mistake")
    def mails() -> None:
        for item in pyqik.each(enumerators.array(range(COUNT))):
            done.append(item)

    twice = [run.story for run in testing.every_interruption(mails, before=done.clear) if len(done) > COUNT]

    assert twice[:2] == ["killed after 1 item", "killed after 2 items"]
    assert "killed after 4 items, its state written after 3" in twice


def test_async_tests_find_them_too(done: list[Any]) -> None:
    async def test() -> dict[str, list[Any]]:
        job = async_checkpoint_before_the_effect(done)
        return {run.story: done.copy() async for run in testing.aevery_interruption(job, before=done.clear)}

    assert asyncio.run(test())["stopped after 1 item"] == [1, 2, 3]
