"""`async def` jobs: a thousand on one loop, beside job threads, and what happens when one of them blocks."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Iterator

import pytest
import redis as redis_py
import structlog

import pyqik
from pyqik.worker.engine import loop_watch
from pyqik.worker.engine.fetcher import IDLE_TAKE
from tests.redis.worker.engine import Book, Gate, declare_gated, declare_note, left_behind, push, running, waiting
from tests.support.wait import wait_until


class Crowd:
    """Counts the jobs that are in it at the same time, and keeps them until it is let go."""

    def __init__(self) -> None:
        self.size = self.largest = 0
        self.loops: set[asyncio.AbstractEventLoop] = set()
        self._over: asyncio.Event | None = None
        self._let_go = False

    async def join(self) -> None:
        self.size += 1
        self.largest = max(self.largest, self.size)
        self.loops.add(asyncio.get_running_loop())
        if self._over is None:
            self._over = asyncio.Event()
        if not self._let_go:
            await self._over.wait()
        self.size -= 1

    def let_go(self) -> None:
        """Let everybody go, those too who come later."""
        self._let_go = True
        for loop in self.loops:
            if self._over is not None:
                loop.call_soon_threadsafe(self._over.set)


@pytest.fixture
def crowd() -> Crowd:
    crowd = Crowd()

    @pyqik.job("Join")
    async def join(number: int) -> None:
        await crowd.join()

    return crowd


def test_a_thousand_run_at_a_time_on_one_loop_beside_job_threads(
    redis_url: str, redis: redis_py.Redis, book: Book, crowd: Crowd
) -> None:
    declare_note(book)
    push(redis, "async", range(1200), "Join")

    with running(redis_url, "async", "plain", async_concurrency=1000, timeout=30) as launcher:
        wait_until(lambda: crowd.size == 1000, 60, "a thousand run")
        push(redis, "plain", range(50))
        wait_until(lambda: len(book.order) == 50, 60, "plain jobs run beside them")
        shown = wait_until(lambda: len(launcher._engine.capsules.running()) == 1000, 20, "the plain ones have ended")
        crowd.let_go()
        book.wait_settled(1250, 60)

    assert (crowd.largest, len(crowd.loops), shown) == (1000, 1, True)
    assert left_behind(redis) == {}


def test_full_threads_do_not_hold_up_async_jobs_of_the_same_queue(
    redis_url: str, redis: redis_py.Redis, book: Book, crowd: Crowd
) -> None:
    gate = Gate()
    declare_gated(gate)
    push(redis, "a", range(2), "Gated")
    push(redis, "a", range(10, 15), "Gated")
    push(redis, "a", range(100, 120), "Join")

    with running(redis_url, "a", concurrency=2) as launcher:
        gate.wait_for_arrivals(2)
        wait_until(lambda: crowd.size == 20, message="the async ones run")
        # Now and then some are taken, as there may be more async ones among them, and go back.
        wait_until(lambda: waiting(redis, "a") == list(range(10, 15)), message="the others wait")
        crowd.let_go()
        gate.open()
        book.wait_settled(27)
        [manager] = launcher._engine.capsules._managers
        wait_until(lambda: manager.rest() == IDLE_TAKE, message="it sleeps as long as if nothing had been in the way")

    assert left_behind(redis) == {}


def test_a_full_loop_does_not_hold_up_plain_jobs(
    redis_url: str, redis: redis_py.Redis, book: Book, crowd: Crowd
) -> None:
    declare_note(book)
    push(redis, "a", range(3), "Join")
    push(redis, "a", range(10, 15))

    with running(redis_url, "a", concurrency=2, async_concurrency=1):
        wait_until(lambda: crowd.size == 1, message="one runs")
        wait_until(lambda: book.order == list(range(10, 15)), message="the plain ones have run")
        crowd.let_go()
        book.wait_settled(8)

    assert (crowd.largest, left_behind(redis)) == (1, {})


def test_at_the_deadline_they_are_cancelled_and_given_back(redis_url: str, redis: redis_py.Redis, book: Book) -> None:
    cleaned: list[int] = []
    arrived = threading.Semaphore(0)

    @pyqik.job("Sleep")
    async def sleep(number: int) -> None:
        arrived.release()
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append(number)

    push(redis, "a", range(30), "Sleep")

    with running(redis_url, "a", timeout=0):
        for _ in range(30):
            assert arrived.acquire(timeout=10)

    assert (sorted(cleaned), sorted(waiting(redis, "a"))) == (list(range(30)), list(range(30)))
    assert left_behind(redis) == {}
    assert book.count("job.failed") == 0


def test_each_has_context_variables_of_its_own(redis_url: str, redis: redis_py.Redis, book: Book) -> None:
    tenant: contextvars.ContextVar[int] = contextvars.ContextVar("tenant")
    seen: dict[int, tuple[int, str]] = {}

    def with_tenant(payload: pyqik.Payload) -> Iterator[None]:
        token = tenant.set(payload.args[0])
        yield
        tenant.reset(token)

    @pyqik.job("Who")
    async def who(number: int) -> None:
        await asyncio.sleep(0.01)
        inner = await asyncio.create_task(asyncio.sleep(0, tenant.get()))
        seen[number] = (inner, pyqik.current().jid)

    push(redis, "a", range(50), "Who")

    with running(redis_url, "a", server_middleware=[with_tenant]):
        book.wait_settled(50)

    assert seen == {number: (number, f"{number}".rjust(24, "0")) for number in range(50)}


@pytest.mark.parametrize("how", ["itself", "in a task", "in a group"])
def test_one_that_blocks_the_loop_is_named_in_the_log(
    redis_url: str, redis: redis_py.Redis, book: Book, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(loop_watch, "INTERVAL", 0.02)
    monkeypatch.setattr(loop_watch, "BLOCKED_AFTER", 0.2)
    hold = threading.Event()

    async def inner() -> None:
        hold.wait(20)

    @pyqik.job("Blocks")
    async def blocks(number: int) -> None:
        await asyncio.sleep(0)
        if how == "itself":
            await inner()
        elif how == "in a task":
            await asyncio.create_task(inner(), name="a name of its own")
        else:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.wait_for(inner(), 30))

    push(redis, "a", [7], "Blocks")

    with structlog.testing.capture_logs() as logs, running(redis_url, "a"):

        def said(text: str) -> list[dict[str, object]]:
            return [dict(line) for line in logs if text in line["event"]]

        wait_until(lambda: said("blocks the event loop"), message="it is noticed")
        hold.set()
        book.wait_for("loop.blocked")

    line = said("blocks the event loop")[0]
    assert line["job"] == f"Blocks {'7'.rjust(24, '0')}"
    assert "hold.wait(20)" in str(line["stack"])
    assert [line["job"] for line in said("the event loop runs again")][:1] == [line["job"]]


def test_a_loop_that_only_waits_is_not_said_to_be_blocked(
    redis_url: str, redis: redis_py.Redis, book: Book, crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_watch, "INTERVAL", 0.01)
    push(redis, "a", range(20), "Join")

    with running(redis_url, "a"):
        wait_until(lambda: crowd.size == 20, message="they run")
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > 0.5, message="the watch has asked some times")
        crowd.let_go()
        book.wait_settled(20)

    assert book.count("loop.blocked") == 0


def test_a_plain_job_that_lands_while_all_threads_are_busy_goes_back_to_its_place(
    redis_url: str, redis: redis_py.Redis, book: Book, crowd: Crowd
) -> None:
    gate = Gate()
    declare_gated(gate)
    with running(redis_url, "a", concurrency=2):
        push(redis, "a", range(2), "Gated")
        gate.wait_for_arrivals(2)
        book.wait_for_next("fetch.idle")
        for number in range(10, 15):
            push(redis, "a", [number], "Gated")
            book.wait_for_next("job.settled")
        wait_until(lambda: waiting(redis, "a") == list(range(10, 15)), message="all are back, in their order")
        gate.open()
        book.wait_settled(7)

    assert left_behind(redis) == {}
