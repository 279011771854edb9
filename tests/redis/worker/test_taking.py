"""What an engine takes, when, and what it leaves to others."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest
import redis as redis_py

import pyqik
from pyqik.jobs.definition import JobDefinition
from pyqik.worker.engine.fetcher import IDLE_TAKE
from tests.redis.wire.database import contents
from tests.redis.worker.engine import Book, Gate, declare_gated, left_behind, payload, push, running, waiting
from tests.support.wait import wait_until

TWENTY = [f"q{number}" for number in range(20)]


def test_what_waits_is_run_in_the_order_of_pushing(redis_url: str, redis: redis_py.Redis, book: Book) -> None:
    push(redis, "a", range(200))

    with running(redis_url, "a", concurrency=1):
        book.wait_settled(200)

    assert book.order == list(range(200))
    assert left_behind(redis) == {}


def test_strict_queues_are_emptied_one_after_the_other(redis_url: str, redis: redis_py.Redis, book: Book) -> None:
    push(redis, "low", range(30))
    push(redis, "high", range(100, 130))

    with running(redis_url, "high", "low", concurrency=1):
        book.wait_settled(60)

    assert book.order == [*range(100, 130), *range(30)]


def test_a_job_pushed_while_idle_starts_at_once(redis_url: str, redis: redis_py.Redis, book: Book) -> None:
    with running(redis_url, "a"):
        book.wait_for("fetch.idle")
        for number in range(20):
            push(redis, "a", [number])
            book.wait_settled(number + 1, timeout=IDLE_TAKE / 2)

    assert book.order == list(range(20))


def test_jobs_pushed_to_each_of_twenty_idle_queues_all_start(redis_url: str, redis: redis_py.Redis, book: Book) -> None:
    with running(redis_url, *TWENTY, concurrency=20):
        book.wait_for("fetch.idle")
        for number, queue in enumerate(TWENTY):
            push(redis, queue, [number])
        book.wait_settled(20)

    assert book.runs == dict.fromkeys(range(20), 1)
    assert left_behind(redis) == {}


def test_one_slot_beside_twenty_queues_keeps_only_what_it_runs(
    redis_url: str, redis: redis_py.Redis, book: Book, gate: Gate
) -> None:
    declare_gated(gate)
    with running(redis_url, *TWENTY, concurrency=1):
        book.wait_for("fetch.idle")
        with redis.pipeline(transaction=True) as pipe:
            for number, queue in enumerate(TWENTY):
                pipe.lpush(f"queue:{queue}", payload(number, "Gated"))
            pipe.execute()
        gate.wait_for_arrivals(1)

        wait_until(lambda: sum(len(waiting(redis, queue)) for queue in TWENTY) == 19, message="19 given back")

        gate.open()
        book.wait_settled(20)
    assert left_behind(redis) == {}


def test_what_is_too_much_beside_idle_waiters_is_left_to_others(
    redis_url: str, redis: redis_py.Redis, book: Book, gate: Gate
) -> None:
    declare_gated(gate)
    with running(redis_url, "a", "b", concurrency=2):
        book.wait_for("fetch.idle")
        push(redis, "a", range(10), "Gated")
        push(redis, "b", range(10, 20), "Gated")
        gate.wait_for_arrivals(2)
        wait_until(lambda: len(waiting(redis, "a")) + len(waiting(redis, "b")) == 18, message="18 left in their queues")
        assert waiting(redis, "a") == sorted(waiting(redis, "a"))
        assert waiting(redis, "b") == sorted(waiting(redis, "b"))

        gate.open()
        book.wait_settled(20)


def test_what_was_prefetched_behind_a_slow_job_is_given_back_in_order(
    redis_url: str, redis: redis_py.Redis, book: Book, gate: Gate
) -> None:
    declare_gated(gate)
    push(redis, "a", range(1000))
    push(redis, "a", [1000], "Gated")
    push(redis, "a", range(1001, 1101))

    with running(redis_url, "a", concurrency=1):
        gate.wait_for_arrivals(1)
        wait_until(lambda: waiting(redis, "a") == list(range(1001, 1101)), message="the rest in its old order")

        gate.open()
        wait_until(lambda: sum(book.runs.values()) == 1100, message="1,100 runs")

    assert book.order == [number for number in range(1101) if number != 1000]


def test_several_processes_share_the_work_and_every_job_runs_once(
    redis_url: str, redis: redis_py.Redis, book: Book
) -> None:
    with running(redis_url, "a", "b"), running(redis_url, "b", "a"), running(redis_url, "a"):
        for first in range(0, 600, 20):
            push(redis, "a", range(first, first + 10))
            push(redis, "b", range(first + 10, first + 20))
        book.wait_settled(600)

    assert book.runs == dict.fromkeys(range(600), 1)
    assert left_behind(redis) == {}


# Pausing.


def test_a_queue_that_is_paused_while_idle_is_left_alone_within_two_seconds(
    redis_url: str, redis: redis_py.Redis, book: Book
) -> None:
    with running(redis_url, "a", "b"):
        book.wait_for("fetch.idle")
        redis.sadd("paused", "a")
        book.wait_for("fetch.paused", timeout=IDLE_TAKE + 1)

        push(redis, "a", [1])
        push(redis, "b", [2])
        book.wait_settled(1)

        assert (book.order, waiting(redis, "a")) == ([2], [1])


def test_an_unpaused_queue_is_served_again(redis_url: str, redis: redis_py.Redis, book: Book) -> None:
    redis.sadd("paused", "a")
    push(redis, "a", [1])
    with running(redis_url, "a"):
        book.wait_for("fetch.paused")

        redis.srem("paused", "a")
        book.wait_settled(1, timeout=IDLE_TAKE + 1)
        push(redis, "a", [2])
        book.wait_settled(2, timeout=IDLE_TAKE / 2)

    assert [event["queues"] for event in book.fields("fetch.paused")] == [["a"], []]


def test_a_pause_holds_at_once_for_what_is_taken_from_a_full_queue(
    redis_url: str, redis: redis_py.Redis, book: Book, gate: Gate
) -> None:
    declare_gated(gate)
    push(redis, "a", [0], "Gated")
    push(redis, "a", range(1, 50))
    with running(redis_url, "a", concurrency=1):
        gate.wait_for_arrivals(1)
        wait_until(lambda: len(waiting(redis, "a")) == 49, message="what was prefetched is back")
        redis.sadd("paused", "a")
        gate.open()

        book.wait_for("fetch.paused")

    assert (book.order, waiting(redis, "a")) == ([], list(range(1, 50)))


# Both kinds of jobs, and middleware.


def test_plain_and_async_jobs_run_side_by_side(redis_url: str, redis: redis_py.Redis, book: Book) -> None:
    both = threading.Barrier(2)

    @pyqik.job("Plain")
    def plain(number: int) -> None:
        both.wait(10)
        book.note(number)

    @pyqik.job("Async")
    async def waits(number: int) -> None:
        import asyncio

        await asyncio.to_thread(both.wait, 10)
        book.note(number)

    push(redis, "a", [1], "Plain")
    push(redis, "a", [2], "Async")
    with running(redis_url, "a", concurrency=2):
        book.wait_settled(2)

    assert book.runs == {1: 1, 2: 1}


def test_async_jobs_run_as_many_at_a_time_as_configured(redis_url: str, redis: redis_py.Redis, book: Book) -> None:
    import asyncio

    at_once: list[int] = []
    now = 0

    @pyqik.job("Async")
    async def waits(number: int) -> None:
        nonlocal now
        now += 1
        at_once.append(now)
        for _ in range(10):
            await asyncio.sleep(0)
        now -= 1

    push(redis, "a", range(60), "Async")
    with running(redis_url, "a", concurrency=1, async_concurrency=5):
        book.wait_settled(60)

    assert max(at_once) <= 5


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_middleware_is_around_each_run(kind: str, redis_url: str, redis: redis_py.Redis, book: Book) -> None:
    def outer(payload: pyqik.Payload) -> Iterator[None]:
        book.note("outer")
        yield
        book.note("end of outer")

    def inner(payload: pyqik.Payload) -> Iterator[None]:
        book.note(f"inner of {payload.jid[-1]}")
        yield
        book.note("end of inner")

    declare_both_kinds(book)
    push(redis, "a", [1], kind)
    with running(redis_url, "a", server_middleware=[outer, inner]):
        book.wait_settled(1)

    assert book.order == ["outer", "inner of 1", "job", "end of inner", "end of outer"]


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_middleware_that_does_not_yield_ends_the_job_unrun(
    kind: str, redis_url: str, redis: redis_py.Redis, book: Book
) -> None:
    def stops(payload: pyqik.Payload) -> Iterator[None]:
        return
        yield

    declare_both_kinds(book)
    push(redis, "a", [1], kind)
    with running(redis_url, "a", server_middleware=[stops]):
        book.wait_settled(1)

    assert (book.order, book.count("job.done"), redis.zcard("retry")) == ([], 1, 0)


@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_error_in_middleware_means_a_retry(
    kind: str, when: str, redis_url: str, redis: redis_py.Redis, book: Book
) -> None:
    def breaks(payload: pyqik.Payload) -> Iterator[None]:
        if when == "before":
            raise LookupError("in the middleware")
        yield
        raise LookupError("in the middleware")

    declare_both_kinds(book)
    push(redis, "a", [1], kind)
    with running(redis_url, "a", server_middleware=[breaks]):
        book.wait_settled(1)

    (raw,) = contents(redis)["retry"]
    assert isinstance(raw, bytes)
    entry = json.loads(raw)
    assert (entry["error_class"], entry["error_message"]) == ("LookupError", "in the middleware")


def test_what_middleware_writes_into_the_payload_is_not_in_the_retry(
    redis_url: str, redis: redis_py.Redis, book: Book
) -> None:
    def writes(payload: pyqik.Payload) -> Iterator[None]:
        payload["secret"] = "x"
        yield

    @pyqik.job("Fails")
    def fails(number: int) -> None:
        assert pyqik.current().payload["secret"] == "x"
        raise ValueError("no")

    push(redis, "a", [1], "Fails")
    with running(redis_url, "a", server_middleware=[writes]):
        book.wait_settled(1)

    (raw,) = contents(redis)["retry"]
    assert isinstance(raw, bytes)
    assert json.loads(raw)["error_class"] == "ValueError"
    assert b"secret" not in raw


def declare_both_kinds(book: Book) -> list[JobDefinition]:
    @pyqik.job("plain")
    def plain(number: int) -> None:
        book.note("job")

    @pyqik.job("async")
    async def waits(number: int) -> None:
        book.note("job")

    return [plain.definition, waits.definition]
