"""The heartbeat: whom it keeps alive, and what it does about one that was taken for dead."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest
import redis as redis_py

from pyqik.core.clock import SystemClock
from pyqik.wire.broker import recover
from pyqik.wire.connection import open_redis
from pyqik.wire.presence import ProcessInfo, Running
from pyqik.wire.statistics import Executions
from pyqik.worker.upkeep.heartbeat import Heartbeat
from tests.redis.wire.test_presence import INFO
from tests.support.wait import wait_until

LEASE = 0.6


class Fake:
    """A process that does nothing."""

    is_quiet = False

    def __init__(self, identity: str) -> None:
        self.info: ProcessInfo = dataclasses.replace(INFO, identity=identity)

    def running(self) -> Sequence[Running]:
        return []

    def drain_executions(self) -> Executions:
        return Executions()

    def rss_kb(self) -> int:
        return 1


class Told:
    """What the heartbeat told its owner."""

    def __init__(self) -> None:
        self.superseded: list[str] = []


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def heartbeat(redis_url: str, told: Told) -> Iterator[Heartbeat]:
    with open_redis(redis_url) as client:
        beats = Heartbeat(client, SystemClock(), LEASE, lambda identity, name: None, told.superseded.append)
        beats.start()
        yield beats
        beats.stop(10)


def end_of_lease(redis: redis_py.Redis, identity: str) -> Callable[[], float]:
    def read() -> float:
        score: bytes | None = redis.execute_command("ZSCORE", "pyqik:leases", identity)
        return float(score or 0)

    return read


def test_a_lease_is_renewed_before_it_ends(heartbeat: Heartbeat, redis: redis_py.Redis) -> None:
    heartbeat.add(Fake("host:1:a"))
    end = end_of_lease(redis, "host:1:a")
    wait_until(end)
    first = end()

    wait_until(lambda: end() > first)

    assert end() - first < LEASE


def test_who_was_declared_dead_is_named_once_and_never_shown_again(
    heartbeat: Heartbeat, redis: redis_py.Redis, told: Told
) -> None:
    heartbeat.add(Fake("host:1:a"))
    heartbeat.add(Fake("host:2:b"))
    wait_until(lambda: redis.scard("processes") == 2)

    recover(redis, "host:1:a")
    redis.srem("processes", "host:1:a")
    wait_until(lambda: told.superseded)
    end = end_of_lease(redis, "host:2:b")
    for _ in range(3):
        seen = end()
        wait_until(lambda before=seen: end() > before)

    assert told.superseded == ["host:1:a"]
    assert redis.smembers("processes") == {b"host:2:b"}


def test_what_redis_refuses_for_one_process_costs_the_others_no_lease(
    heartbeat: Heartbeat, redis: redis_py.Redis
) -> None:
    redis.set("host:1:a", "in the way of its hash")
    for identity in ("host:1:a", "host:2:b"):
        heartbeat.add(Fake(identity))
    end = end_of_lease(redis, "host:2:b")
    wait_until(end)
    first = end()

    wait_until(lambda: end() > first)


def test_a_statistic_that_is_refused_costs_no_lease(redis_url: str, redis: redis_py.Redis, told: Told) -> None:
    redis.execute_command("ACL", "SETUSER", "lame", "on", ">pw", "~*", "&*", "+@all", "-incrby")

    class Busy(Fake):
        def drain_executions(self) -> Executions:
            return Executions(processed=1)

    with ExitStack() as closing:
        client = closing.enter_context(open_redis(redis_url.replace("redis://", "redis://lame:pw@")))
        beats = Heartbeat(client, SystemClock(), LEASE, lambda identity, name: None, told.superseded.append)
        closing.callback(beats.stop, 10)
        beats.start()
        beats.add(Busy("host:1:a"))

        end = end_of_lease(redis, "host:1:a")
        wait_until(end)
        first = end()
        wait_until(lambda: end() > first)
    redis.execute_command("ACL", "DELUSER", "lame")


def test_what_was_not_removed_keeps_its_lease_when_the_heartbeat_ends(
    redis_url: str, redis: redis_py.Redis, told: Told
) -> None:
    with open_redis(redis_url) as client:
        beats = Heartbeat(client, SystemClock(), 30, lambda identity, name: None, told.superseded.append)
        beats.start()
        for identity in ("host:1:a", "host:2:b"):
            beats.add(Fake(identity))
        wait_until(lambda: redis.scard("processes") == 2)
        beats.remove("host:1:a")

        beats.stop(10)

    assert redis.execute_command("ZRANGE", "pyqik:leases", 0, -1) == [b"host:2:b"]
    assert redis.smembers("processes") == {b"host:2:b"}
