"""The connection is cut at every command in turn, before or after the server ran it: every job runs, once.

Exactly once, as nothing crashes here: only replies get lost.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from typing import Any

import pytest
import redis as redis_py

import pyqik
from pyqik.core.clock import SystemClock
from pyqik.wire.broker import Broker, DeadLimits, UnitOfWork
from pyqik.wire.connection import open_redis
from pyqik.wire.schedule import promote
from pyqik.worker.engine import fetcher
from pyqik.worker.engine.waiting import Waiting
from tests.redis.wire.database import contents
from tests.redis.worker.engine import SHORT_REPLY, Book, Gate, left_behind, payload, push, running, waiting
from tests.support.proxy import RedisProxy
from tests.support.wait import wait_until

#: More commands than an engine sends for the work of one of these tests.
POSITIONS = range(1, 16)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconnect quickly, so that many runs take little time."""
    monkeypatch.setattr(fetcher, "RECONNECT", (0.01, 0.05))


def cut(proxy: RedisProxy, when: str, n: int = 1, command: str | None = None) -> None:
    """Cut the connection at the `n`-th command (of those called `command`), before or after the server runs it."""
    (proxy.cut_before_request if when == "before" else proxy.cut_after_request)(n, command)


def proxied(proxy: RedisProxy) -> str:
    """The proxy's address; a reply that does not come is given up soon."""
    return f"{proxy.url}?socket_timeout={SHORT_REPLY}"


def declare_failing() -> None:
    @pyqik.job("Fails", retry=3)
    def fails(number: int) -> None:
        raise ValueError("no")


def retried(redis: redis_py.Redis) -> list[int]:
    """The arguments of what waits for its retry."""
    raws: Any = redis.zrange("retry", 0, -1)
    return sorted(json.loads(raw)["args"][0] for raw in raws)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("n", POSITIONS)
def test_a_cut_at_any_command_of_a_busy_engine_loses_and_doubles_nothing(
    n: int, when: str, redis: redis_py.Redis, redis_proxy: RedisProxy, book: Book
) -> None:
    declare_failing()
    push(redis, "a", range(8))
    push(redis, "b", range(100, 104), "Fails")
    cut(redis_proxy, when, n)

    with running(proxied(redis_proxy), "a", "b", concurrency=1):
        wait_until(lambda: (sum(book.runs.values()), len(retried(redis))) >= (8, 4), message="everything has run")
        push(redis, "a", range(8, 12))
        wait_until(lambda: sum(book.runs.values()) >= 12, message="what came later too")

    assert book.runs == dict.fromkeys(range(12), 1)
    assert retried(redis) == list(range(100, 104))
    assert left_behind(redis) == {}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("command", ["BLMOVE", "EVALSHA", "HDEL", "CLIENT", "HKEYS"])
def test_a_cut_at_each_kind_of_command_of_an_idle_engine_that_is_woken_loses_and_doubles_nothing(
    command: str, when: str, redis: redis_py.Redis, redis_proxy: RedisProxy, book: Book
) -> None:
    with running(proxied(redis_proxy), "a", "b", "c", concurrency=2):
        for number in range(0, 12, 3):
            book.wait_for("fetch.idle")
            cut(redis_proxy, when, 1, command)
            if command == "HKEYS":
                cut(redis_proxy, "before", 1, "EVALSHA")
            for offset, queue in enumerate("abc"):
                push(redis, queue, [number + offset])
            wait_until(lambda: sum(book.runs.values()) >= number + 3, message="the three have run")  # noqa: B023

    assert book.runs == dict.fromkeys(range(12), 1)
    assert left_behind(redis) == {}


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_cut_while_blocking_moves_are_ended_loses_and_doubles_nothing(
    when: str, redis: redis_py.Redis, redis_proxy: RedisProxy, book: Book, gate: Gate
) -> None:
    @pyqik.job("Gated")
    def gated(number: int) -> None:
        gate.pass_through()
        book.note(number)

    with running(proxied(redis_proxy), "a", "b", "c", concurrency=1):
        book.wait_for("fetch.idle")
        cut(redis_proxy, when, 3, "CLIENT")
        push(redis, "a", [1, 2], "Gated")
        gate.wait_for_arrivals(1)
        push(redis, "b", [3, 4], "Gated")
        wait_until(lambda: waiting(redis, "a") + waiting(redis, "b") == [2, 3, 4], message="the rest is in its queues")
        gate.open()
        wait_until(lambda: sum(book.runs.values()) >= 4, message="all have run")

    assert book.runs == {1: 1, 2: 1, 3: 1, 4: 1}
    assert left_behind(redis) == {}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_a_cut_while_the_engine_stops_loses_and_doubles_nothing(
    n: int, when: str, redis: redis_py.Redis, redis_proxy: RedisProxy, book: Book, gate: Gate
) -> None:
    @pyqik.job("Gated")
    def gated(number: int) -> None:
        gate.pass_through()
        book.note(number)

    push(redis, "a", [1, 2], "Gated")
    with running(proxied(redis_proxy), "a", "b", concurrency=2) as launcher:
        gate.wait_for_arrivals(2)
        cut(redis_proxy, when, n)
        launcher.quiet()
        push(redis, "a", [3], "Gated")
        gate.open()

    assert book.runs == {1: 1, 2: 1}
    assert waiting(redis, "a") == [3]
    assert left_behind(redis) == {}


