"""Where jobs run: a fixed number of threads for plain jobs, one event loop for `async def` jobs.

Neither speaks to Redis. Units come from the fetcher, outcomes go back to it.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from pyqik.core.errors import Shutdown
from pyqik.worker.engine.board import Board
from pyqik.worker.engine.loop_watch import LoopWatch
from pyqik.worker.engine.outcome import INTERRUPTED, Outcome
from pyqik.worker.engine.processor import Processor, Run
from pyqik.worker.engine.run_queue import RunQueue

log = structlog.get_logger("pyqik")

#: Called with a run and its outcome when it has ended, from the thread that ran it.
Ended = Callable[[Run, Outcome], None]


@dataclass(slots=True, eq=False)
class _Slot:
    """One job thread. The lock is held to start or end a run, and to raise `Shutdown` into it: never into the next."""

    number: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    bell: threading.Lock = field(default_factory=threading.Lock)
    thread: threading.Thread | None = None
    run: Run | None = None
    outcome: Outcome | None = None


class ThreadRunner:
    """Runs plain jobs in `concurrency` threads, which have the slots of `board` from `first_slot` on."""

    def __init__(self, concurrency: int, processor: Processor, ended: Ended, board: Board, first_slot: int = 0) -> None:
        self._processor = processor
        self._ended = ended
        self._board = board
        self._waiting = RunQueue()
        self._slots = [_Slot(first_slot + number) for number in range(concurrency)]
        self._closed = False

    def start(self) -> None:
        """Start the threads."""
        for slot in self._slots:
            slot.bell.acquire()
            slot.thread = threading.Thread(
                target=self._loop, args=(slot,), name=f"pyqik-job-t{slot.number}", daemon=True
            )
            slot.thread.start()

    def submit(self, runs: Sequence[Run], *, spread: bool) -> None:
        """Run them as threads get free. With `spread`, as many idle ones start at once as there are runs; otherwise one
        does if all of them sleep, as short jobs would not be done sooner by more.
        """
        self._waiting.put(runs)
        # Asked only now: a thread that falls asleep from here on looks once more, and finds these.
        self._waiting.wake(len(runs) if spread else int(self.asleep()))

    def asleep(self) -> bool:
        """Whether every thread sleeps."""
        return self._waiting.sleepers == len(self._slots)

    def wake_all(self) -> None:
        """Let every idle thread look for work."""
        self._waiting.wake(len(self._slots))

    def backlog(self) -> int:
        """How many runs wait for a thread."""
        return len(self._waiting)

    def busy_for(self, now: float) -> float:
        """For how many seconds the longest of the current runs has been running; `now` is `time.perf_counter()`."""
        runs = [run for slot in self._slots if (run := slot.run) is not None and run.started]
        return now - min(run.started for run in runs) if runs else 0.0

    def idle(self) -> int:
        """How many threads run nothing. One of them may be about to start what waits."""
        return sum(slot.run is None for slot in self._slots)

    def take_back(self, count: int) -> list[Run]:
        """The newest `count` runs that no thread has started; the newest first."""
        return self._waiting.take_back(count)

    def jids(self) -> dict[int, str]:
        """The ident of each thread that runs a job, and that job's jid."""
        return {
            slot.thread.ident: run.payload.jid
            for slot in self._slots
            if slot.thread is not None and slot.thread.ident is not None and (run := slot.run) is not None
        }

    def interrupt(self) -> None:
        """Raise `Shutdown` in every thread that runs a job. It does not end a blocking call in C."""
        for slot in self._slots:
            with slot.lock:
                if slot.run is not None and slot.thread is not None and slot.thread.ident is not None:
                    raise_in_thread(slot.thread.ident, Shutdown("this process is ending"))

    def lost_slots(self) -> list[int]:
        """The slots whose threads are gone although nobody closed this: C code may end one behind Python's back."""
        gone = [slot.number for slot in self._slots if slot.thread is not None and is_gone(slot.thread)]
        return [] if self._closed else gone

    def close(self) -> None:
        """Let the threads end, each after what it runs now."""
        self._closed = True
        self._waiting.close()

    def join(self, timeout: float) -> bool:
        """Wait until every thread has ended; whether they have."""
        deadline = time.monotonic() + timeout
        for slot in self._slots:
            if slot.thread is not None:
                slot.thread.join(max(0.0, deadline - time.monotonic()))
        return not any(slot.thread is not None and slot.thread.is_alive() for slot in self._slots)

    def _loop(self, slot: _Slot) -> None:
        while True:
            try:
                run = self._waiting.get(slot.bell)
                if run is None:
                    return
                self._run(slot, run)
                del run
            except Shutdown:
                # It was on its way when the job ended. Whatever the slot still holds is reported here; a second report
                # of the same unit does no harm.
                self._report(slot)

    def _run(self, slot: _Slot, run: Run) -> None:
        with slot.lock:
            slot.outcome, slot.run = None, run
        run.enter(self._board, slot.number)
        try:
            slot.outcome = self._processor.perform(run)
        except Exception as error:
            slot.outcome = self._processor.undecided(run, error)
        # What only the job's object had is taken apart while the job still counts as running.
        run.runnable = None
        self._report(slot)

    def _report(self, slot: _Slot) -> None:
        with slot.lock:
            run = slot.run
            if run is not None:
                self._board.leave(slot.number)
                self._ended(run, slot.outcome or INTERRUPTED)
                slot.run = None


