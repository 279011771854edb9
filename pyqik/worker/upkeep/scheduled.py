"""The poller: moves due retries and scheduled jobs to their queues, and removes dead processes from the list.

Every Sidekiq process polls, Ruby's and Python's, each for all; the more there are, the less often each of them does.
Source of the intervals: sidekiq/scheduled.rb at 8.1. It runs in a thread of its own, and stops at quiet.
"""

from __future__ import annotations

import random
import threading
from typing import Final

import redis
import structlog
from redis.exceptions import RedisError

from pyqik.core.clock import Clock
from pyqik.core.events import events
from pyqik.wire import presence, schedule

log = structlog.get_logger("pyqik")

#: Seconds before the first poll, plus up to as many random ones: a restarted fleet should not poll as one.
INITIAL_WAIT: Final = 10.0
INITIAL_SPREAD: Final = 5.0
#: From this many processes on, the interval is drawn from a wider range.
MANY_PROCESSES: Final = 10


class Poller:
    """See the module's docstring. `share` is the number of registered processes for which this one polls."""

    def __init__(
        self, client: redis.Redis, clock: Clock, *, average: float | None, scheduled_average: float, share: int = 1
    ) -> None:
        self._client = client
        self._clock = clock
        self._average = average
        self._scheduled_average = scheduled_average
        self._share = share
        self._failing = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pyqik-poller", daemon=True)

    def start(self) -> None:
        """Begin to poll."""
        self._thread.start()

    def stop(self) -> None:
        """Poll no more. Returns at once."""
        self._stopping.set()

    def join(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for the end."""
        self._thread.join(timeout)

    def poll(self) -> int:
        """Move everything that is due; how many jobs. Raises: redis.RedisError."""
        total = 0
        for sorted_set in schedule.SORTED_SETS:
            due = schedule.BATCH
            while due == schedule.BATCH and not self._stopping.is_set():
                due, moved = schedule.promote(self._client, sorted_set, self._clock.time())
                total += moved
        if total:
            log.debug("promoted due jobs", count=total)
            events.emit("schedule.promoted", count=total)
        return total

    def _run(self) -> None:
        wait = (0.0 if self._average else INITIAL_WAIT) + random.uniform(0.0, INITIAL_SPREAD)
        while not self._stopping.wait(wait):
            wait = self._scheduled_average
            try:
                presence.clean_up(self._client)
                self.poll()
                processes = presence.count_processes(self._client)
                wait = interval(processes, self._average, self._scheduled_average, self._share)
                self._failing = False
            except RedisError as error:
                log.log(10 if self._failing else 40, "the poller did not reach Redis", error=str(error))
                self._failing = True


def interval(
    processes: int, average: float | None, scheduled_average: float, share: int = 1, draw: float | None = None
) -> float:
    """Seconds until the next poll, so that all `processes` together poll every `scheduled_average` seconds.

    A process that stands for `share` of them polls so much more often. `draw` is a random number in [0, 1).
    """
    processes = max(processes, 1)
    mean = average or processes * scheduled_average / max(share, 1)
    drawn = random.random() if draw is None else draw
    return mean * (2 * drawn if processes >= MANY_PROCESSES else 0.5 + drawn)