def test_the_connection_lost_again_and_again_loses_and_doubles_nothing(
    redis: redis_py.Redis, redis_proxy: RedisProxy, book: Book
) -> None:
    with running(proxied(redis_proxy), "a", "b", concurrency=3):
        for first in range(0, 200, 10):
            push(redis, "a", range(first, first + 5))
            push(redis, "b", range(first + 5, first + 10))
            redis_proxy.cut_all()
            wait_until(lambda: sum(book.runs.values()) >= first + 5, message="some have run")  # noqa: B023
        wait_until(lambda: sum(book.runs.values()) >= 200, message="all have run")

    assert book.runs == dict.fromkeys(range(200), 1)
    assert left_behind(redis) == {}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_cut_while_pushing_and_promoting_loses_and_doubles_nothing(
    n: int, when: str, redis: redis_py.Redis, redis_proxy: RedisProxy, book: Book
) -> None:
    redis.zadd("schedule", {payload(number, queue="a"): float(number) for number in range(5)})
    client = open_redis(proxied(redis_proxy))
    with running(redis_proxy.url, "a"), pyqik.Client(client) as pusher:
        book.wait_for("fetch.idle")
        cut(redis_proxy, when, n, "EVALSHA")
        for number in range(5, 10):
            pusher.push("Note", number, queue="a")
            try:
                promote(client, "schedule", 100.0)
            except redis_py.ConnectionError:
                promote(client, "schedule", 100.0)
        wait_until(lambda: sum(book.runs.values()) >= 10, message="all have run")

    assert book.runs == dict.fromkeys(range(10), 1)
    assert contents(redis).keys().isdisjoint({"schedule", "queue:a", "dead", "retry"})


def test_a_job_that_lands_for_a_connection_that_is_gone_is_not_kept_from_running(
    redis_url: str, redis: redis_py.Redis, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has not noticed that a blocking move's connection is cut, and serves it: nobody reads the reply."""
    monkeypatch.setattr("pyqik.worker.engine.waiting.DOUBT", 0.1)
    with running(redis_url, "a", concurrency=1) as launcher:
        book.wait_for("fetch.idle")
        redis.client_kill_filter(_type="normal", skipme=True)
        book.wait_for("redis.restored")
        with redis.pipeline(transaction=True) as pipe:
            pipe.lpush(f"pyqik:landing:{launcher.identity}:default:a", payload(1))
            pipe.execute()

        wait_until(lambda: book.runs[1], message="the stranded job has run")
        push(redis, "a", [2])
        wait_until(lambda: book.runs[2], message="and the next")

    assert book.runs == {1: 1, 2: 1}
    assert left_behind(redis) == {}


def test_an_unblock_that_overtakes_its_blocking_move_is_repeated(
    redis_url: str, redis: redis_py.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = open_redis(redis_url)
    broker = Broker(client, "host:1:abc", DeadLimits())
    waiting_on = Waiting(broker, ["a"], SystemClock())
    (waiter,) = waiting_on._waiters
    withheld: list[Any] = []
    unblock, send = broker.unblock, waiter.line.send
    unblocks = 0

    def unblock_first(waiters: Any) -> bool:
        nonlocal unblocks
        unblocks += 1
        answer = unblock(waiters)
        if withheld:
            send(withheld.pop())
        return answer

    monkeypatch.setattr(waiter.line, "send", withheld.append)  # The network, slower for this connection.
    monkeypatch.setattr(broker, "unblock", unblock_first)
    waiting_on.start(())

    waiting_on.stop()

    assert not waiting_on.armed
    assert unblocks >= 2
    waiting_on.close()
    broker.close()


def test_a_job_that_landed_while_a_take_was_under_way_runs_once(
    redis_url: str, redis: redis_py.Redis, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The push comes after the fetcher has last looked for replies, and before its take."""
    exchange = Broker.exchange
    pushed = threading.Event()

    def push_first(self: Broker, *arguments: Any, **options: Any) -> Any:
        if book.count("fetch.idle") and not pushed.is_set():
            pushed.set()
            push(redis, "a", [1])
            push(redis, "b", [2])
        return exchange(self, *arguments, **options)

    monkeypatch.setattr(Broker, "exchange", push_first)
    with running(redis_url, "a", "b", "c", concurrency=5):
        assert pushed.wait(10)
        wait_until(lambda: sum(book.runs.values()) >= 2, message="both have run")
        push(redis, "c", [3])
        wait_until(lambda: sum(book.runs.values()) >= 3, message="and the next")

    assert book.runs == {1: 1, 2: 1, 3: 1}
    assert left_behind(redis) == {}


def test_a_job_that_was_started_and_then_wiped_from_redis_ends_without_a_trace(
    redis_url: str, redis: redis_py.Redis, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The landing list is emptied after the blocking move's reply has started the job, and before the take."""
    exchange = Broker.exchange

    def wipe_first(self: Broker, *arguments: Any, **options: Any) -> Any:
        if options.get("started"):
            redis.flushall()
        return exchange(self, *arguments, **options)

    monkeypatch.setattr(Broker, "exchange", wipe_first)
    with running(redis_url, "a", concurrency=1):
        for number in range(3):
            book.wait_for_next("fetch.idle")
            push(redis, "a", [number])
            wait_until(lambda: book.runs[number], message="it has run")  # noqa: B023

    assert book.runs == {0: 1, 1: 1, 2: 1}
    assert left_behind(redis) == {}


def test_the_same_payload_pushed_twice_runs_twice(redis_url: str, redis: redis_py.Redis, book: Book) -> None:
    with running(redis_url, "a", concurrency=1):
        book.wait_for("fetch.idle")
        redis.lpush("queue:a", payload(1), payload(1), payload(1))
        wait_until(lambda: sum(book.runs.values()) >= 3, message="all three have run")

    assert book.runs == Counter({1: 3})
    assert left_behind(redis) == {}


def test_units_are_told_apart_by_identity_and_not_by_their_bytes() -> None:
    assert len({UnitOfWork(b"", "a", b"x"), UnitOfWork(b"", "a", b"x")}) == 2
