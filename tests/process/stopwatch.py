"""Measuring how long something takes, on a machine that others use too."""

from __future__ import annotations

import threading
import time
from types import TracebackType

#: Seconds that the watching thread waits; what it oversleeps by more than as much again, the machine was stalled.
BLINK = 0.005


class Stopwatch:
    """`with Stopwatch() as watch: ...`, then `watch.seconds`.

    It leaves out the moments in which this machine was too busy to wake even a thread that only waits: a promise of so
    many milliseconds is made for a machine that lets the process run.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._overslept = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stopwatch", daemon=True)

    def __enter__(self) -> Stopwatch:
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        elapsed = time.monotonic() - self._started
        self._over.set()
        self._thread.join()
        self.seconds = elapsed - self._overslept

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._over.wait(BLINK):
            now = time.monotonic()
            if now - before > 2 * BLINK:
                self._overslept += now - before - BLINK
            before = now
