"""The jobs of the latency benchmark. One says in Redis how long it took to start, the other keeps a thread busy."""

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


@pyqik.job("Bench::Burn", queue="q0")
def burn() -> None:
    """Keep the GIL busy with Python code until this process is told to stop."""
    while not pyqik.current().stopping():
        for _ in range(100):
            sum(range(1000))
