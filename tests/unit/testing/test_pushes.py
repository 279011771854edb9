"""Whose block a push belongs to, in threads, tasks, jobs and fixtures."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import pytest

import pyqik
from pyqik import testing

#: Nobody listens there.
NOWHERE = "redis://127.0.0.1:1/0"

#: Seconds that a thread waits for another one at most.
PATIENCE = 20


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever connects to Redis fails."""
    monkeypatch.setenv("REDIS_URL", NOWHERE)


@pytest.fixture
def push() -> Callable[[int], object]:
    """Pushes a job with this argument."""

    @pyqik.job("Pushes::Short")
    def short(number: int) -> None:
        """It is only pushed."""

    return short.perform_async


def numbers(queues: testing.Queues) -> list[Any]:
    return [job.args[0] for job in queues.jobs]


def in_a_thread(call: Callable[[], Any]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join(PATIENCE)


def test_a_thread_without_a_block_goes_by_the_one_opened_last(push: Callable[[int], object]) -> None:
    with testing.fake() as outer:
        with testing.fake() as inner:
            in_a_thread(lambda: push(1))
        in_a_thread(lambda: push(2))

    assert (numbers(outer), numbers(inner)) == ([2], [1])


def test_a_thread_that_was_there_before_the_block_is_redirected_too(push: Callable[[int], object]) -> None:
    begun = threading.Event()

    def serve() -> None:
        begun.wait(PATIENCE)
        push(1)

    server = threading.Thread(target=serve)
    server.start()
    with testing.fake() as queues:
        begun.set()
        server.join(PATIENCE)

    assert numbers(queues) == [1]


def test_a_thread_whose_own_block_has_ended_goes_by_the_open_one(push: Callable[[int], object]) -> None:
    own: list[testing.Queues] = []

    def test() -> None:
        with testing.fake() as queues:
            push(1)
        own.append(queues)
        push(2)

    with testing.fake() as queues:
        in_a_thread(test)

    assert (numbers(own[0]), numbers(queues)) == ([1], [2])


def test_the_end_of_an_outer_block_leaves_an_inner_one_open(push: Callable[[int], object]) -> None:
    """As fixtures of different scopes may end in any order."""
    outer, inner = testing.fake(), testing.fake()
    outer.__enter__()
    queues = inner.__enter__()

    outer.__exit__(None, None, None)
    push(1)
    inner.__exit__(None, None, None)

    assert numbers(queues) == [1]


def test_a_block_may_be_left_in_another_context_than_it_was_entered_in(push: Callable[[int], object]) -> None:
    """As some plugins for async tests do with fixtures."""
    block = testing.fake()

    queues = copy_context().run(block.__enter__)
    push(1)
    copy_context().run(block.__exit__, None, None, None)
    with testing.fake() as after:
        push(2)

    assert (numbers(queues), numbers(after)) == ([1], [2])


def test_two_tasks_with_blocks_of_their_own_do_not_meet(push: Callable[[int], object]) -> None:
    async def test(number: int, both: asyncio.Barrier) -> list[Any]:
        async with pyqik.AsyncClient(NOWHERE) as client:
            with testing.fake() as queues:
                with testing.fake():
                    await both.wait()
                await both.wait()
                await client.push("Pushes::Ruby", number)
                await both.wait()
                return numbers(queues)

    async def tests() -> list[list[Any]]:
        both = asyncio.Barrier(2)
        return await asyncio.gather(test(1, both), test(2, both))

    assert asyncio.run(tests()) == [[1], [2]]


def test_what_a_job_pushes_that_is_performed_belongs_to_the_block_around(push: Callable[[int], object]) -> None:
    @pyqik.job
    def plain() -> None:
        push(1)

    @pyqik.job
    async def asynchronous() -> None:
        await asyncio.to_thread(push, 2)

    async def test() -> None:
        (await testing.aperform(plain)).or_raise()
        (await testing.aperform(asynchronous)).or_raise()

    with testing.fake() as queues:
        testing.perform(plain).or_raise()
        testing.perform(asynchronous).or_raise()
        asyncio.run(test())

    assert numbers(queues) == [1, 2, 1, 2]


def test_the_innermost_block_says_whether_jobs_run(done: list[Any]) -> None:
    @pyqik.job
    def short(number: int) -> None:
        done.append(number)

    with testing.fake() as queues:
        with testing.inline() as runs:
            short.perform_async(1)
        short.perform_async(2)
    with testing.inline(), testing.fake():
        short.perform_async(3)

    assert (done, len(runs), numbers(queues)) == ([1], 1, [2])


def test_a_job_runs_inline_within_another_one_and_knows_which_it_is(done: list[Any]) -> None:
    @pyqik.job
    def inner() -> None:
        done.append(pyqik.current().payload.job_class)

    @pyqik.job
    def outer() -> None:
        inner.perform_async()
        done.append(pyqik.current().payload.job_class)

    with testing.inline() as runs:
        outer.perform_async()

    assert done == ["inner", "outer"]
    assert [run.payload.job_class for run in runs] == ["inner", "outer"]


def test_a_push_of_no_jobs_is_nothing(done: list[Any]) -> None:
    @pyqik.job
    def short(number: int) -> None:
        done.append(number)

    with testing.inline() as runs:
        short.perform_bulk([])
    with testing.fake() as queues:
        short.perform_bulk([])

    assert (runs, queues.jobs, done) == ([], [], [])
