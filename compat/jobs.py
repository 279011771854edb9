"""The jobs that `pyqik work -r compat.jobs` runs in these tests. Each leaves in Redis what it did.

Nothing here knows of Ruby: it is what an author of jobs writes.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
from typing import Any

import redis

import pyqik

QUEUE = "python"


@functools.cache
def shared_redis() -> redis.Redis:
    """The Redis of the test; one client for all threads."""
    return redis.Redis.from_url(os.environ["REDIS_URL"])


def leave_evidence(args: tuple[Any, ...]) -> None:
    """Append {"jid", "args"} to the list `ran:<class>`, as compat/ruby/jobs.rb does."""
    job = pyqik.current()
    shared_redis().rpush(f"ran:{job.job_class}", json.dumps({"jid": job.jid, "args": args}))


@pyqik.job("Py::Record", queue=QUEUE, retry=3)
def record(*args: Any) -> None:
    """Says that it ran, and with what."""
    leave_evidence(args)


@pyqik.job("Py::RecordAsync", queue=QUEUE, retry=3)
async def record_async(*args: Any) -> None:
    """The same on the event loop."""
    leave_evidence(args)


@pyqik.job("Py::Failing", queue=QUEUE, retry=2)
def failing(message: str) -> None:
    """Fails every time."""
    leave_evidence((message,))
    raise ValueError(message)


@pyqik.job("Py::Healing", queue=QUEUE, retry=2)
def healing(key: str) -> None:
    """Fails until `key` exists."""
    if not shared_redis().exists(key):
        raise LookupError(f"there is no {key}")
    leave_evidence((key,))


@pyqik.job("Py::Discarding", queue=QUEUE)
def discarding() -> None:
    """Ends without a trace."""
    leave_evidence(())
    raise pyqik.Discard("not wanted")


@pyqik.job("Py::Killing", queue=QUEUE)
def killing() -> None:
    """Goes to the dead set at once."""
    raise pyqik.Kill("needs a person")


@pyqik.job("Py::Slow", queue=QUEUE)
def slow(*args: Any) -> None:
    """Runs until something is pushed to the list `release:<jid>`, or the worker ends it."""
    leave_evidence(args)
    while not shared_redis().blpop([f"release:{pyqik.current().jid}"], timeout=0.2):
        pass


@pyqik.job("Py::Handover", queue=QUEUE)
def handover(*args: Any) -> None:
    """Has the rest done in Ruby."""
    with pyqik.Client(os.environ["REDIS_URL"]) as client:
        client.push("RubyRecordJob", *args, queue="ruby")


@pyqik.job("Py::Count", queue=QUEUE)
def count(fails_first: bool) -> None:
    """Counts its runs in the hash `counted`; the counterpart of RubyCountJob."""
    runs = shared_redis().hincrby("counted", pyqik.current().jid, 1)
    if fails_first and runs == 1:
        raise pyqik.RetryIn(1)


@pyqik.job("Py::HoldTheGil", queue=QUEUE)
def hold_the_gil(seconds: int) -> None:
    """One long call in C with the GIL."""
    leave_evidence((seconds,))
    ctypes.PyDLL(None).sleep(seconds)


@pyqik.job("Py::Crashing", queue=QUEUE, retry=2)
def crashing(key: str) -> None:
    """Crashes its process until `key` exists."""
    if not shared_redis().exists(key):
        ctypes.string_at(0)
    leave_evidence((key,))
