"""The capsules of one process: each has queues, threads and a fetcher of its own. Together they are what takes and runs
jobs, whether in a child of `pyqik work` or inside a program.

Its tasks:
1. build them from the configuration, the default capsule first;
2. tell all of them to start, quiet down, finish and interrupt;
3. know what runs, and count what was executed.
They share the processor, the event loop and the board.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, cast

from pyqik.core.clock import Clock
from pyqik.core.config import Config
from pyqik.jobs.middleware import ServerMiddleware
from pyqik.jobs.registry import Registry
from pyqik.jobs.storage import ConfiguredStorage
from pyqik.jobs.timetable import Rhythm
from pyqik.wire.broker import Broker, DeadLimits, Part
from pyqik.wire.connection import open_redis
from pyqik.wire.presence import Running
from pyqik.wire.statistics import Executions
from pyqik.worker.engine import stacks
from pyqik.worker.engine.board import Board
from pyqik.worker.engine.fetcher import PROBE_INTERVAL
from pyqik.worker.engine.handlers import Handlers
from pyqik.worker.engine.manager import Manager
from pyqik.worker.engine.metrics import ExecutionCounter
from pyqik.worker.engine.processor import Policy, Processor
from pyqik.worker.engine.queue_order import QueueOrder
from pyqik.worker.engine.runners import EventLoop

#: How often jobs are interrupted whose outcomes nobody could write any more, a second apart.
LAST_INTERRUPTS: Final = 3


class Capsules:
    """See the module's docstring. `on_end` is called once, from another thread: with True when everything that was
    taken is settled after `finish`, or with False as soon as the fetcher of one of them died.

    What runs is shown on the board, in the file `board_fileno` if there is one. With `custody`, the identity of one,
    they run what waits there, one job at a time.
    """

    def __init__(
        self,
        config: Config,
        identity: str,
        registry: Registry,
        clock: Clock,
        on_end: Callable[[bool], None],
        board_fileno: int | None = None,
        custody: str = "",
    ) -> None:
        parts = config.all_capsules
        self._on_end = on_end
        self._lock = threading.Lock()
        self._unended = len(parts)
        self._failed = False
        self._quiet = False
        self._counter = ExecutionCounter()
        self._loop = EventLoop(len(parts))
        self._board = Board(sum(part.concurrency + part.async_concurrency for part in parts), board_fileno)
        #: What the author wants to be called when a job fails or dies.
        self.handlers = Handlers(config.error_handlers, config.death_handlers)
        processor = Processor(registry, policy_of(config, self.handlers), clock, stopping=lambda: self._quiet)
        limits = DeadLimits(config.dead_max_jobs, config.dead_timeout)
        self._managers: list[Manager] = []
        first_slot = 0
        for number, part in enumerate(parts):
            place = Part(part.name, number, len(parts))
            broker = Broker(open_redis(config.redis), identity, limits, place, lease=config.lease, custody=custody)
            self._managers.append(
                Manager(
                    broker,
                    QueueOrder(part.weights),
                    registry,
                    processor,
                    self._counter,
                    clock,
                    concurrency=part.concurrency,
                    async_concurrency=part.async_concurrency,
                    board=self._board,
                    first_slot=first_slot,
                    loop=self._loop,
                    timeout=config.timeout,
                    one_at_a_time=bool(custody),
                    on_end=self._ended,
                    probe_interval=min(PROBE_INTERVAL, config.lease / 3),
                )
            )
            first_slot += part.concurrency + part.async_concurrency

    def start(self) -> None:
        """Take and run jobs."""
        for manager in self._managers:
            manager.start()

    def quiet(self) -> None:
        """Take nothing more; what runs goes on."""
        self._quiet = True
        for manager in self._managers:
            manager.quiet()

    def finish(self) -> None:
        """Take nothing more, and end when everything that runs has ended."""
        self._quiet = True
        for manager in self._managers:
            manager.finish()

    def interrupt(self) -> None:
        """Raise `Shutdown` in every running job; as each ends, it is given back."""
        for manager in self._managers:
            manager.interrupt()

    def free_memory(self) -> None:
        """Have long jobs end at their next items, to go on elsewhere."""
        for manager in self._managers:
            manager.free_memory()

    def unwind(self) -> bool:
        """Finish, and interrupt every running job until it ends: nobody could write its outcome any more. Takes some
        seconds at most; whether all of them have ended.
        """
        self.finish()
        for _ in range(LAST_INTERRUPTS):
            self.interrupt()
            if self.join(1.0):
                return True
        return False

    def probe(self) -> None:
        """Ask Redis now whether this process still counts as alive; if it does not, they end, and not cleanly."""
        for manager in self._managers:
            manager.probe()

    @property
    def superseded(self) -> bool:
        """Whether they have ended, or are about to, because the process was declared dead."""
        return any(manager.superseded for manager in self._managers)

    def join(self, timeout: float) -> bool:
        """Wait for the end; whether it came. Threads that still run jobs then are left alone."""
        deadline = time.monotonic() + timeout
        ended = [manager.join(max(0.0, deadline - time.monotonic())) for manager in self._managers]
        return all(ended) and self._loop.join(max(0.0, deadline - time.monotonic()))

    @property
    def is_quiet(self) -> bool:
        """Whether they have stopped taking."""
        return self._quiet

    @property
    def connected(self) -> bool:
        """Whether Redis answered each of them last time."""
        return all(manager.connected for manager in self._managers)

    @property
    def silence(self) -> float:
        """For how many seconds the most silent fetcher has not come round: something in it takes that long."""
        return max(manager.silence for manager in self._managers)

    def running(self) -> list[Running]:
        """What runs now; not what merely waits for a slot."""
        return [entry.running for entry in self._board.entries()]

    def lost_slots(self) -> list[int]:
        """The slots on the board whose threads have gone without a word; with the event loop's, all that run on it."""
        return [slot for manager in self._managers for slot in manager.lost_slots()]

    def lost_the_loop(self) -> bool:
        """Whether the event loop's thread has gone without a word."""
        return self._loop.lost_its_thread()

    def dump_stacks(self) -> None:
        """Log what every thread and every asyncio task does, and which job it runs."""
        jobs = {ident: jid for manager in self._managers for ident, jid in manager.jids().items()}
        tasks = [(task, run.payload.jid) for manager in self._managers for task, run in manager.tasks()]
        stacks.dump(jobs, tasks)

    def drain_executions(self) -> Executions:
        """What was executed since the last call."""
        return self._counter.drain()

    def _ended(self, clean: bool) -> None:
        with self._lock:
            self._unended -= 1
            if self._failed or (clean and self._unended):
                return
            self._failed = not clean
        self._on_end(clean)


def policy_of(config: Config, handlers: Handlers) -> Policy:
    """What the configuration says of how jobs run."""
    return Policy(
        # Config leaves open what a middleware is called with: it holds those of two kinds.
        middleware=cast(Sequence[ServerMiddleware], config.server_middleware),
        max_retries=config.max_retries,
        log_arguments=config.log_arguments,
        default_retry=config.default_job_options.get("retry", True),
        rhythm=Rhythm(config.flush_interval, config.max_iteration_runtime),
        storage=ConfiguredStorage(config.files),
        handlers=handlers,
    )
