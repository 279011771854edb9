"""The jobs that the benchmarks run. Each says in Redis how long it took to start."""

from __future__ import annotations

import os
import time
from functools import cache

import redis

import pyqik

STARTS = "bench:starts"


@cache
def connection() -> redis.Redis:
    """One client for the process."""
    return redis.Redis.from_url(os.environ["REDIS_URL"])


@pyqik.job("Bench::Start", queue="q0")
def start(pushed_at: float) -> None:
    """Note the seconds from the push to here."""
    started = time.time()
    connection().rpush(STARTS, started - pushed_at)


@pyqik.job("Bench::Burn", queue="burn")
def burn(seconds: float) -> None:
    """Keep the GIL busy with Python code."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))
