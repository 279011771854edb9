"""Giving back the jobs of a process that has ended, however it ended.

One thread of its own does it, so that it waits neither for a slow heartbeat nor for anything else, and it does not rest
until Redis has taken the jobs. Twice: a blocking move of a killed process may still land a job until Redis
notices that nobody is there any more.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import redis
import structlog
from redis.exceptions import RedisError

from pyqik.core.clock import Clock
from pyqik.wire.broker import BLOCK, recover

log = structlog.get_logger("pyqik")

#: Seconds after which it looks again: soon, and when every blocking move has certainly timed out on the server.
AGAIN: Final = (0.2, BLOCK + 1.0)
#: Seconds between two attempts while Redis is away.
RETRY: Final = 0.25


@dataclass(order=True, slots=True)
class _Due:
    at: float
    number: int
    identity: str = field(compare=False)
    on_recovered: Callable[[int], None] | None = field(compare=False)


class Recovery:
    """See the module's docstring."""

    def __init__(self, client: redis.Redis, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._changed = threading.Condition()
        self._due: list[_Due] = []
        self._numbers = itertools.count()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="pyqik-recovery", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def give_back(self, identity: str, on_recovered: Callable[[int], None]) -> None:
        """Give back what `identity` held; `on_recovered` hears how many, in this part's thread, when Redis has them."""
        self._add(0.0, identity, on_recovered)

    def stop(self, timeout: float) -> None:
        """Do what is due by now, and end. Waits up to `timeout` seconds."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout)

    def _add(self, delay: float, identity: str, done: Callable[[int], None] | None) -> None:
        with self._changed:
            at = self._clock.monotonic() + delay
            heapq.heappush(self._due, _Due(at, next(self._numbers), identity, done))
            self._changed.notify()

    def _run(self) -> None:
        while (due := self._next()) is not None:
            try:
                count = recover(self._client, due.identity)
            except RedisError as error:
                log.error(
                    "could not give back the jobs of an ended process yet", identity=due.identity, error=str(error)
                )
                if due.on_recovered is not None or not self._stopping:
                    self._add(RETRY, due.identity, due.on_recovered)
                continue
            if count:
                log.info("gave back the jobs of an ended process", identity=due.identity, count=count)
            if due.on_recovered is not None:
                due.on_recovered(count)
                for delay in AGAIN:
                    self._add(delay, due.identity, None)

    def _next(self) -> _Due | None:
        """The next one, when its time has come; None at the end."""
        with self._changed:
            while True:
                now = self._clock.monotonic()
                if self._due and self._due[0].at <= now:
                    return heapq.heappop(self._due)
                if self._stopping:
                    # The second looks are brought forward; while Redis is away there is nothing that could be done.
                    return heapq.heappop(self._due) if self._due and self._due[0].on_recovered is None else None
                self._changed.wait(self._due[0].at - now if self._due else None)
