"""What the sides meet on: one Redis server with the jobs of a round in it, and the ledger of those that ran."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis

from compat.bench.ledger import Ledger
from compat.bench.running import redis_server
from compat.bench.sides import QUEUE
from compat.processes import RunningProgram

#: Jobs that a process runs before the clock starts; their numbers come after those of the round.
WARM_UP = 1000
QUEUE_KEY = f"queue:{QUEUE}"
#: Names that no process reads, under which jobs wait to appear in the queue.
STAGED, STAGED_WARM_UP = "staged", "staged:warm-up"


@dataclass(frozen=True, slots=True)
class Arena:
    """`with arena("redis-7", 100_000) as it: it.fill(); ...`."""

    url: str
    client: redis.Redis
    server: RunningProgram
    ledger: Ledger
    #: Jobs of a round, without those to warm up with.
    jobs: int

    def fill(self) -> None:
        """Write the jobs of a round, and those to warm up with, once for all rounds."""
        for name, first, count in ((STAGED, 0, self.jobs), (STAGED_WARM_UP, self.jobs, WARM_UP)):
            payloads = _payloads(first, count)
            while batch := [payload for _, payload in zip(range(1000), payloads, strict=False)]:
                self.client.lpush(name, *batch)
        self.client.sadd("queues", QUEUE)

    def prepare(self, name: str) -> None:
        """Copy what waits under `name`, so that `release` is a matter of microseconds."""
        self.client.copy(name, "ready")

    def release(self) -> float:
        """Let what was prepared appear in the queue, all at once; the `time.monotonic()` of that."""
        began = time.monotonic()
        self.client.rename("ready", QUEUE_KEY)
        return began

    def in_flight(self) -> int:
        """How many jobs are on record as taken (pyqik's; Sidekiq has no such record)."""
        # A unit's field is "<number of the take>:<n>"; the others are not of units.
        records = [self.client.hkeys(key) for key in self.client.keys("pyqik:in-flight:*")]
        return sum(b":" in field for fields in records for field in fields)

    def is_empty(self) -> bool:
        """Whether Redis has no jobs any more, neither in the queue nor taken."""
        return not self.client.exists(QUEUE_KEY) and self.in_flight() == 0 and self._landed() == 0

    def state(self) -> str:
        """Where the jobs of a round are, for an error's text."""
        missing, waiting = self.ledger.missing(self.jobs), self.client.llen(QUEUE_KEY)
        statistics = self.client.info("commandstats")
        emptied = sum(statistics.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("flushall", "flushdb"))
        return (
            f"of {self.jobs} jobs {missing} have not run; {waiting} are in the queue, {self.in_flight()} in flight, "
            f"{self._landed()} landed; Redis was emptied {emptied} times"
        )

    def processed(self) -> int:
        """Sidekiq's count of executions; either side brings it up to date when it stops."""
        return int(self.client.get("stat:processed") or 0)

    def _landed(self) -> int:
        return sum(self.client.llen(key) for key in self.client.keys("pyqik:landing:*"))


@contextmanager
def arena(kind: str, jobs: int) -> Iterator[Arena]:
    """A server of that kind (see `redis_server`) and a ledger of their own; both end with the block."""
    with (
        redis_server(kind) as (server, url),
        redis.Redis.from_url(url) as client,
        Ledger(jobs + WARM_UP) as ledger,
    ):
        yield Arena(url, client, server, ledger, jobs)


def _payloads(first: int, count: int) -> Iterator[str]:
    """What Sidekiq 8's client writes; 7 reads it as well."""
    now = int(time.time() * 1000)
    for index in range(first, first + count):
        job: dict[str, Any] = {
            "retry": True,
            "queue": QUEUE,
            "class": "Bench::Noop",
            "args": [index, f"customer-{index}@example.com", {"shop": index % 100}],
            "jid": f"{index:024x}",
            "created_at": now,
            "enqueued_at": now,
        }
        yield json.dumps(job, separators=(",", ":"))
