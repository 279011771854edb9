"""Putting payloads into queues and the schedule, in one round trip: a push repeated after a lost reply is harmless.

Every push is numbered by a pusher, an id that one call holds at a time; the script remembers the last number of each.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import redis
import redis.asyncio
from redis.exceptions import (
    AuthenticationError,
    ConnectionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from pyqik.wire import keys
from pyqik.wire.connection import Command, Script

PUSH: Final = Script("push")

#: Seconds to wait before each repetition. Short at first: most lost connections are an idle one that was cut.
REPEATS: Final = (0.0, 0.1, 0.5, 1.0, 2.0)

#: Seconds after which no further repetition begins, however slowly the attempts failed.
PATIENCE: Final = 5.0

#: Seconds for which a pusher's last number is remembered: longer than all attempts of one push take together.
FENCE_TTL: Final = 60

#: Error replies after which Sidekiq tries once more on a new connection: the master has moved.
_MASTER_MOVED: Final = ("READONLY", "NOREPLICAS", "UNBLOCKED")


@dataclass(slots=True)
class Batch:
    """What one round trip pushes: payloads by queue, the first to run first, and scheduled ones with their time."""

    queues: dict[str, list[bytes]] = field(default_factory=dict)
    scheduled: list[tuple[float, bytes]] = field(default_factory=list)

    def enqueue(self, queue: str, payload: bytes) -> None:
        """Add a payload to the end of `queue`."""
        self.queues.setdefault(queue, []).append(payload)

    def schedule(self, at: float, payload: bytes) -> None:
        """Add an entry that is due at `at` (epoch seconds)."""
        self.scheduled.append((at, payload))

    def __bool__(self) -> bool:
        return bool(self.queues or self.scheduled)


class Pusher:
    """Pushes over a redis-py client. Thread-safe, and safe to have been created before a fork."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._slots = _Slots()

    def push(self, batch: Batch) -> None:
        """Push `batch` as a whole.

        Raises: redis.ConnectionError or TimeoutError when Redis did not answer for about `PATIENCE` seconds: the batch
        may or may not have been pushed. redis.ResponseError when Redis refused it.
        """
        with self._slots.borrowed() as slot:
            push = _Push(slot, batch)
            while True:
                try:
                    PUSH.run(self._client, push.keys, push.arguments)
                    return
                except RedisError as error:
                    pause = push.pause_after(error)
                if push.master_moved:
                    self._client.connection_pool.disconnect(inuse_connections=False)
                time.sleep(pause)


class AsyncPusher:
    """The same as `Pusher`, for asyncio; bound to the event loop of its client."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._slots = _Slots()

    async def push(self, batch: Batch) -> None:
        """Push `batch` as a whole; raises what `Pusher.push` raises."""
        with self._slots.borrowed() as slot:
            push = _Push(slot, batch)
            while True:
                try:
                    await PUSH.run_async(self._client, push.keys, push.arguments)
                    return
                except RedisError as error:
                    pause = push.pause_after(error)
                if push.master_moved:
                    await self._client.connection_pool.disconnect(inuse_connections=False)
                await asyncio.sleep(pause)


class _Push:
    """One push and its attempts: the command, which stays the same, and when to give up."""

    def __init__(self, slot: _Slot, batch: Batch) -> None:
        self.keys = (
            keys.push_fence(slot.id),
            keys.QUEUES,
            keys.SCHEDULE,
            *[keys.queue(name) for name in batch.queues],
        )
        self.arguments = _arguments(slot.next_number(), batch)
        self.master_moved = False
        self._began = time.monotonic()
        self._pauses = iter(REPEATS)

    def pause_after(self, error: RedisError) -> float:
        """Seconds until the next attempt; raises `error` if there is none."""
        moved = isinstance(error, ReadOnlyError) or (
            # Anywhere in the text: Redis 6.2 puts what a script raised behind the script's name and line.
            isinstance(error, ResponseError) and any(word in str(error) for word in _MASTER_MOVED)
        )
        if moved and not self.master_moved:
            self.master_moved = True
            return 0.0
        # A wrong password is a ConnectionError to redis-py, and no patience mends it.
        lost = isinstance(error, (ConnectionError, TimeoutError)) and not isinstance(error, AuthenticationError)
        if not lost:
            raise error
        pause = next(self._pauses, None)
        if pause is None or time.monotonic() - self._began + pause > PATIENCE:
            raise error
        return pause


@dataclass(slots=True)
class _Slot:
    """A pusher's id and the number of its last push."""

    id: str
    number: int = 0

    def next_number(self) -> int:
        self.number += 1
        return self.number


class _Slots:
    """As many pusher ids as there ever were pushes at once: few, so that few fences stand in Redis."""

    def __init__(self) -> None:
        self._free: list[_Slot] = []
        self._generation = _generation

    @contextmanager
    def borrowed(self) -> Iterator[_Slot]:
        if self._generation != _generation:
            # Parent and child would count on with the same ids, and take each other's pushes for their own.
            self._free, self._generation = [], _generation
        try:
            slot = self._free.pop()
        except IndexError:
            slot = _Slot(secrets.token_hex(8))
        try:
            yield slot
        finally:
            self._free.append(slot)


_generation = 0


def _begin_generation() -> None:
    global _generation
    _generation += 1


os.register_at_fork(after_in_child=_begin_generation)


def _arguments(number: int, batch: Batch) -> Command:
    arguments: list[bytes | str | int | float] = [number, FENCE_TTL, len(batch.scheduled)]
    for at, payload in batch.scheduled:
        arguments += (repr(at), payload)
    for queue, payloads in batch.queues.items():
        arguments += (queue, len(payloads))
        arguments += payloads
    return arguments
