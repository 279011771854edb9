"""What a process has executed since it last told: counted by whoever runs jobs, drained by whoever reports it."""

from __future__ import annotations

import threading

from pyqik.wire.statistics import Executions


class ExecutionCounter:
    """Counts executions, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._executions = Executions()

    def add(self, name: str | None, elapsed: float, *, failed: bool) -> None:
        """Count one execution of the class `name` (None: one that nobody knows) that took `elapsed` seconds."""
        with self._lock:
            self._executions.add(name, elapsed, failed=failed)

    def drain(self) -> Executions:
        """What was counted since the last drain."""
        with self._lock:
            drained, self._executions = self._executions, Executions()
        return drained
