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
from pyqik.wire.broker import BLOCK, Broker, UnitOfWork, Waiter
from pyqik.worker.engine.wakeup import Wakeup

#: Seconds beyond its own timeout after which a blocking move without an answer means that the server has gone.
OVERDUE: Final = 5.0
#: Seconds for which a server that has not noticed that a connection is gone (a cut cable) may still land a job for it.
DOUBT: Final = BLOCK + 1.0
#: Seconds in which an unblocked move must answer before it is unblocked once more, and how often that is done.
UNBLOCK_PATIENCE: Final = 0.05
UNBLOCK_ATTEMPTS: Final = 40


class Waiting:
    """The blocking moves of one process, and what they have landed.

    A take must not adopt everything from the landing lists while a move waits: it may land a job just before, whose
    reply is read just after, and that job would be started twice.
    """

    def __init__(self, broker: Broker, names: Sequence[str], clock: Clock) -> None:
        self._broker = broker
        self._clock = clock
        self._wakeup = Wakeup()
        self._poll = select.poll()
        self._poll.register(self._wakeup.fileno(), select.POLLIN)
        self._waiters = [broker.waiter(name) for name in names]
        self._armed: dict[int, Waiter] = {}
        self._fresh: list[UnitOfWork] = []
        #: Connections were closed before their replies were read.
        self._unread = False
        #: Until then the server may still serve a move whose connection is closed.
        self._doubt_until: float | None = None

    def claim(self, room: int, paused: Collection[str]) -> list[UnitOfWork]:
        """Up to `room` jobs that have landed, to be started before a take gives them their tokens."""
        if self._doubt_until is not None:
            # An older one may stand on the landing list, which the take would hold for the one that was started.
            return []
        claimed = [unit for unit in self._fresh if unit.queue not in paused][:room]
        self._fresh = [unit for unit in self._fresh if unit not in claimed]
        return claimed

    @property
    def landed(self) -> bool:
        """Whether something has landed, or may have, that nobody claimed."""
        return bool(self._fresh) or self._unread or self._doubt_is_over

    @property
    def adoptable(self) -> bool:
        """Whether the next take should adopt everything that has landed."""
        return not self._armed and (self.landed or self._doubt_until is not None)

    def adopted(self) -> None:
        """A take has just done so."""
        if self._doubt_is_over:
            self._doubt_until = None
        self._unread = False
        self._fresh.clear()

    @property
    def _doubt_is_over(self) -> bool:
        return self._doubt_until is not None and self._clock.monotonic() > self._doubt_until

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
        self._doubt_until = self._clock.monotonic() + DOUBT
        for fileno in self._armed:
            self._poll.unregister(fileno)
        self._armed.clear()
        # A take whose reply was lost may have given these back already; the next one tells.
        self._fresh.clear()
        self._unread = True
        self._close_lines()

    def close(self) -> None:
        """The end: nobody sleeps here any more."""
        self._close_lines()
        self._wakeup.close()

    def _close_lines(self) -> None:
        for waiter in self._waiters:
            waiter.close()

    def _stop(self, waiters: Sequence[Waiter]) -> None:
        for _ in range(UNBLOCK_ATTEMPTS):
            if not waiters:
                return
            if not self._broker.unblock(waiters):
                self.hang_up()
                return
            # An unblock may reach the server before the move that it is meant for, which then goes on waiting.
            answered = [waiter for waiter in waiters if waiter.answered(UNBLOCK_PATIENCE)]
            for waiter in answered:
                self._receive(waiter.line.fileno())
            waiters = [waiter for waiter in waiters if waiter not in answered]
        raise RedisTimeoutError("no answer to unblocked moves")

    def _receive(self, fileno: int) -> None:
        waiter = self._armed.pop(fileno)
        self._poll.unregister(fileno)
        unit = waiter.landed()
        if unit is not None:
            self._fresh.append(unit)
