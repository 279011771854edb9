"""Where jobs run: a fixed number of threads for plain jobs, one event loop for `async def` jobs.

Neither speaks to Redis. Units come from the fetcher, outcomes go back to it.
"""

from __future__ import annotations

import asyncio
import ctypes
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pyqik.core.errors import Shutdown
from pyqik.worker.board import Board
from pyqik.worker.outcome import INTERRUPTED, Outcome
from pyqik.worker.processor import Processor, Run

#: Called with a run and its outcome when it has ended, from the thread that ran it.
Ended = Callable[[Run, Outcome], None]


@dataclass(slots=True, eq=False)
class _Slot:
    """One job thread. The lock is held to start or end a run, and to raise `Shutdown` into it: never into the next."""

    number: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    thread: threading.Thread | None = None
    run: Run | None = None
    outcome: Outcome | None = None


class ThreadRunner:
    """Runs plain jobs in `concurrency` threads, which have the slots of `board` from `first_slot` on."""

    def __init__(self, concurrency: int, processor: Processor, ended: Ended, board: Board, first_slot: int = 0) -> None:
        self._processor = processor
        self._ended = ended
        self._board = board
        self._waiting: queue.SimpleQueue[Run | None] = queue.SimpleQueue()
        self._slots = [_Slot(first_slot + number) for number in range(concurrency)]

    def start(self) -> None:
        """Start the threads."""
        for slot in self._slots:
            slot.thread = threading.Thread(
                target=self._loop, args=(slot,), name=f"pyqik-job-t{slot.number}", daemon=True
            )
            slot.thread.start()

    def submit(self, run: Run) -> None:
        """Run it as soon as a thread is free."""
        self._waiting.put(run)

    def backlog(self) -> int:
        """How many runs wait for a thread."""
        return self._waiting.qsize()

    def busy_for(self, now: float) -> float:
        """For how many seconds the longest of the current runs has been running; `now` is `time.perf_counter()`."""
        runs = [run for slot in self._slots if (run := slot.run) is not None and run.started]
        return now - min(run.started for run in runs) if runs else 0.0

    def idle(self) -> int:
        """How many threads run nothing. One of them may be about to start what waits."""
        return sum(slot.run is None for slot in self._slots)

    def take_back(self, count: int) -> list[Run]:
        """The newest `count` runs that no thread has started; the newest first."""
        waiting: list[Run] = []
        while True:
            try:
                run = self._waiting.get_nowait()
            except queue.Empty:
                break
            if run is not None:
                waiting.append(run)
        keep = max(0, len(waiting) - count)
        for run in waiting[:keep]:
            self._waiting.put(run)
        return waiting[keep:][::-1]

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
                    raise_in_thread(slot.thread.ident, Shutdown("the stop timeout is over"))

    def close(self) -> None:
        """Let the threads end, each after what it runs now."""
        for _ in self._slots:
            self._waiting.put(None)

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
                run = self._waiting.get()
                if run is None:
                    return
                self._run(slot, run)
            except Shutdown:
                # It was on its way when the job ended. Whatever the slot still holds is reported here; a second report
                # of the same unit does no harm.
                self._report(slot)

    def _run(self, slot: _Slot, run: Run) -> None:
        with slot.lock:
            slot.outcome, slot.run = None, run
        run.enter(self._board, slot.number)
        slot.outcome = self._processor.perform(run)
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


class AsyncRunner:
    """Runs up to `concurrency` `async def` jobs as tasks of one event loop, in a thread that starts with the first."""

    def __init__(self, concurrency: int, processor: Processor, ended: Ended, board: Board, first_slot: int) -> None:
        self._processor = processor
        self._ended = ended
        self._board = board
        self._free_slots = list(range(first_slot, first_slot + concurrency))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: dict[asyncio.Task[None], Run] = {}
        self._closing = False

    def submit(self, run: Run) -> None:
        """Run it on the loop. Called by the fetcher's thread alone."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._serve, args=(self._loop,), name="pyqik-loop", daemon=True)
            self._thread.start()
        self._loop.call_soon_threadsafe(self._begin, run)

    def interrupt(self) -> None:
        """Cancel every task; a job that swallows the cancellation goes on."""
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._cancel)
            except RuntimeError:
                pass  # It has ended meanwhile.

    def tasks(self) -> list[tuple[asyncio.Task[None], str]]:
        """Each task that runs a job, and that job's jid."""
        return [(task, run.payload.jid) for task, run in self._tasks.copy().items()]

    def close(self) -> None:
        """Stop the loop once its jobs have ended. Called once, by the fetcher's thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._close)

    def join(self, timeout: float) -> bool:
        """Wait until the loop's thread has ended; whether it has."""
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    def _begin(self, run: Run) -> None:
        assert self._loop is not None
        task = self._loop.create_task(self._run(run))
        self._tasks[task] = run
        task.add_done_callback(self._over)

    async def _run(self, run: Run) -> None:
        outcome = INTERRUPTED
        slot = self._free_slots.pop()
        run.enter(self._board, slot)
        try:
            outcome = await self._processor.perform_async(run)
        finally:
            self._board.leave(slot)
            self._free_slots.append(slot)
            self._ended(run, outcome)

    def _over(self, task: asyncio.Task[None]) -> None:
        run = self._tasks.pop(task)
        if task.cancelled():
            # It was cancelled before its first step, so not a line of `_run` was executed.
            self._ended(run, INTERRUPTED)
        self._stop_if_idle()

    def _close(self) -> None:
        self._closing = True
        self._stop_if_idle()

    def _stop_if_idle(self) -> None:
        if self._closing and not self._tasks and self._loop is not None:
            self._loop.stop()

    def _cancel(self) -> None:
        for task, run in list(self._tasks.items()):
            run.cancelled = True
            task.cancel("the stop timeout is over")
