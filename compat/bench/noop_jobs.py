"""The job that does nothing but count itself, and a middleware around it: the counterpart of noop.rb.

Imported as a module of its own, not as `compat.bench.noop_jobs`, so that any checkout of pyqik can run it.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

import pyqik

with open(os.environ["BENCH_LEDGER"], "r+b") as file:
    #: One byte for each job, shared with the benchmark. No two threads ever count the same job.
    RAN = mmap.mmap(file.fileno(), 0)


@pyqik.job("Bench::Noop", queue="bench")
def noop(index: int, email: str, options: dict[str, int]) -> None:
    """Count the run of job number `index`."""
    RAN[index] += 1


def passing(payload: pyqik.Payload) -> Iterator[None]:
    """A middleware that does nothing."""
    yield


pyqik.configure(pyqik.Config(server_middleware=[passing]))
