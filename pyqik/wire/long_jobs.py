"""What stands in Redis of a long job, for whoever asks from outside: its state, its progress, its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import redis
import redis.asyncio

from pyqik.wire import keys

Hash = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class LongJob:
    """The hashes `it-<jid>`, `progress/<jid>`, `rows/<jid>`, and, if it was asked for, `errors/<jid>`; empty ones for
    those that are not there.
    """

    state: Hash
    progress: Hash = field(default_factory=dict)
    rows: Hash = field(default_factory=dict)
    errors: Hash = field(default_factory=dict)


def progress_fields(items: int, executions: int, now: float, *, ended: bool) -> list[tuple[str, bytes]]:
    """What the hash `progress/<jid>` says of any job: how many items its runs have done, how many have begun, when that
    was written, and when the job has ended (epoch seconds).
    """
    at = repr(now).encode()
    return [("items", b"%d" % items), ("ex", b"%d" % executions), ("at", at), ("ended", at if ended else b"")]


def read_long_job(client: redis.Redis, jid: str, *, errors: bool = False) -> LongJob:
    """What stands there in one instant. Raises: redis.RedisError."""
    with client.pipeline(transaction=True) as pipe:
        _ask(pipe, jid, errors)
        return LongJob(*pipe.execute())


async def read_long_job_async(client: redis.asyncio.Redis, jid: str, *, errors: bool = False) -> LongJob:
    """The same, for asyncio."""
    async with client.pipeline(transaction=True) as pipe:
        _ask(pipe, jid, errors)
        return LongJob(*(await pipe.execute()))


def _ask(pipe: Any, jid: str, errors: bool) -> None:  # Any: the two kinds of pipelines have no type in common
    for key in (keys.iteration(jid), keys.progress(jid), keys.rows(jid), *([keys.errors(jid)] if errors else [])):
        pipe.hgetall(key)