def raise_in_thread(ident: int, error: BaseException) -> None:
    """Raise `error`'s class in another thread, at its next bytecode."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(type(error)))


def is_gone(thread: threading.Thread) -> bool:
    """Whether a started thread has ended, by the account of the system where it gives one: Python's may be wrong."""
    if not thread.is_alive():
        return True
    tasks = "/proc/self/task"
    return os.path.isdir(tasks) and not os.path.exists(f"{tasks}/{thread.native_id}")


class EventLoop:
    """One event loop in a thread of its own, which starts with the first call. The runners of all capsules share it."""

    def __init__(self, users: int = 1) -> None:
        self._users = users
        self._over = False
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def call(self, callback: Callable[..., object], *arguments: object) -> None:
        """Call `callback` on the loop, soon. From any thread; nothing happens once the loop has ended."""
        try:
            self._started().call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            pass

    def create_task(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start a task; called on the loop."""
        return self._started().create_task(coroutine, name=name)

    def leave(self) -> None:
        """One of the users needs it no more. It stops with the last of them."""
        with self._lock:
            self._users -= 1
            self._over = self._users == 0
            if self._over and self._loop is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)

    @property
    def thread(self) -> threading.Thread | None:
        """Its thread, once it has started."""
        return self._thread

    def lost_its_thread(self) -> bool:
        """Whether its thread is gone although somebody still needs it."""
        gone = self._thread is not None and is_gone(self._thread)
        return gone and self._users > 0

    def join(self, timeout: float) -> bool:
        """Wait until its thread has ended; whether it has."""
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._serve, args=(self._loop,), name="pyqik-loop", daemon=True)
                self._thread.start()
            return self._loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        watch = LoopWatch(loop, threading.current_thread())
        watch.start()
        try:
            while not self._run_on(loop):
                pass
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            watch.stop()
            loop.close()

    def _run_on(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Run the loop; whether nobody needs it any more. A job may stop it, and a SystemExit in a task that a job has
        started, or in a callback, ends the loop of asyncio: the other jobs on it must not hang for that.
        """
        try:
            loop.run_forever()
        except BaseException:
            log.exception("the event loop was interrupted; it goes on")
            return False
        if not self._over:
            log.warning("a job has stopped the event loop; it goes on")
        return self._over


class AsyncRunner:
    """Runs up to `concurrency` `async def` jobs as tasks of `loop`; their slots on `board` begin at `first_slot`."""

    def __init__(
        self, concurrency: int, processor: Processor, ended: Ended, board: Board, first_slot: int, loop: EventLoop
    ) -> None:
        self._processor = processor
        self._ended = ended
        self._board = board
        self._slots = range(first_slot, first_slot + concurrency)
        self._free_slots = list(self._slots)
        self._loop = loop
        self._tasks: dict[asyncio.Task[None], Run] = {}
        self._closing = False

    def submit(self, runs: Sequence[Run]) -> None:
        """Run them on the loop."""
        self._loop.call(self._begin, runs)

    def interrupt(self) -> None:
        """Cancel every task; a job that swallows the cancellation goes on."""
        if self._loop.thread is not None:
            self._loop.call(self._cancel)

    def tasks(self) -> list[tuple[asyncio.Task[None], Run]]:
        """Each task that runs a job, and its run."""
        return list(self._tasks.copy().items())

    def lost_slots(self) -> list[int]:
        """The slots of what runs on the loop, if its thread is gone: one of these jobs may have ended it."""
        return sorted({*self._slots}.difference(self._free_slots)) if self._loop.lost_its_thread() else []

    def close(self) -> None:
        """Need the loop no more as soon as its jobs have ended. Called once, by the thread that submits."""
        if self._loop.thread is None:
            self._loop.leave()
        else:
            self._loop.call(self._close)

    # On the loop.

    def _begin(self, runs: Sequence[Run]) -> None:
        for run in runs:
            # The name is what asyncio's own tools show, and what the watch says when it blocks the loop.
            task = self._loop.create_task(self._run(run), run.payload.title)
            self._tasks[task] = run
            task.add_done_callback(self._over)

    async def _run(self, run: Run) -> None:
        outcome = INTERRUPTED
        slot = self._free_slots.pop()
        run.enter(self._board, slot)
        try:
            outcome = await self._processor.perform_async(run)
        except Exception as error:
            outcome = self._processor.undecided(run, error)
        finally:
            run.runnable = None
            self._board.leave(slot)
            self._free_slots.append(slot)
            self._ended(run, outcome)

    def _over(self, task: asyncio.Task[None]) -> None:
        run = self._tasks.pop(task)
        if task.cancelled():
            # It was cancelled before its first step, so not a line of `_run` was executed.
            self._ended(run, INTERRUPTED)
        self._leave_if_idle()

    def _close(self) -> None:
        self._closing = True
        self._leave_if_idle()

    def _leave_if_idle(self) -> None:
        if self._closing and not self._tasks:
            self._closing = False
            self._loop.leave()

    def _cancel(self) -> None:
        for task, run in list(self._tasks.items()):
            run.cancelled = True
            task.cancel("this process is ending")
