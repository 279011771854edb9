"""The jobs that wait in a queue: how many, how long, which; and taking one or all of them out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import redis

from pyqik.wire import keys
from pyqik.wire.connection import Script
from pyqik.wire.job_record import JobRecord
from pyqik.wire.replies import text

RESUME: Final = Script("queue_resume")
#: Payloads that are read in one round trip.
PAGE_SIZE: Final = 100


class QueueEntry(JobRecord):
    """A job that waits in a queue."""

    def __init__(self, client: redis.Redis, raw: bytes, queue: str) -> None:
        super().__init__(raw, queue)
        self._client = client

    def delete(self) -> bool:
        """Take it out of its queue; False if it is no longer there. Raises: redis.RedisError."""
        return bool(self._client.lrem(keys.queue(self.queue), 1, self.raw))  # type: ignore[arg-type]  # bytes, too


class JobQueue:
    """A queue that is read over `client`. It is asked anew each time. Raises: redis.RedisError, everywhere."""

    def __init__(self, client: redis.Redis, name: str) -> None:
        self.name: Final = name
        """Its name, without the `queue:` of its key."""
        self._client = client
        self._key = keys.queue(name)

    @property
    def size(self) -> int:
        """How many jobs wait."""
        return int(self._client.llen(self._key))

    @property
    def latency(self) -> float:
        """Seconds for which the job waits that is next; 0.0 if none does."""
        oldest: Any = self._client.lindex(self._key, -1)
        return 0.0 if oldest is None else JobRecord(oldest).latency

    @property
    def paused(self) -> bool:
        """Whether Sidekiq Pro, or somebody else, has paused it. pyqik obeys; Sidekiq without Pro does not."""
        return bool(self._client.sismember(keys.PAUSED, self.name))

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[QueueEntry]:
        """Its jobs, the one that was pushed last first, as in Ruby; read in pages as the iteration goes on.

        Jobs may come and go meanwhile. One that stays is seen once. One that is pushed after the start is not seen,
        unless all around it has gone.
        """
        return (QueueEntry(self._client, raw, self.name) for raw in self._payloads())

    def find_job(self, jid: str) -> QueueEntry | None:
        """The job with that jid, or None. Slow: it reads the queue from its newest job on."""
        # Reading each payload as JSON would cost more than all the rest.
        candidates = (raw for raw in self._payloads() if jid.encode() in raw)
        entries = (QueueEntry(self._client, raw, self.name) for raw in candidates)
        return next((entry for entry in entries if entry.jid == jid), None)

    def clear(self) -> None:
        """Delete all of its jobs, and the queue from the list of queues. What runs goes on."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.unlink(self._key)
            pipe.srem(keys.QUEUES, self.name)
            pipe.execute()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def _payloads(self) -> Iterator[bytes]:
        most = self.size
        at = 0
        anchors: list[bytes] = []
        lost = False
        while not lost or most > 0:
            page: Any = self._client.lrange(self._key, at, at + PAGE_SIZE)
            if anchors and page[:1] != anchors[:1]:
                found = RESUME.run(self._client, (self._key,), (PAGE_SIZE, at, *anchors))
                # Nothing of the last page is left, so that what follows stands where that page stood. It may be new.
                lost = lost or not found
                at = found[0] if found else max(0, at - PAGE_SIZE)
                page = found[1:] if found else self._client.lrange(self._key, at, at + PAGE_SIZE)
            # Otherwise a reader who is slower than the queue would follow it for ever.
            seen = page[: min(PAGE_SIZE, most)] if lost else page[:PAGE_SIZE]
            yield from seen
            if len(page) <= PAGE_SIZE:
                return
            # First the one that comes next: whoever reads this cannot have deleted it yet.
            anchors = [page[PAGE_SIZE], *reversed(seen)]
            at += PAGE_SIZE
            most -= len(seen)


def queue_names(client: redis.Redis) -> list[str]:
    """The names of all queues, sorted. Raises: redis.RedisError."""
    return sorted({text(name) for name in client.sscan_iter(keys.QUEUES, count=1000)})
