"""Sidekiq's statistics as numbers: how much has run and failed, how much waits, and both for each day.

`statistics` is what writes the counters that are read here.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import redis

from pyqik.wire import keys
from pyqik.wire.job_record import JobRecord
from pyqik.wire.replies import text, whole

#: Days for which the counters of a day are kept.
MOST_DAYS: Final = 5 * 365


class Totals:
    """How things stand at the moment of its making; two round trips. Raises: redis.RedisError."""

    def __init__(self, client: redis.Redis) -> None:
        with client.pipeline(transaction=False) as pipe:
            pipe.mget(keys.STAT_PROCESSED, keys.STAT_FAILED)
            for key in (keys.SCHEDULE, keys.RETRY, keys.DEAD):
                pipe.zcard(key)
            pipe.smembers(keys.PROCESSES)
            pipe.smembers(keys.QUEUES)
            pipe.lindex(keys.queue("default"), -1)
            counters, scheduled, retries, dead, processes, queues, oldest = pipe.execute()
        names = sorted(text(name) for name in queues)
        with client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.llen(keys.queue(name))
            for identity in processes:
                pipe.hget(identity, "busy")
            replies = pipe.execute()
        sizes = dict(zip(names, replies, strict=False))
        self.processed: int = whole(counters[0])
        """Executions so far, those that failed included."""
        self.failed: int = whole(counters[1])
        """Executions that failed."""
        self.scheduled_size: int = scheduled
        """Entries of the schedule."""
        self.retry_size: int = retries
        """Entries of the retry set."""
        self.dead_size: int = dead
        """Entries of the dead set."""
        self.processes_size: int = len(processes)
        """Registered processes; one that was killed may count for a minute or more."""
        self.workers_size: int = sum(map(whole, replies[len(names) :]))
        """Jobs that run."""
        self.enqueued: int = sum(sizes.values())
        """Jobs that wait in all queues."""
        self.queues: dict[str, int] = dict(sorted(sizes.items(), key=lambda queue: -queue[1]))
        """Jobs that wait in each queue, the fullest first."""
        self.default_queue_latency: float = 0.0 if oldest is None else JobRecord(oldest).latency
        """Seconds for which the job waits that is next in the queue "default"."""


class DailyTotals:
    """The executions of `days` UTC days, the newest of them `newest` (None: today); one round trip.

    Raises: ValueError for fewer than 1 or more than 1,825 days; redis.RedisError.
    """

    def __init__(self, client: redis.Redis, days: int, newest: date | None = None) -> None:
        if not 1 <= days <= MOST_DAYS:
            raise ValueError(f"days is {days!r}; counters are kept for five years: write 1 to {MOST_DAYS}")
        newest = newest or datetime.now(UTC).date()
        names = [(newest - timedelta(days=each)).isoformat() for each in range(days)]
        wanted = [*map(keys.stat_processed, names), *map(keys.stat_failed, names)]
        replies: Any = client.mget(wanted)
        self.processed: dict[str, int] = dict(zip(names, map(whole, replies[:days]), strict=True))
        """Executions of each day, such as `{"2026-11-22": 400}`, the newest day first."""
        self.failed: dict[str, int] = dict(zip(names, map(whole, replies[days:]), strict=True))
        """Those of them that failed."""
