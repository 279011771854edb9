"""`testing.every_interruption`: a job stopped and killed after each of its items in turn."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import pyqik
from pyqik import enumerators, testing
from pyqik.core.errors import PyqikError
from tests.unit.testing.styles import ITEMS, Style, array, async_array, each_style_and_steps, iterable, numbers

STORIES_OF_THREE_ITEMS = [
    ("stopped after 1 item", [0, 1, 2]),
    ("killed after 1 item", [0, 0, 1, 2]),
    ("killed after 1 item, its state written after 1", [0, 1, 2]),
    ("stopped after 2 items", [0, 1, 2]),
    ("killed after 2 items", [0, 1, 0, 1, 2]),
    ("killed after 2 items, its state written after 1", [0, 1, 1, 2]),
    ("killed after 2 items, its state written after 2", [0, 1, 2]),
    # A stop after the last item is none: there is no boundary behind it.
    ("killed after 3 items", [0, 1, 2, 0, 1, 2]),
    ("killed after 3 items, its state written after 2", [0, 1, 2, 2]),
    ("killed after 3 items, its state written after 3", [0, 1, 2]),
    ("stopped after every item", [0, 1, 2]),
    ("killed after every item", [0, 1, 2]),
]


@pytest.mark.parametrize("style", [array, iterable, async_array])
def test_a_job_is_stopped_and_killed_after_each_item(style: Style, done: list[Any]) -> None:
    runs = testing.every_interruption(style(done.append), 3, before=done.clear)

    assert [(run.story, done.copy()) for run in runs] == STORIES_OF_THREE_ITEMS


@pytest.mark.parametrize("style", [array, async_array])
def test_async_tests_go_through_the_same_stories(style: Style, done: list[Any]) -> None:
    async def test() -> list[Any]:
        runs = testing.aevery_interruption(style(done.append), 3, before=done.clear)
        return [(run.story, done.copy()) async for run in runs]

    assert asyncio.run(test()) == STORIES_OF_THREE_ITEMS


@each_style_and_steps
def test_a_job_that_is_right_leaves_nothing_out(style: Style, done: list[Any]) -> None:
    job = style(done.append)

    told = [(run, done.copy()) for run in testing.every_interruption(job, 6, before=done.clear)]

    assert all(run.completed for run, _ in told)
    assert {run.place for run, _ in told} == {"gone"}
    assert [items for _, items in told if sorted(set(items)) != ITEMS] == []
    assert [items for run, items in told if "stopped" in run.story and items != ITEMS] == []


@each_style_and_steps
def test_every_kind_of_interruption_happens(style: Style, done: list[Any]) -> None:
    stories = [run.story for run in testing.every_interruption(style(done.append), 6)]

    assert len(stories) == len(set(stories)) >= 24
    assert stories[-2:] == ["stopped after every item", "killed after every item"]
    assert {"stopped after 4 items", "killed after 6 items", "killed after 6 items, its state written after 5"} <= set(
        stories
    )


def test_a_job_is_killed_where_it_cannot_be_stopped(done: list[Any]) -> None:
    """At the end of a step it is written that this is done, and nothing is asked."""

    @pyqik.job
    def steps() -> None:
        with pyqik.step("load"):
            for item in pyqik.each(enumerators.array(range(2))):
                done.append(item)

    stories = [run.story for run in testing.every_interruption(steps)]

    assert stories == [
        "stopped after 1 item",
        "killed after 1 item",
        "killed after 1 item, its state written after 1",
        "killed after 2 items",
        "killed after 2 items, its state written after 1",
        "killed after 2 items, its state written after 2",
        "killed after 3 items",
        "killed after 3 items, its state written after 2",
        "killed after 3 items, its state written after 3",
        "stopped after every item",
        "killed after every item",
    ]


def test_the_world_is_made_anew_before_each_story_and_left_alone_within_one() -> None:
    told: list[str] = []
    job = array(lambda item: told.append(f"item {item}"))

    runs = testing.every_interruption(job, 2, before=lambda: told.append("before"))
    next(runs)

    assert told == ["before", "item 0", "item 1"]
    next(runs)
    assert told[3:] == ["before", "item 0", "item 0", "item 1"]


def test_an_async_test_may_make_the_world_by_async_code(done: list[Any]) -> None:
    async def before() -> None:
        await asyncio.sleep(0)
        done.clear()

    async def test() -> list[Any]:
        runs = testing.aevery_interruption(async_array(done.append), 3, before=before)
        return [(run.story, done.copy()) async for run in runs]

    assert asyncio.run(test()) == STORIES_OF_THREE_ITEMS


def test_the_last_run_of_a_story_is_what_can_be_looked_at() -> None:
    @pyqik.job
    def counts(count: int) -> None:
        for _ in pyqik.each(numbers(count)):
            pyqik.counters["done"] += 1

    runs = list(testing.every_interruption(counts, 3))

    assert {run.counters["done"] for run in runs} == {3}
    assert [run.executions for run in runs if run.story.endswith("every item")] == [3, 4]


def test_a_job_without_items_tests_nothing(done: list[Any]) -> None:
    with pytest.raises(PyqikError, match="Long did not come to the end of a single item"):
        list(testing.every_interruption(array(done.append), 0))


def test_a_short_job_tests_nothing_either() -> None:
    @pyqik.job
    async def short() -> None:
        """It has no loop."""

    async def test() -> None:
        async for _ in testing.aevery_interruption(short):
            pass

    with pytest.raises(PyqikError, match="short did not come to the end of a single item"):
        asyncio.run(test())


@pytest.mark.parametrize("style", [array, async_array])
def test_a_job_that_raises_says_when(style: Style, done: list[Any]) -> None:
    """As one does that cannot be resumed: it is a success when it is left alone."""

    def once(item: int) -> None:
        if item in done:
            raise ValueError(f"{item} is done already")
        done.append(item)

    with pytest.raises(ValueError, match="0 is done already") as raised:
        list(testing.every_interruption(style(once), 3, before=done.clear))

    assert raised.value.__notes__ == ["Long has raised this when it was killed after 1 item"]


def test_a_job_that_raises_whatever_happens_raises_at_once() -> None:
    with pytest.raises(IndexError):
        next(testing.every_interruption(array(lambda item: [][item]), 3))


def test_a_job_that_does_not_get_on_is_told_of() -> None:
    @pyqik.job
    def goes_round() -> None:
        for item in range(3):
            pyqik.raise_if_stopping()
            assert item < 3

    with pytest.raises(PyqikError, match=r"goes_round does not get on: stopped after every item.* after 5 runs"):
        list(testing.every_interruption(goes_round, most_runs=5))


def test_an_interruption_of_its_own_does_not_keep_a_job_from_the_planned_one(done: list[Any]) -> None:
    """It waits before its third item, and counts the items of both runs."""
    waited: list[int] = []

    def do(item: int) -> None:
        if item == 2 and not waited:
            waited.append(item)
            raise pyqik.ContinueIn(30)
        done.append(item)

    def before() -> None:
        done.clear()
        waited.clear()

    told = {run.story: done.copy() for run in testing.every_interruption(array(do), 5, before=before)}

    waits = "interrupted (asked)"
    assert waits not in told
    assert told["stopped after 2 items"] == told["stopped after 4 items"] == [0, 1, 2, 3, 4]
    # What the first run did was written when it ended.
    assert told["killed after 3 items"] == told["killed after 3 items, its state written after 2"] == [0, 1, 2, 2, 3, 4]
    assert told["killed after 3 items, its state written after 3"] == [0, 1, 2, 3, 4]


def test_a_source_that_throttles_a_job_is_waited_for(done: list[Any]) -> None:
    busy: list[bool] = []

    @pyqik.job
    def careful() -> None:
        for item in pyqik.each(enumerators.limit(enumerators.array(range(3)), when=lambda: bool(busy and busy.pop()))):
            done.append(item)

    def before() -> None:
        done.clear()
        busy.append(True)

    runs = testing.every_interruption(careful, before=before)

    assert [(run.story, done.copy()) for run in runs] == STORIES_OF_THREE_ITEMS


def test_a_job_may_end_by_saying_so(done: list[Any]) -> None:
    def do(item: int) -> None:
        done.append(item)
        if item == 2:
            raise pyqik.Discard("enough")

    runs = list(testing.every_interruption(array(do), 6, before=done.clear))

    assert all(run.discarded for run in runs)
    assert [run.story for run in runs if "3" in run.story] == []


def test_the_configuration_counts(done: list[Any]) -> None:
    config = pyqik.Config(flush_interval=0)

    stories = {
        run.story: done.copy()
        for run in testing.every_interruption(array(done.append), 3, before=done.clear, config=config)
    }

    assert stories["killed after 3 items"] == [0, 1, 2, 2]


def test_what_perform_refuses_is_refused() -> None:
    with pytest.raises(PyqikError, match="is no job"):
        next(testing.every_interruption(len, 1))  # type: ignore[arg-type]
    with pytest.raises(pyqik.WrongArguments):
        next(testing.every_interruption(array(print), 1, 2))
