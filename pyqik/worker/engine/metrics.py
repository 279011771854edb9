"""What a process has executed since it last told: counted as what has ended is collected, drained by who reports it."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from pyqik.wire.statistics import Executions

#: The class of a job (None: one that nobody knows), the seconds that it took, and whether it failed.
Execution = tuple[str | None, float, bool]


class ExecutionCounter:
    """Counts executions, many at a time: a lock for each job would make job threads wait for each other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._executions = Executions()

    def add(self, executions: Iterable[Execution]) -> None:
        """Count these."""
        with self._lock:
            add = self._executions.add
            for name, elapsed, failed in executions:
                add(name, elapsed, failed=failed)

    def drain(self) -> Executions:
        """What was counted since the last drain."""
        with self._lock:
            drained, self._executions = self._executions, Executions()
        return drained
