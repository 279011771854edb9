"""Sidekiq's statistics as `pyqik.api` shows them."""

from __future__ import annotations

import json
import time
from datetime import UTC, date, datetime

import pytest
import redis as redis_py

from pyqik.api import History, Stats
from pyqik.wire.statistics import Executions, flush
from tests.redis.wire.database import fill


def test_an_empty_redis_counts_nothing(redis: redis_py.Redis) -> None:
    stats = Stats(redis=redis)

    assert (stats.processed, stats.failed, stats.scheduled_size, stats.retry_size, stats.dead_size) == (0,) * 5
    assert (stats.enqueued, stats.processes_size, stats.workers_size, stats.queues) == (0, 0, 0, {})
    assert stats.default_queue_latency == 0.0


def test_everything_is_counted(redis: redis_py.Redis) -> None:
    then = time.time() - 60
    fill(
        redis,
        {
            "stat:processed": b"400",
            "stat:failed": b"30",
            "schedule": {b"a": 1.0},
            "retry": {b"a": 1.0, b"b": 1.0},
            "dead": {b"a": 1.0, b"b": 1.0, b"c": 1.0},
            "queues": {b"default", b"low", b"empty"},
            "processes": {b"a:1:x", b"b:1:x", b"gone:1:x"},
            "queue:default": [b"{}", json.dumps({"class": "A", "enqueued_at": then}).encode()],
            "queue:low": [b"1", b"2", b"3"],
        },
    )
    redis.hset("a:1:x", "busy", "3")
    redis.hset("b:1:x", "busy", "4")

    stats = Stats(redis=redis)

    assert (stats.processed, stats.failed) == (400, 30)
    assert (stats.scheduled_size, stats.retry_size, stats.dead_size) == (1, 2, 3)
    assert (stats.enqueued, stats.processes_size, stats.workers_size) == (5, 3, 7)
    assert list(stats.queues.items()) == [("low", 3), ("default", 2), ("empty", 0)]
    assert stats.default_queue_latency == pytest.approx(60, abs=5)


def test_the_numbers_are_those_of_the_moment_in_which_they_were_read(redis: redis_py.Redis) -> None:
    stats = Stats(redis=redis)

    redis.zadd("retry", {"a": 1})

    assert (stats.retry_size, Stats(redis=redis).retry_size) == (0, 1)


@pytest.mark.parametrize("counter", [b"", b"x", b"1.5"])
def test_a_counter_that_is_no_number_counts_nothing(redis: redis_py.Redis, counter: bytes) -> None:
    fill(redis, {"stat:processed": counter})

    assert Stats(redis=redis).processed == 0


def test_the_history_has_each_day_the_newest_first(redis: redis_py.Redis) -> None:
    fill(redis, {"stat:processed:2027-01-01": b"5", "stat:processed:2026-12-30": b"7", "stat:failed:2026-12-31": b"1"})

    history = History(3, date(2027, 1, 1), redis=redis)

    assert list(history.processed.items()) == [("2027-01-01", 5), ("2026-12-31", 0), ("2026-12-30", 7)]
    assert list(history.failed.items()) == [("2027-01-01", 0), ("2026-12-31", 1), ("2026-12-30", 0)]


def test_the_history_begins_today(redis: redis_py.Redis) -> None:
    executions = Executions()
    executions.add("A", 0.01, failed=True)
    flush(redis, executions, time.time())
    before = datetime.now(UTC).date()

    history = History(1, redis=redis)

    # At midnight the counters may be those of the day before.
    assert sum(History(2, redis=redis).failed.values()) == 1
    assert list(history.processed)[0] in (before.isoformat(), datetime.now(UTC).date().isoformat())  # noqa: RUF015


@pytest.mark.parametrize("days", [0, -1, 1826])
def test_a_history_of_days_that_nobody_keeps_is_refused(redis: redis_py.Redis, days: int) -> None:
    with pytest.raises(ValueError, match=f"days is {days}; .* write 1 to 1825"):
        History(days, redis=redis)
