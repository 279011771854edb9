"""The entries of Sidekiq's schedule, retry and dead sets, and what an operator does with them.

Sidekiq takes an entry out and then puts it elsewhere; a crash in between loses it. Here one script moves it, if it is
still there as it was read, so that a call repeated after a lost reply changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import redis

from pyqik.core.errors import InvalidPayload
from pyqik.wire import keys
from pyqik.wire.broker import DeadLimits
from pyqik.wire.connection import Script
from pyqik.wire.job_record import JobRecord
from pyqik.wire.payload import COUNT_LIMIT, dead_entry, patch
from pyqik.wire.schedule import PROMOTE

PAGE: Final = Script("set_page")
#: Entries that are read, or moved, in one round trip.
PAGE_SIZE: Final = 100


@dataclass(frozen=True, slots=True)
class _Source:
    """Where entries stand, and what the dead set keeps."""

    client: redis.Redis
    key: str
    limits: DeadLimits

    def enqueue(self, jobs: Sequence[JobRecord], *, give_back_a_retry: bool) -> int:
        """Move jobs to the ends of their queues; how many were still there."""
        now = time.time()
        arguments: list[bytes | str] = []
        for job in jobs:
            # Float seconds: the only form that Sidekiq 6, 7 and 8 all read.
            changes: dict[str, Any] = {"enqueued_at": now}
            count = job.retry_count
            if give_back_a_retry and count is not None and abs(count) < COUNT_LIMIT:
                changes["retry_count"] = count - 1
            arguments += (job.raw, job.queue, patch(job.raw, changes), "")
        return self._move(arguments)

    def bury(self, jobs: Sequence[JobRecord]) -> int:
        """Move entries to the dead set; how many were still there."""
        now = time.time()
        arguments: list[bytes | str] = []
        for job in jobs:
            kept = dead_entry(job.raw, InvalidPayload(job.invalid), job.queue, now) if job.invalid else job.raw
            arguments += (job.raw, "", kept, repr(now))
        moved = self._move(arguments)
        with self.client.pipeline(transaction=True) as pipe:
            pipe.zremrangebyscore(keys.DEAD, "-inf", now - self.limits.max_age)
            pipe.zremrangebyrank(keys.DEAD, 0, -self.limits.most_entries)
            pipe.execute()
        return moved

    def _move(self, arguments: Sequence[bytes | str]) -> int:
        return int(PROMOTE.run(self.client, (self.key, keys.QUEUES, keys.DEAD), arguments))


class SortedEntry(JobRecord):
    """An entry of the schedule, retry or dead set.

    What it does is done if the entry is still there as it was read: the answer is False if somebody else was faster.
    No middleware of Ruby's or Python's runs, no death handler. Raises: redis.RedisError, everywhere.
    """

    def __init__(self, source: _Source, raw: bytes, score: float) -> None:
        super().__init__(raw)
        self.at: float = score
        """When it is due, or, in the dead set, when it died: its score."""
        self._source = source

    def add_to_queue(self) -> bool:
        """Move it to the end of its queue, now. Raises: InvalidPayload if it is no job, and leaves it where it is."""
        return self._enqueue(give_back_a_retry=False)

    def retry(self) -> bool:
        """The same, and this retry is not counted. Raises: InvalidPayload, as `add_to_queue`."""
        return self._enqueue(give_back_a_retry=True)

    def kill(self) -> bool:
        """Move it to the dead set."""
        return self._source.bury([self]) == 1

    def delete(self) -> bool:
        """Delete it."""
        return bool(self._source.client.zrem(self._source.key, self.raw))

    def reschedule(self, at: float | datetime) -> bool:
        """Have it due at another time: epoch seconds, or an aware datetime. Raises: ValueError for a naive one."""
        score = _score(at)
        with self._source.client.pipeline(transaction=True) as pipe:
            pipe.zadd(self._source.key, {self.raw: score}, xx=True)
            pipe.zscore(self._source.key, self.raw)
            there = pipe.execute()[1] is not None
        if there:
            self.at = score
        return there

    def _enqueue(self, *, give_back_a_retry: bool) -> bool:
        if self.invalid:
            raise InvalidPayload(f"an entry of {self._source.key} is no job: {self.invalid}; kill() or delete() it")
        return self._source.enqueue([self], give_back_a_retry=give_back_a_retry) == 1


class JobSet:
    """A sorted set of jobs, read over `client`. It is asked anew each time. Raises: redis.RedisError, everywhere."""

    def __init__(self, client: redis.Redis, key: str, limits: DeadLimits) -> None:
        self.name: Final = key
        """Its key."""
        self._source = _Source(client, key, limits)

    @property
    def size(self) -> int:
        """How many entries it has."""
        return int(self._source.client.zcard(self.name))

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[SortedEntry]:
        """Its entries, the latest time first, as in Ruby; read in pages as the iteration goes on.

        Entries may come and go meanwhile. One that stays is seen once; one that comes with a later time is not.
        """
        last: tuple[float, bytes] | None = None
        score, skip = b"", 0
        while page := self._page(last and (score, last[1]), skip):
            skip += len(page)
            for member, text in page:
                # Redis orders entries of the same score by their bytes.
                if last is None or (float(text), member) < last:
                    last, score, skip = (float(text), member), text, 0
                    yield SortedEntry(self._source, member, last[0])

    def scan(self, match: str) -> Iterator[SortedEntry]:
        """The entries whose text has `match` in it, or fits it if it has a `*` (a pattern of Redis), in no order.

        An entry that is moved meanwhile may be seen twice. Example: `RetrySet().scan("Billing::")`.
        """
        pattern = match if "*" in match else f"*{match}*"
        for member, score in self._source.client.zscan_iter(self.name, match=pattern, count=PAGE_SIZE):
            yield SortedEntry(self._source, member, score)

    def find_job(self, jid: str) -> SortedEntry | None:
        """The entry with that jid, or None. Slow: Redis looks through the whole set."""
        literal = "".join(f"\\{character}" if character in "*?[]\\" else character for character in jid)
        return next((entry for entry in self.scan(f"*{literal}*") if entry.jid == jid), None)

    def fetch(self, score: float | tuple[float, float], jid: str | None = None) -> list[SortedEntry]:
        """The entries of that time, or between two times (both included), the earliest first; of that jid only."""
        first, last = score if isinstance(score, tuple) else (score, score)
        found: Any = self._source.client.zrange(self.name, first, last, byscore=True, withscores=True)
        entries = [SortedEntry(self._source, member, at) for member, at in found]
        return [entry for entry in entries if jid is None or entry.jid == jid]

    def retry_all(self) -> int:
        """Retry each entry that is there now, the earliest first; how many. What is no job stays where it is."""
        return self._each_page(
            lambda jobs: self._source.enqueue(jobs, give_back_a_retry=True), lambda job: not job.invalid
        )

    def kill_all(self) -> int:
        """Move each entry that is there now to the dead set; how many."""
        return self._each_page(self._source.bury, lambda job: True)

    def clear(self) -> None:
        """Delete all of its entries."""
        self._source.client.unlink(self.name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def _page(self, below: tuple[bytes, bytes] | None, skip: int) -> list[tuple[bytes, bytes]]:
        flat = PAGE.run(self._source.client, (self.name,), (PAGE_SIZE, skip, *(below or ())))
        return list(zip(flat[::2], flat[1::2], strict=True))

    def _each_page(self, move: Callable[[list[JobRecord]], int], meant: Callable[[JobRecord], bool]) -> int:
        """Move the entries that are meant, page by page, as many as there are at the start; how many were moved."""
        moved = left_behind = 0
        todo = self.size
        while todo > 0:
            last = left_behind + min(todo, PAGE_SIZE) - 1
            page: Any = self._source.client.zrange(self.name, left_behind, last)
            if not page:
                break
            jobs = [job for job in map(JobRecord, page) if meant(job)]
            moved += move(jobs) if jobs else 0
            left_behind += len(page) - len(jobs)
            todo -= len(page)
        return moved


def _score(at: float | datetime) -> float:
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise ValueError(f"the time {at.isoformat()} has no time zone; write datetime(..., tzinfo=UTC)")
        return at.timestamp()
    return float(at)
