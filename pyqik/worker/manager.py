"""The jobs of one process: the fetcher that takes them, and the threads and the event loop that run them.

Its tasks:
1. start and stop them, in order;
2. say how much may be taken: free slots, and a few milliseconds of work ahead while jobs are short;
3. know what runs.
It has no thread of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, cast

from pyqik.core.clock import Clock
from pyqik.core.config import Config
from pyqik.jobs.middleware import ServerMiddleware
from pyqik.jobs.registry import Registry
from pyqik.wire.broker import Broker, DeadLimits, UnitOfWork
from pyqik.wire.connection import open_redis
from pyqik.wire.presence import Running
from pyqik.wire.statistics import Executions
from pyqik.worker import stacks
from pyqik.worker.fetcher import PREFETCH_PATIENCE, Fetcher
from pyqik.worker.handlers import Handlers
from pyqik.worker.metrics import ExecutionCounter
from pyqik.worker.outcome import Outcome
from pyqik.worker.processor import Policy, Processor, Run
from pyqik.worker.queue_order import QueueOrder
from pyqik.worker.runners import AsyncRunner, ThreadRunner

#: Seconds of work that may wait locally, so that a thread never waits for a round trip between two short jobs.
PREFETCH: Final = 0.005
#: Units that may wait for each thread, however short the jobs are.
PREFETCH_LIMIT: Final = 50
#: Weight of the newest job in the measured pace.
PACE_WEIGHT: Final = 0.05


class Manager:
    """See the module's docstring. `on_end` is called once, from another thread, when everything that was taken is
    settled after `finish`, or when the fetcher died: with True or False.
    """

    def __init__(
        self,
        broker: Broker,
        order: QueueOrder,
        registry: Registry,
        policy: Policy,
        clock: Clock,
        *,
        concurrency: int,
        async_concurrency: int,
        on_end: Callable[[bool], None],
    ) -> None:
        self._registry = registry
        self._concurrency = concurrency
        self._async_concurrency = async_concurrency
        self._quiet = False
        self._counter = ExecutionCounter()
        self._processor = Processor(registry, policy, self._counter, clock, stopping=lambda: self._quiet)
        self._threads = ThreadRunner(concurrency, self._processor, self._ended)
        self._loop = AsyncRunner(self._processor, self._ended)
        self._fetcher = Fetcher(broker, order, self, clock, self._fetcher_ended)
        self._on_end = on_end
        self._lock = threading.Lock()
        self._in_threads: set[UnitOfWork] = set()
        self._on_loop: set[UnitOfWork] = set()
        self._pace = 1.0

    # For the launcher.

    def start(self) -> None:
        """Take and run jobs."""
        self._threads.start()
        self._fetcher.start()

    def quiet(self) -> None:
        """Take nothing more; what runs goes on."""
        self._quiet = True
        self._fetcher.quiet()

    def finish(self) -> None:
        """Take nothing more, and end when everything that runs has ended."""
        self._quiet = True
        self._fetcher.finish()

    def interrupt(self) -> None:
        """Raise `Shutdown` in every running job; as each ends, it is given back."""
        self._threads.interrupt()
        self._loop.interrupt()

    def join(self, timeout: float) -> bool:
        """Wait for the end; whether it came. Threads that still run jobs then are left alone."""
        deadline = time.monotonic() + timeout
        return (
            self._fetcher.join(timeout)
            and self._threads.join(max(0.0, deadline - time.monotonic()))
            and self._loop.join(max(0.0, deadline - time.monotonic()))
        )

    @property
    def is_quiet(self) -> bool:
        """Whether it has stopped taking."""
        return self._quiet

    @property
    def connected(self) -> bool:
        """Whether Redis answered last time."""
        return self._fetcher.connected

    def running(self) -> list[Running]:
        """What runs now; not what merely waits for a slot."""
        return self._threads.running() + self._loop.running()

    def dump_stacks(self) -> None:
        """Log what every thread and every asyncio task does, and which job it runs."""
        stacks.dump(self._threads.jids(), self._loop.tasks())

    def drain_executions(self) -> Executions:
        """What was executed since the last call."""
        return self._counter.drain()

    # For the fetcher's thread (see `fetcher.Runners`).

    def room(self) -> int:
        """Free slots, and what may wait. A taken unit may be of either kind, so both must have room."""
        threads = self._concurrency + self._prefetch() - len(self._in_threads)
        loop = self._async_concurrency - len(self._on_loop)
        if not self._registry.has_async:
            return threads
        return min(threads, loop) if self._registry.has_plain else loop

    def hand_out(self, units: Sequence[UnitOfWork]) -> None:
        """Open each unit and give it to a thread or to the loop."""
        for unit in units:
            run = self._processor.open(unit)
            if isinstance(run, Outcome):
                self._fetcher.ended(unit, run.place)
                continue
            with self._lock:
                (self._on_loop if run.is_async else self._in_threads).add(unit)
            if run.is_async:
                self._loop.submit(run)
            else:
                self._threads.submit(run)

    def backlog(self) -> int:
        """Units that wait for a thread."""
        return self._threads.backlog()

    def take_back(self, patience: float) -> Iterable[UnitOfWork]:
        """What waits for a thread and will not get one soon: a job has been running for longer than `patience`."""
        surplus = self._threads.backlog() - self._threads.idle()
        if surplus <= 0 or (patience and self._busy_for() <= patience):
            return ()
        runs = self._threads.take_back(surplus)
        with self._lock:
            self._in_threads.difference_update([run.unit for run in runs])
        return [run.unit for run in runs]

    def _prefetch(self) -> int:
        if self._busy_for() > PREFETCH_PATIENCE:
            return 0
        return self._concurrency * min(int(PREFETCH / self._pace), PREFETCH_LIMIT)

    def _busy_for(self) -> float:
        return self._threads.busy_for(time.perf_counter())

    def _fetcher_ended(self, clean: bool) -> None:
        """Nothing will be handed out any more: the threads and the loop end after what they run now."""
        self._threads.close()
        self._loop.close()
        self._on_end(clean)

    # For the runners' threads.

    def _ended(self, run: Run, outcome: Outcome) -> None:
        with self._lock:
            self._in_threads.discard(run.unit)
            self._on_loop.discard(run.unit)
        elapsed = time.perf_counter() - run.started
        self._pace += PACE_WEIGHT * (max(elapsed, 1e-6) - self._pace)
        self._fetcher.ended(run.unit, outcome.place)


def build_manager(
    config: Config, identity: str, registry: Registry, clock: Clock, on_end: Callable[[bool], None]
) -> Manager:
    """A manager as `config` wants it."""
    limits = DeadLimits(config.dead_max_jobs, config.dead_timeout)
    return Manager(
        Broker(open_redis(config.redis), identity, limits),
        QueueOrder(config.all_queues),
        registry,
        Policy(
            # Config leaves open what a middleware is called with: it holds those of two kinds.
            middleware=cast(Sequence[ServerMiddleware], config.server_middleware),
            max_retries=config.max_retries,
            log_arguments=config.log_arguments,
            default_retry=config.default_job_options.get("retry", True),
            handlers=Handlers(config.error_handlers, config.death_handlers),
        ),
        clock,
        concurrency=config.total_concurrency,
        async_concurrency=config.async_concurrency,
        on_end=on_end,
    )
