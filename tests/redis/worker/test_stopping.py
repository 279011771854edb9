"""How an engine in this process ends: what runs is waited for, then interrupted, then given back; nothing is left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
import redis as redis_py

import pyqik
from pyqik.core.clock import SystemClock
from pyqik.jobs.registry import registry
from pyqik.wire.broker import UnitOfWork
from pyqik.worker.engine.board import Board
from pyqik.worker.engine.outcome import Ending, Outcome
from pyqik.worker.engine.processor import Policy, Processor, Run
from pyqik.worker.engine.runners import AsyncRunner, EventLoop, ThreadRunner
from tests.redis.worker.engine import (
    Book,
    Gate,
    declare_endless,
    declare_gated,
    left_behind,
    payload,
    push,
    running,
    waiting,
)
from tests.support.wait import wait_until


def test_a_quiet_engine_finishes_what_runs_and_takes_nothing_more(
    redis_url: str, redis: redis_py.Redis, book: Book, gate: Gate
) -> None:
    @pyqik.job("Gated")
    def gated(number: int) -> None:
        gate.pass_through()
        book.note(number)

    push(redis, "a", [1], "Gated")
    with running(redis_url, "a") as launcher:
        gate.wait_for_arrivals(1)
        launcher.quiet()
        push(redis, "a", [2])
        gate.open()
        book.wait_settled(1)

    assert (book.order, waiting(redis, "a")) == ([1], [2])


def test_an_async_job_that_outlives_the_timeout_is_interrupted_and_given_back_unchanged(
    redis_url: str, redis: redis_py.Redis, book: Book
) -> None:
    ends: list[str] = []

    @pyqik.job("Forever")
    async def forever(number: int) -> None:
        book.note(number)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    push(redis, "a", [1, 2], "Forever")
    with running(redis_url, "a", timeout=0.1) as launcher:
        wait_until(lambda: len(book.order) == 2, message="both run")
        assert launcher.stop()

    assert ends == ["cancelled", "cancelled"]
    assert sorted(waiting(redis, "a")) == [1, 2]
    assert redis.exists("retry") == 0
    assert left_behind(redis) == {}


def test_an_async_job_is_waited_for_until_the_timeout(redis_url: str, redis: redis_py.Redis, book: Book) -> None:
    started, stop = threading.Event(), threading.Event()

    @pyqik.job("Waits")
    async def waits(number: int) -> None:
        started.set()
        while not stop.is_set():
            await asyncio.sleep(0)
        book.note(number)

    push(redis, "a", [1], "Waits")
    with running(redis_url, "a", timeout=10) as launcher:
        assert started.wait(10)
        stopping = threading.Thread(target=launcher.stop)
        stopping.start()
        book.wait_for("fetch.idle")
        stop.set()
        stopping.join(10)

    assert book.order == [1]
    assert waiting(redis, "a") == []


def test_a_plain_job_that_outlives_the_timeout_is_interrupted_and_given_back_unchanged(
    redis_url: str, redis: redis_py.Redis, book: Book
) -> None:
    started = threading.Event()

    @pyqik.job("Spins")
    def spins(number: int) -> None:
        started.set()
        while True:
            try:
                threading.Event().wait(0.001)
            except Exception:  # what careless authors do
                pass

    raw = payload(1, "Spins")
    redis.lpush("queue:a", raw)
    with running(redis_url, "a", timeout=0.1) as launcher:
        assert started.wait(10)
        assert launcher.stop()

    assert redis.lrange("queue:a", 0, -1) == [raw]
    assert left_behind(redis) == {}


def test_both_kinds_are_interrupted_together(redis_url: str, redis: redis_py.Redis, book: Book) -> None:
    declare_endless(book)
    push(redis, "a", [1, 2], "Spins")
    push(redis, "b", [3, 4], "Forever")
    with running(redis_url, "a", "b", timeout=0.1, concurrency=3) as launcher:
        wait_until(lambda: len(book.order) == 4, message="all run")
        assert launcher.stop()

    assert (sorted(waiting(redis, "a")), sorted(waiting(redis, "b"))) == ([1, 2], [3, 4])


def test_a_stopped_engine_leaves_nothing_in_redis_but_its_expiring_hash(
    redis_url: str, redis: redis_py.Redis, book: Book
) -> None:
    push(redis, "a", range(10))
    with running(redis_url, "a", "b") as launcher:
        book.wait_settled(10)
        identity = launcher.identity
        wait_until(lambda: redis.exists(identity), message="the first beat")

    keys: Any = redis.keys("*")
    names = {key.decode() for key in keys}
    statistics = {name for name in names if name.startswith(("stat:", "j|", "h|", "Note-"))}
    assert names - statistics == {"queues", identity, f"pyqik:in-flight:{identity}"}
    assert 0 < redis.ttl(identity) <= 60
    assert redis.get("stat:processed") == b"10"


# The runners by themselves: what is told of a run whose interruption comes at an awkward moment.


class Told:
    """What the runners tell of runs that have ended."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[Run, Outcome]] = []

    def __call__(self, run: Run, outcome: Outcome) -> None:
        self.outcomes.append((run, outcome))

    def endings(self, run: Run) -> list[Ending]:
        return [outcome.ending for ended, outcome in self.outcomes if ended is run]


@pytest.fixture
def processor() -> Processor:
    return Processor(registry, Policy(), SystemClock(), stopping=lambda: False)


