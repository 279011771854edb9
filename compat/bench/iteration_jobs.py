"""Long jobs that do nothing: what the engine costs for an item. The counterpart of iteration.rb.

Imported as a module of its own, not as `compat.bench.iteration_jobs`, so that any checkout of pyqik can run it.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import time
from collections.abc import Callable, Iterator

import redis

import pyqik
from pyqik import enumerators

results = redis.Redis.from_url(os.environ["REDIS_URL"])

#: Of each job that is to be stopped: when its next item was asked for last, and which one that was.
STAMP = struct.Struct("<dq")
with open(os.environ["BENCH_LEDGER"], "r+b") as file:
    STAMPS = mmap.mmap(file.fileno(), 0)


def report(style: str, count: int, seconds: float) -> None:
    """Tell the benchmark."""
    results.rpush("results", json.dumps([style, seconds / count * 1e6, resident_kb()]))


def resident_kb() -> int:
    """The memory of this process."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def timed(style: str, count: int, work: Callable[[], object]) -> None:
    """Do it and tell how long it took."""
    began = time.perf_counter()
    work()
    report(style, count, time.perf_counter() - began)


@pyqik.job("Bench::Bare")
def bare(count: int) -> None:
    """Python's own loops: nothing, and a call for each item."""
    items = list(range(count))

    def over() -> None:
        for _ in items:
            pass

    def calling() -> None:
        call = Iterable().each_iteration
        for item in items:
            call(item, count)

    timed("bare loop", count, over)
    timed("bare calls", count, calling)


@pyqik.job("Bench::Each")
def each(count: int) -> None:
    """`pyqik.each` in a plain function."""
    items = list(range(count))

    def over() -> None:
        for _ in pyqik.each(enumerators.array(items)):
            pass

    timed("each", count, over)


class Iterable(pyqik.IterableJob, name="Bench::Iterable"):
    """An iterable job."""

    began = 0.0

    def build_enumerator(self, count: int, *, cursor: int | None) -> pyqik.Source[int, int]:
        """As many numbers."""
        return enumerators.array(list(range(count)))

    def on_start(self) -> None:
        """The clock starts."""
        self.began = time.perf_counter()

    def each_iteration(self, item: int, count: int) -> None:
        """Nothing."""

    def on_complete(self) -> None:
        """The clock stops."""
        report("IterableJob", self.arguments[0], time.perf_counter() - self.began)


@pyqik.job("Bench::Stopped")
def stopped(number: int, work: str) -> None:
    """Goes on until it is stopped, and stamps each item as it is asked for."""

    def items(cursor: int | None) -> Iterator[tuple[int, int]]:
        item = cursor or 0
        while True:
            STAMP.pack_into(STAMPS, number * STAMP.size, time.time(), item)
            yield item, item
            item += 1

    for _ in pyqik.each(items):
        if work == "sleeps":
            time.sleep(0.05)
        else:
            sum(range(20_000))
