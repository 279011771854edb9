"""Giving back the jobs of a process that has ended, however it ended, and minding the suspects of crashes.

One thread of its own does it, so that it waits neither for a slow heartbeat nor for anything else, and it does not rest
until Redis has taken the jobs. Twice: a blocking move of a killed process may still land a job until Redis
notices that nobody is there any more.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import redis
import structlog
from redis.exceptions import RedisError

from pyqik.core.clock import Clock
from pyqik.wire.broker import BLOCK, recover
from pyqik.worker.upkeep.crash import Crash
from pyqik.worker.upkeep.suspects import Suspects

log = structlog.get_logger("pyqik")

#: Seconds after which it looks again: soon, and when every blocking move has certainly timed out on the server.
AGAIN: Final = (0.2, BLOCK + 1.0)
#: Seconds between two attempts while Redis is away.
RETRY: Final = 0.25


@dataclass(order=True, slots=True)
class _Due:
    """Something to do. What is `owed` is done before the end, if Redis allows it."""

    at: float
    number: int
    act: Callable[[], None] = field(compare=False)
    complain: Callable[..., None] = field(compare=False)
    owed: bool = field(compare=False)


class Recovery:
    """See the module's docstring. Without `suspects` no crash is looked into, and everything is given back."""

    def __init__(self, client: redis.Redis, clock: Clock, suspects: Suspects | None = None) -> None:
        self._client = client
        self._clock = clock
        self._suspects = suspects
        self._changed = threading.Condition()
        self._due: list[_Due] = []
        self._numbers = itertools.count()
        self._tending = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="pyqik-recovery", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def give_back(self, identity: str, on_recovered: Callable[[int], None], crash: Crash | None = None) -> None:
        """Give back what `identity` held, except for the suspects if it ended by a `crash`.

        `on_recovered` hears how many went back, in this part's thread, when Redis has them.
        """
        self._add(0.0, lambda: self._recover(identity, on_recovered, crash), _not_given_back(identity), owed=True)

    def release_suspects(self, on_released: Callable[[], None]) -> None:
        """Give back what waits in custody, and detain nothing any more; `on_released` hears when that is done."""
        assert self._suspects is not None
        suspects = self._suspects
        suspects.close()

        def release() -> None:
            suspects.release()
            on_released()

        self._add(0.0, release, partial(log.error, "could not give back yet what waits to run alone"), owed=True)

    def look_up(self, act: Callable[[Suspects], None]) -> None:
        """Ask Redis something, in this part's thread; not at all if it does not answer."""
        if self._suspects is not None:
            suspects = self._suspects

            def ask() -> None:
                with contextlib.suppress(RedisError):
                    act(suspects)

            self._add(0.0, ask, _not_tended, owed=False)

    def stop(self, timeout: float) -> None:
        """Do what is due by now, and end. Waits up to `timeout` seconds."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout)

    def _recover(self, identity: str, on_recovered: Callable[[int], None], crash: Crash | None) -> None:
        if crash is not None and self._suspects is not None:
            self._suspects.judge(identity, crash)
            self._tend_later(self._suspects)
        count = self._give_back(identity)
        on_recovered(count)
        for delay in AGAIN:
            self._add(delay, lambda: self._look_again(identity), _not_given_back(identity), owed=False)

    def _look_again(self, identity: str) -> None:
        self._give_back(identity)

    def _give_back(self, identity: str) -> int:
        count = recover(self._client, identity)
        if count:
            log.info("gave back the jobs of an ended process", identity=identity, count=count)
        return count

    def _tend_later(self, suspects: Suspects) -> None:
        """Renew the lease of what waits in custody, again and again until nothing does."""
        if not self._tending:
            self._tending = True
            self._add(suspects.tend_interval, lambda: self._tend(suspects), _not_tended, owed=False)

    def _tend(self, suspects: Suspects) -> None:
        self._tending = suspects.tend() > 0
        if self._tending and not self._stopping:
            self._add(suspects.tend_interval, lambda: self._tend(suspects), _not_tended, owed=False)

    def _add(self, delay: float, act: Callable[[], None], complain: Callable[..., None], *, owed: bool) -> None:
        with self._changed:
            at = self._clock.monotonic() + delay
            heapq.heappush(self._due, _Due(at, next(self._numbers), act, complain, owed))
            self._changed.notify()

    def _run(self) -> None:
        while (due := self._next()) is not None:
            try:
                due.act()
            except RedisError as error:
                due.complain(error=str(error))
                if due.owed or not self._stopping:
                    self._add(RETRY, due.act, due.complain, owed=due.owed)

    def _next(self) -> _Due | None:
        """The next one, when its time has come; None at the end."""
        with self._changed:
            while True:
                now = self._clock.monotonic()
                if self._due and self._due[0].at <= now:
                    return heapq.heappop(self._due)
                if self._stopping:
                    # The second looks are brought forward; while Redis is away there is nothing that could be done.
                    return heapq.heappop(self._due) if self._due and not self._due[0].owed else None
                self._changed.wait(self._due[0].at - now if self._due else None)


def _not_given_back(identity: str) -> Callable[..., None]:
    return partial(log.error, "could not give back the jobs of an ended process yet", identity=identity)


def _not_tended(error: str) -> None:
    # Not loudly: the heartbeat says it too.
    log.debug("the lease of what waits to run alone could not be renewed", error=error)