def async_runner(processor: Processor, told: Told) -> tuple[AsyncRunner, EventLoop]:
    loop = EventLoop()
    return AsyncRunner(3, processor, told, Board(3), 0, loop), loop


def opened(processor: Processor, raw: bytes) -> Run:
    run = processor.open(UnitOfWork(b"1:1", "a", raw))
    assert isinstance(run, Run)
    return run


def test_a_task_that_is_cancelled_before_its_first_step_is_told_as_interrupted(processor: Processor) -> None:
    ran: list[int] = []

    @pyqik.job("Async")
    async def task(number: int) -> None:
        ran.append(number)

    told = Told()
    runner, loop = async_runner(processor, told)
    first, second = opened(processor, payload(1, "Async")), opened(processor, payload(2, "Async"))
    runner.submit([first])
    wait_until(lambda: told.endings(first), message="the loop runs")
    hold, held = threading.Event(), threading.Event()

    def block() -> None:
        held.set()
        hold.wait(10)

    # While the loop's thread stands still, the start and the cancellation come in one batch.
    loop.call(block)
    assert held.wait(10)
    runner.submit([second])
    runner.interrupt()
    hold.set()

    wait_until(lambda: told.endings(second), message="the second is told")
    assert (told.endings(second), ran) == ([Ending.INTERRUPTED], [1])
    runner.close()
    assert loop.join(10)


def test_a_closed_loop_finishes_its_tasks_before_it_ends(processor: Processor) -> None:
    go_on = threading.Event()

    @pyqik.job("Async")
    async def task(number: int) -> None:
        while not go_on.is_set():
            await asyncio.sleep(0)

    told = Told()
    runner, loop = async_runner(processor, told)
    run = opened(processor, payload(1, "Async"))
    runner.submit([run])
    wait_until(lambda: run.started, message="it runs")

    runner.close()
    assert not loop.join(0.05)
    go_on.set()

    assert loop.join(10)
    assert told.endings(run) == [Ending.DONE]


def test_interrupting_a_loop_that_has_ended_is_harmless(processor: Processor) -> None:
    @pyqik.job("Async")
    async def task(number: int) -> None:
        pass

    runner, loop = async_runner(processor, Told())
    runner.submit([opened(processor, payload(1, "Async"))])
    runner.close()
    assert loop.join(10)

    runner.interrupt()


def test_a_job_that_cancels_itself_failed_and_was_not_interrupted(processor: Processor) -> None:
    @pyqik.job("Async")
    async def task(number: int) -> None:
        raise asyncio.CancelledError

    told = Told()
    runner, loop = async_runner(processor, told)
    run = opened(processor, payload(1, "Async"))
    runner.submit([run])

    wait_until(lambda: told.endings(run), message="it is told")
    assert told.endings(run) == [Ending.RETRIED]
    runner.close()
    assert loop.join(10)


def test_an_interruption_hits_the_run_that_it_was_meant_for_and_never_the_next(processor: Processor) -> None:
    gate = Gate()

    @pyqik.job("Gated")
    def gated(number: int) -> None:
        gate.arrived.release()
        while number < 100:
            threading.Event().wait(0.001)

    told = Told()
    runner = ThreadRunner(1, processor, told, Board(1))
    runner.start()
    runs = [opened(processor, payload(number, "Gated")) for number in (*range(20), 100)]
    runner.submit(runs, spread=False)
    for run in runs[:-1]:
        gate.wait_for_arrivals(1)
        runner.interrupt()
        wait_until(lambda: told.endings(run), message="it is told")  # noqa: B023
    wait_until(lambda: told.endings(runs[-1]), message="the last one too")

    assert {ending for run in runs[:-1] for ending in told.endings(run)} == {Ending.INTERRUPTED}
    assert told.endings(runs[-1]) == [Ending.DONE]
    runner.close()
    assert runner.join(10)


def test_runs_that_come_while_the_last_thread_falls_asleep_wake_it(processor: Processor) -> None:
    gate = Gate()
    declare_gated(gate)
    told = Told()
    runner = ThreadRunner(1, processor, told, Board(1))
    runner.start()
    first, second = (opened(processor, payload(number, "Gated")) for number in (1, 2))
    runner.submit([first], spread=False)
    gate.wait_for_arrivals(1)
    put = runner._waiting.put

    def late(runs: Sequence[Run]) -> None:
        gate.open()
        wait_until(runner.asleep, message="it has run out of work")
        put(runs)

    runner._waiting.put = late  # type: ignore[method-assign]  # the moment in which it went wrong
    runner.submit([second], spread=False)

    wait_until(lambda: told.endings(second) == [Ending.DONE], message="it is run")
    runner.close()
    assert runner.join(10)


def test_what_no_thread_has_started_is_taken_back_newest_first_and_the_rest_runs(processor: Processor) -> None:
    gate = Gate()
    declare_gated(gate)
    told = Told()
    runner = ThreadRunner(1, processor, told, Board(1))
    runner.start()
    runs = [opened(processor, payload(number, "Gated")) for number in range(5)]
    runner.submit(runs, spread=False)
    gate.wait_for_arrivals(1)

    back = runner.take_back(3)

    assert back == [runs[4], runs[3], runs[2]]
    gate.open()
    wait_until(lambda: told.endings(runs[1]), message="the one that was left has run")
    runner.close()
    assert runner.join(10)
