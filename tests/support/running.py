"""Running what stands in a queue, with the real engine inside the test's own process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from pyqik.core.config import Config
from pyqik.core.events import events
from pyqik.wire.broker import UnitOfWork
from pyqik.worker.launcher import Launcher

ENDINGS = ("job.done", "job.failed", "job.discarded", "job.interrupted")


def run_queued(redis_url: str, queues: Sequence[str], jobs: int = 1, **config: Any) -> list[str]:
    """Run `jobs` jobs of `queues`, and stop; returns how each ended: the names of the events, such as `job.done`."""
    endings: list[str] = []
    ended: list[UnitOfWork] = []
    settled = threading.Semaphore(0)
    with ExitStack() as stack:
        for name in ENDINGS:
            stack.callback(events.subscribe(name, _appends(name, endings, ended)))

        def count(units: Sequence[UnitOfWork]) -> None:
            # Not those that were given back unstarted, as they would have waited for too long.
            for _ in [unit for unit in units if unit in ended]:
                settled.release()

        stack.callback(events.subscribe("job.settled", count))
        stack.enter_context(
            Launcher(Config(redis=redis_url, queues=list(queues), concurrency=1, poll=False, port=0, **config))
        )
        for _ in range(jobs):
            assert settled.acquire(timeout=10), f"fewer than {jobs} jobs were settled; they ended with {endings}"
    return endings


def _appends(name: str, endings: list[str], ended: list[UnitOfWork]) -> Callable[..., None]:
    def append(unit: UnitOfWork, **fields: object) -> None:
        ended.append(unit)
        endings.append(name)

    return append
