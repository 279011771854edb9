"""Which jobs of a round ran, and how often: a file that every process of the round maps, one byte for each job.

A job counts itself with one addition in memory, in Ruby and in Python alike, and the count outlives a process that is
killed: nothing has to be written at the end.
"""

from __future__ import annotations

import mmap
import tempfile
from types import TracebackType


class Ledger:
    """`with Ledger(jobs) as ledger: ...`; `ledger.path` goes to the processes in BENCH_LEDGER."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._file = tempfile.NamedTemporaryFile(prefix="pyqik-ledger-")  # noqa: SIM115 # closed in __exit__
        self._file.truncate(jobs)
        self._map = mmap.mmap(self._file.fileno(), jobs)
        self.path = self._file.name

    def clear(self) -> None:
        """Begin a new round: no job has run."""
        self._map[:] = bytes(self.jobs)

    def ran(self, first: int, end: int) -> bool:
        """Whether each job from `first` to before `end` has run. Costs a few microseconds: made to be polled."""
        return self._map.find(b"\0", first, end) == -1

    def missing(self, end: int) -> int:
        """How many of the jobs before `end` never ran."""
        return self._map[:end].count(0)

    def repeated(self, end: int) -> int:
        """How many of the jobs before `end` ran more than once."""
        return end - self.missing(end) - self._map[:end].count(1)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._map.close()
        self._file.close()
