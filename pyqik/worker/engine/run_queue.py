"""Runs that wait for a thread, and threads that wait for a run.

Unlike `queue.SimpleQueue` it does not wake a thread for each run: threads that only compete for the GIL make short jobs
slower. Who puts runs in says how many threads are worth waking.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyqik.worker.engine.processor import Run


class RunQueue:
    """First in, first out. No lock is shared: a deque's and a list's own operations are atomic."""

    def __init__(self) -> None:
        self._runs: deque[Run] = deque()
        #: The bells of the threads that wait; the one that came last is woken first, as its caches are warm.
        self._waiting: list[threading.Lock] = []
        self._closed = False

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def sleepers(self) -> int:
        """How many threads wait. One that is about to looks once more first, so a run that is there is not missed."""
        return len(self._waiting)

    def put(self, runs: Iterable[Run]) -> None:
        """Add `runs`; nobody is woken."""
        self._runs.extend(runs)

    def wake(self, count: int) -> None:
        """Wake up to `count` of the waiting threads."""
        for _ in range(min(count, len(self._waiting))):
            try:
                self._waiting.pop().release()
            except IndexError:
                return

    def get(self, bell: threading.Lock) -> Run | None:
        """The next run, awaited if there is none; None at the end. `bell` is the calling thread's own, and held."""
        while True:
            try:
                return self._runs.popleft()
            except IndexError:
                if self._closed:
                    return None
            self._waiting.append(bell)
            if self._runs or self._closed:
                # Something came between the look and the bell: it may have rung for nobody.
                try:
                    self._waiting.remove(bell)
                except ValueError:
                    bell.acquire()
            else:
                bell.acquire()

    def take_back(self, count: int) -> list[Run]:
        """The newest `count` runs, the newest first."""
        runs: list[Run] = []
        while len(runs) < count:
            try:
                runs.append(self._runs.pop())
            except IndexError:
                break
        return runs

    def close(self) -> None:
        """Let every thread end after what is still there."""
        self._closed = True
        self.wake(len(self._waiting))
