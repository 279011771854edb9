"""The manager's arithmetic: how much may be taken. Its threads are not started, and Redis is never spoken to."""

from __future__ import annotations

import time
from collections.abc import Callable

from pyqik.core.clock import SystemClock
from pyqik.core.config import Config
from pyqik.jobs.registry import Registry
from pyqik.wire.broker import UnitOfWork
from pyqik.wire.payload import decode
from pyqik.worker.manager import Manager, build_manager
from pyqik.worker.outcome import DONE
from pyqik.worker.processor import Run

RAW = b'{"class":"Some::Job","args":[],"jid":"0123456789abcdef01234567"}'


class Elapsed(float):
    """A job's duration; while it is looked at, something else happens."""

    meanwhile: Callable[[], None]

    def __lt__(self, other: float) -> bool:
        self.meanwhile()
        return float(self) < other


class Started(float):
    """When a job started that has taken `elapsed` by now, whatever the clock says."""

    elapsed: Elapsed

    def __rsub__(self, now: float) -> Elapsed:
        return self.elapsed


def end(manager: Manager, started: float) -> None:
    """What a thread does when its job has ended."""
    unit = UnitOfWork(b"1:1", "default", RAW)
    manager._ended(Run(unit, decode(RAW), None, started=started), DONE)


def test_a_slow_job_that_ends_beside_a_short_one_leaves_room_for_others() -> None:
    manager = build_manager(Config(concurrency=10), "host:1:a", Registry(), SystemClock(), lambda clean: None)
    for _ in range(500):
        end(manager, time.perf_counter())
    short = Started()
    short.elapsed = Elapsed(1e-5)
    short.elapsed.meanwhile = lambda: end(manager, time.perf_counter() - 1.0)

    end(manager, short)

    assert manager.room() >= 10
