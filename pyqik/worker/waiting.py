"""Waiting for work: one blocking move for each queue, all in one poll together with the fetcher's own wake-up.

A blocking move costs nothing while it waits, wakes one process for each job, and stands in Redis's own line of blocked
clients, so Sidekiq's processes get their fair share. It is used by the fetcher's thread alone.
"""

from __future__ import annotations

import select
from collections.abc import Collection, Sequence
from typing import Final

from redis.exceptions import TimeoutError as RedisTimeoutError

from pyqik.core.clock import Clock
from pyqik.wire.broker import BLOCK, Broker, Waiter
from pyqik.worker.wakeup import Wakeup

#: Seconds beyond its own timeout after which a blocking move without an answer means that the server has gone.
OVERDUE: Final = 5.0


class Waiting:
    """The blocking moves of one process. `landed`: one of them brought a job that no take has adopted yet."""

    def __init__(self, broker: Broker, names: Sequence[str], clock: Clock) -> None:
        self._broker = broker
        self._clock = clock
        self._wakeup = Wakeup()
        self._poll = select.poll()
        self._poll.register(self._wakeup.fileno(), select.POLLIN)
        self._waiters = [broker.waiter(name) for name in names]
        self._armed: dict[int, Waiter] = {}
        self.landed = False

    @property
    def armed(self) -> bool:
        """Whether any blocking move waits."""
        return bool(self._armed)

    def start(self, paused: Collection[str]) -> None:
        """Wait on every queue that is not paused, and no longer on those that are. Raises: redis.RedisError."""
        self._stop([waiter for waiter in self._armed.values() if waiter.queue in paused])
        now = self._clock.monotonic()
        for waiter in self._waiters:
            if not waiter.armed and waiter.queue not in paused:
                fileno = waiter.arm(now)
                self._armed[fileno] = waiter
                self._poll.register(fileno, select.POLLIN)

    def stop(self) -> None:
        """Wait on no queue: what a blocking move brought now would keep others from it. Raises: redis.RedisError."""
        self._stop(list(self._armed.values()))

    def sleep(self, limit: float) -> None:
        """Sleep until a job lands, until `wake`, or for `limit` seconds. Raises: redis.RedisError."""
        for fileno, _ in self._poll.poll(limit * 1000):
            if fileno == self._wakeup.fileno():
                self._wakeup.drain()
            else:
                self._receive(fileno)
        now = self._clock.monotonic()
        for waiter in self._armed.values():
            if now - waiter.armed_at > BLOCK + OVERDUE:
                raise RedisTimeoutError(f"no answer to the blocking move on queue {waiter.queue!r}")

    def wake(self) -> None:
        """End the sleep, from another thread."""
        self._wakeup.wake()

    def hang_up(self) -> None:
        """Close every connection. What landed meanwhile is adopted by the next take, or recovered."""
        for fileno in self._armed:
            self._poll.unregister(fileno)
        self._armed.clear()
        self.landed = True
        self._close_lines()

    def close(self) -> None:
        """The end: nobody sleeps here any more."""
        self._close_lines()
        self._wakeup.close()

    def _close_lines(self) -> None:
        for waiter in self._waiters:
            waiter.close()

    def _stop(self, waiters: Sequence[Waiter]) -> None:
        if not waiters:
            return
        if self._broker.unblock(waiters):
            for waiter in waiters:
                self._receive(waiter.line.fileno())
        else:
            self.hang_up()

    def _receive(self, fileno: int) -> None:
        waiter = self._armed.pop(fileno)
        self._poll.unregister(fileno)
        self.landed |= waiter.landed()
