"""The jobs of one capsule: the fetcher that takes them, and the threads and the event loop that run them.

Its tasks:
1. start and stop them, in order;
2. say how much may be taken: free slots, and a few milliseconds of work ahead while jobs are short;
3. collect what has ended.
It has no thread of its own.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Final

from pyqik.core.clock import Clock
from pyqik.jobs.registry import Registry
from pyqik.wire.broker import FRONT, Broker, Place, UnitOfWork
from pyqik.worker.engine.board import Board
from pyqik.worker.engine.fetcher import IDLE_TAKE, PREFETCH_PATIENCE, PROBE_INTERVAL, Fetcher
from pyqik.worker.engine.metrics import Execution, ExecutionCounter
from pyqik.worker.engine.outcome import DONE, Ending, Outcome
from pyqik.worker.engine.processor import Processor, Run
from pyqik.worker.engine.queue_order import QueueOrder
from pyqik.worker.engine.runners import AsyncRunner, EventLoop, ThreadRunner
from pyqik.worker.engine.states import States, UnitKeeper

#: Seconds of work that may wait locally, so that a thread never waits for a round trip between two short jobs.
PREFETCH: Final = 0.005
#: Units that may wait for each thread, however short the jobs are.
PREFETCH_LIMIT: Final = 50
#: Seconds; jobs that are shorter on average are left to one thread as long as none of them takes longer.
SHORT: Final = 0.0002
#: Seconds after which it is looked whether a job is short after all.
LOOK_AGAIN: Final = 0.001
#: Weight of the newest job in the measured pace.
PACE_WEIGHT: Final = 0.05
#: Units that are taken at a time: a script over more would make everybody else wait for Redis.
TAKE_LIMIT: Final = 250
#: Seconds after which what has ended is settled, while there is enough to do locally.
SETTLE_WITHIN: Final = 0.005
#: Units that are taken when only the threads or only the loop has room, and seconds until that is tried again with a
#: queue that had nothing for it.
OVERTAKE: Final = 50
OVERTAKE_INTERVAL: Final = 0.25


class Manager:
    """See the module's docstring. `on_end` is called once, from another thread, when everything that was taken is
    settled after `finish`, or when the fetcher died: with True or False.
    """

    def __init__(
        self,
        broker: Broker,
        order: QueueOrder,
        registry: Registry,
        processor: Processor,
        counter: ExecutionCounter,
        clock: Clock,
        *,
        concurrency: int,
        async_concurrency: int,
        board: Board,
        first_slot: int,
        loop: EventLoop,
        timeout: float = 25.0,
        one_at_a_time: bool = False,
        on_end: Callable[[bool], None],
        probe_interval: float = PROBE_INTERVAL,
    ) -> None:
        self._registry = registry
        self._concurrency = concurrency
        self._async_concurrency = async_concurrency
        self._processor = processor
        self._counter = counter
        self._board = board
        self._threads = ThreadRunner(concurrency, processor, self._ended, board, first_slot)
        self._tasks = AsyncRunner(async_concurrency, processor, self._ended, board, first_slot + concurrency, loop)
        self._states = States(self._wake_fetcher, timeout, concurrency)
        self._keeper_of = partial(UnitKeeper, self._states)
        self._fetcher = Fetcher(broker, order, self, clock, self._fetcher_ended, probe_interval)
        self._on_end = on_end
        self._one_at_a_time = one_at_a_time
        self._finished: deque[tuple[Run, Outcome]] = deque()
        #: With how many units waiting for a thread the next ending wakes the fetcher.
        self._wake_at = math.inf
        # What follows belongs to the fetcher's thread.
        self._in_threads = 0
        self._on_loop = 0
        self._returned: list[tuple[UnitOfWork, Place]] = []
        #: Queues whose next job was of the kind for which there was no room, and when.
        self._stuck: dict[str, float] = {}
        self._pace = 1.0

    # For the child or the launcher.

    def start(self) -> None:
        """Take and run jobs."""
        self._threads.start()
        self._fetcher.start()

    def quiet(self) -> None:
        """Take nothing more; what runs goes on, long jobs to the end of their current items."""
        self._fetcher.quiet()
        self._states.rouse()

    def finish(self) -> None:
        """Take nothing more, and end when everything that runs has ended."""
        self._fetcher.finish()
        self._states.rouse()

    def interrupt(self) -> None:
        """Raise `Shutdown` in every running job; as each ends, it is given back."""
        self._threads.interrupt()
        self._tasks.interrupt()
        self._states.interrupt()

    def free_memory(self) -> None:
        """Have long jobs end at their next items, to go on elsewhere."""
        self._states.free_memory()

    def probe(self) -> None:
        """Ask Redis now whether this process still counts as alive; if it does not, this ends, and not cleanly."""
        self._fetcher.probe()

    @property
    def superseded(self) -> bool:
        """Whether it has ended because the process was declared dead."""
        return self._fetcher.superseded

    def join(self, timeout: float) -> bool:
        """Wait for the end of the fetcher and of the threads; whether it came. Those that still run are left alone."""
        deadline = time.monotonic() + timeout
        return self._fetcher.join(timeout) and self._threads.join(max(0.0, deadline - time.monotonic()))

    @property
    def connected(self) -> bool:
        """Whether Redis answered last time."""
        return self._fetcher.connected

    @property
    def silence(self) -> float:
        """For how many seconds the fetcher has not come round."""
        return self._fetcher.silence

    def jids(self) -> dict[int, str]:
        """The ident of each thread that runs a job, and that job's jid."""
        return self._threads.jids()

    def tasks(self) -> list[tuple[asyncio.Task[None], Run]]:
        """Each task that runs a job, and its run."""
        return self._tasks.tasks()

    def lost_slots(self) -> list[int]:
        """The slots on the board whose threads have gone without a word; with the event loop's, all that run on it."""
        return self._threads.lost_slots() + self._tasks.lost_slots()

    # For the fetcher's thread (see `fetcher.Runners`).

    def collect(self) -> list[tuple[UnitOfWork, Place]]:
        """What has ended since the last call, each unit once, and where it goes."""
        self._states.tick()
        ended, self._returned = self._returned, []
        executions: list[Execution] = []
        for _ in range(len(self._finished)):
            run, outcome = self._finished.popleft()
            if run.over:
                continue
            run.over = True
            place = outcome.place
            if run.long_run is not None:
                self._states.forget(run.unit)
                place = self._states.place(place)
            ended.append((run.unit, place))
            if run.is_async:
                self._on_loop -= 1
            else:
                self._in_threads -= 1
                self._pace += PACE_WEIGHT * (run.elapsed - self._pace)
            if outcome.ending is not Ending.INTERRUPTED:
                known = run.payload.display_class if run.definition else None
                executions.append((known, run.elapsed, outcome is not DONE and outcome.failed))
        if executions:
            self._counter.add(executions)
        return ended

    def room(self) -> int:
        """How many units may be taken. If only one kind has room, some are taken to find those of this kind among them;
        the others go back.
        """
        if self._one_at_a_time:
            return 0 if self._in_threads or self._on_loop else 1
        if self._threads.backlog() > (ahead := self._prefetch()) // 2 and ahead:
            return 0  # Few round trips with many units each.
        threads, tasks = self._room_in_threads(), self._room_on_loop()
        if threads and tasks:
            return min(threads, tasks)
        return OVERTAKE if (threads or tasks) and self._is_mixed else 0

    def stuck_queues(self) -> Collection[str]:
        """The queues of which nothing is to be taken now: the kind of their next job has no room."""
        if not self._stuck:
            return ()
        since = time.monotonic() - OVERTAKE_INTERVAL
        self._stuck = {queue: at for queue, at in self._stuck.items() if at > since}
        return () if self._room_in_threads() and self._room_on_loop() else self._stuck

    def hand_out(self, units: Sequence[UnitOfWork]) -> None:
        """Open each unit and give it to a thread or to the loop."""
        plain: list[Run] = []
        tasks: list[Run] = []
        # Asked once: of two jobs of a kind the later one must not find room that the earlier one did not.
        most_in_threads = self._concurrency + self._prefetch() if self._is_mixed else math.inf
        for unit in units:
            run = self._processor.open(unit, self._keeper_of)
            if isinstance(run, Outcome):
                self._returned.append((unit, run.place))
            elif run.is_async:
                if self._on_loop < self._async_concurrency:
                    self._on_loop += 1
                    tasks.append(run)
                else:
                    self._give_back(unit)
            elif self._in_threads < most_in_threads:
                self._in_threads += 1
                plain.append(run)
            else:
                self._give_back(unit)
        if plain:
            # If one is not short after all, `_rouse` wakes the other threads.
            self._threads.submit(plain, spread=self._pace >= SHORT)
        if tasks:
            self._tasks.submit(tasks)

    def bound(self, unit: UnitOfWork) -> None:
        """Show on the board what could only be shown without a name so far."""
        if unit.slot >= 0:
            self._board.name(unit.slot, unit.token)

    def take_back(self, patience: float) -> Iterable[UnitOfWork]:
        """What waits for a thread and will not get one soon: a job has been running for longer than `patience`."""
        self._rouse()
        surplus = self._threads.backlog() - self._threads.idle()
        if surplus <= 0 or (patience and self._busy_for() <= patience):
            return ()
        runs = self._threads.take_back(surplus)
        self._in_threads -= len(runs)
        return [run.unit for run in runs]

    @property
    def states(self) -> States:
        """What running long jobs want of Redis."""
        return self._states

    def rest(self) -> float:
        """For how many seconds the fetcher may sleep if nothing wakes it; also says which ending will."""
        if self._states.requests():
            return 0.0
        return min(self._rest(), max(0.0, self._states.due - time.monotonic()))

    def _rest(self) -> float:
        backlog = self._threads.backlog()
        enough = self._prefetch() // 2
        self._wake_at = enough if backlog > enough else math.inf
        if backlog and self._threads.idle() and not self._rouse():
            return LOOK_AGAIN
        if backlog > enough:
            return SETTLE_WITHIN
        if self._finished or self._returned:
            return 0.0
        return PREFETCH_PATIENCE if backlog else OVERTAKE_INTERVAL if self._stuck else IDLE_TAKE

    def _rouse(self) -> bool:
        """Wake every thread if jobs wait behind one that is not short after all; whether that was so. All asleep before
        a backlog would be a lost wake-up: it must not last.
        """
        late = self._threads.backlog() > 0 and (self._busy_for() > SHORT or self._threads.asleep())
        if late:
            self._threads.wake_all()
        return late

    def _room_in_threads(self) -> int:
        if self._registry.has_async and not self._registry.has_plain:
            return TAKE_LIMIT  # Whatever comes, it is not for a thread.
        return max(0, min(self._concurrency + self._prefetch() - self._in_threads, TAKE_LIMIT))

    def _room_on_loop(self) -> int:
        if not self._registry.has_async:
            return TAKE_LIMIT  # Whatever comes, it is not for the loop.
        return max(0, min(self._async_concurrency - self._on_loop, TAKE_LIMIT))

    @property
    def _is_mixed(self) -> bool:
        """Whether a unit may be of either kind: it is not known before it is taken."""
        return self._registry.has_async and self._registry.has_plain

    def _prefetch(self) -> int:
        if self._one_at_a_time or self._busy_for() > PREFETCH_PATIENCE:
            return 0
        return self._concurrency * min(int(PREFETCH / max(self._pace, 1e-6)), PREFETCH_LIMIT)

    def _busy_for(self) -> float:
        return self._threads.busy_for(time.perf_counter())

    def _give_back(self, unit: UnitOfWork) -> None:
        self._stuck[unit.queue] = time.monotonic()
        self._returned.append((unit, FRONT))

    def _fetcher_ended(self, clean: bool) -> None:
        """Nothing will be handed out any more: the threads and the loop end after what they run now."""
        self._states.close()
        self._threads.close()
        self._tasks.close()
        self._on_end(clean)

    # For the runners' threads.

    def _ended(self, run: Run, outcome: Outcome) -> None:
        self._finished.append((run, outcome))
        if self._fetcher.sleeping and self._threads.backlog() <= self._wake_at:
            self._fetcher.wake()

    def _wake_fetcher(self) -> None:
        if self._fetcher.sleeping:
            self._fetcher.wake()
