"""What stands in Redis, in the words of Sidekiq's own API (`require "sidekiq/api"`), for scripts and consoles. ::

    from pyqik.api import DeadSet, ProcessSet, Queue, RetrySet, Stats, WorkSet

    for queue in Queue.all():
        print(queue.name, queue.size, queue.latency)
    for entry in RetrySet().scan("Billing::"):
        if entry.error_class == "Timeout::Error":
            entry.retry()
    DeadSet().find_job("3fd5721286d295ee0275920f").delete()
    for process in ProcessSet():
        print(process.identity, process.busy, "of", process.concurrency, process.queues)

It shows alike what Ruby's processes (6.4 to 8.1) and Python's write; what it does is seen by both. As in Ruby, it is
not for an application's own logic: what is read may have changed a moment later.

Every class takes `redis`: a URL, or a redis-py client, which stays the caller's. Without it the process's own Redis is
read, as it was configured (`pyqik.configure`, `REDIS_URL`). A property asks Redis each time it is read; `Stats` and
`History` ask when they are made. An attribute of an entry is as it was read.

Times are epoch seconds, as everywhere in pyqik: they compare and subtract without a time zone, and are what stands in
Redis (Sidekiq 8 writes milliseconds into payloads; they come out as seconds, too). For a clock,
`datetime.fromtimestamp(entry.at, UTC)`.

What stands in a queue or a set may be no job. It is an entry like any other: `entry.invalid` says why it is no job,
`entry.raw` is its text, and `entry.delete()` deletes it.

All of this blocks. In async code, `await asyncio.to_thread(lambda: Stats().enqueued)`.

Raises: redis.RedisError, wherever Redis is asked. An act whose reply was lost may be repeated: it happens once.
ValueError for a URL that cannot be read; ConfigError if the environment has mistakes.
"""

from __future__ import annotations

from datetime import date
from typing import TypeAlias

import redis as redis_py

from pyqik.core.config import Config
from pyqik.jobs.process import configured, default_client
from pyqik.wire import keys
from pyqik.wire.broker import DeadLimits
from pyqik.wire.connection import client_of
from pyqik.wire.fleet import Process, Processes, RunningWork, Work
from pyqik.wire.job_record import JobRecord
from pyqik.wire.job_set import JobSet, SortedEntry
from pyqik.wire.queue_jobs import JobQueue, QueueEntry, queue_names
from pyqik.wire.totals import DailyTotals, Totals

__all__ = [  # noqa: RUF022 # By topic.
    # Jobs that wait
    "Queue",
    "ScheduledSet",
    "RetrySet",
    "DeadSet",
    # What they consist of
    "JobRecord",
    "QueueEntry",
    "SortedEntry",
    # What runs
    "ProcessSet",
    "Process",
    "WorkSet",
    "Work",
    # Numbers
    "Stats",
    "History",
]

RedisOrUrl: TypeAlias = str | redis_py.Redis


class Queue(JobQueue):
    """A queue by its name. ::

    queue = Queue("mailers")
    queue.size, queue.latency, queue.paused
    for entry in queue:                         # a `QueueEntry`, the newest job first
        if entry.klass == "Mailer::DigestJob":
            entry.delete()
    """

    def __init__(self, name: str = "default", *, redis: RedisOrUrl | None = None) -> None:
        super().__init__(_connected(redis), name)

    @classmethod
    def all(cls, *, redis: RedisOrUrl | None = None) -> list[Queue]:
        """Every queue that something was ever pushed to and that nobody cleared, by name."""
        client = _connected(redis)
        return [cls(name, redis=client) for name in queue_names(client)]


class ScheduledSet(JobSet):
    """Jobs that are not due yet, as `SortedEntry`; `at` is when they are."""

    def __init__(self, *, redis: RedisOrUrl | None = None) -> None:
        super().__init__(_connected(redis), keys.SCHEDULE, _dead_limits())


class RetrySet(JobSet):
    """Jobs that failed and will be tried again, as `SortedEntry`; `at` is when. ::

    for entry in RetrySet():                    # the latest first
        print(entry.klass, entry.error_message, entry.retry_count)
        entry.retry()                           # or add_to_queue, kill, delete, reschedule(at)
    """

    def __init__(self, *, redis: RedisOrUrl | None = None) -> None:
        super().__init__(_connected(redis), keys.RETRY, _dead_limits())


class DeadSet(JobSet):
    """Jobs that nobody tries again unless they are told to, as `SortedEntry`; `at` is when they died."""

    def __init__(self, *, redis: RedisOrUrl | None = None) -> None:
        super().__init__(_connected(redis), keys.DEAD, _dead_limits())


class ProcessSet(Processes):
    """The processes of Ruby and Python. ::

    for process in ProcessSet():                # a `Process`
        if process.hostname == "old":
            process.quiet()                     # or stop, dump_threads
    """

    def __init__(self, *, redis: RedisOrUrl | None = None) -> None:
        super().__init__(_connected(redis))


class WorkSet(RunningWork):
    """The jobs that run in them, as told by the last heartbeat of each: up to ten seconds ago. ::

    for work in WorkSet():                      # a `Work`
        print(work.process_id, work.thread_id, work.queue, work.run_at, work.job.display_class)
    """

    def __init__(self, *, redis: RedisOrUrl | None = None) -> None:
        super().__init__(_connected(redis))


class Stats(Totals):
    """The numbers of the Web UI's dashboard, read when it is made.

    `processed` and `failed` count executions. `enqueued` is how many jobs wait, `queues` how many in each queue, and
    `default_queue_latency` for how many seconds the oldest of "default" does. `scheduled_size`, `retry_size`,
    `dead_size`, `processes_size`, and `workers_size` for jobs that run.
    """

    def __init__(self, *, redis: RedisOrUrl | None = None) -> None:
        super().__init__(_connected(redis))


class History(DailyTotals):
    """`processed` and `failed` of the last `days` UTC days, or of those up to `newest`: `{"2026-11-22": 400, ...}`."""

    def __init__(self, days: int, newest: date | None = None, *, redis: RedisOrUrl | None = None) -> None:
        super().__init__(_connected(redis), days, newest)


def _connected(source: RedisOrUrl | None) -> redis_py.Redis:
    return default_client().connection if source is None else client_of(source)


def _dead_limits() -> DeadLimits:
    """What the dead set keeps, as code configured it. Whoever buries the next job trims it to its own limits anyway."""
    config = configured() or Config()
    return DeadLimits(config.dead_max_jobs, config.dead_timeout)
