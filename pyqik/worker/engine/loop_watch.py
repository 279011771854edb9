"""Notices a blocking call in a coroutine, which holds up every other job of the event loop, and names the job.

A thread of its own asks the loop for an answer twice a second. When none comes in time, the innermost frame of the
loop's thread says what blocks, and the frames around it whose task that is: a job's own, or one that a job has started.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Coroutine, Generator
from types import FrameType
from typing import Any, Final
from weakref import WeakKeyDictionary

import structlog

from pyqik.core.events import events
from pyqik.jobs import context

log = structlog.get_logger("pyqik")

#: Seconds between two questions, and until the loop counts as blocked. Beside many busy threads a healthy loop may need
#: a tenth of a second to answer.
INTERVAL: Final = 0.5
BLOCKED_AFTER: Final = 0.5


class LoopWatch:
    """See the module's docstring. It ends with the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, loop_thread: threading.Thread) -> None:
        self._loop = loop
        self._loop_thread = loop_thread
        self._thread = threading.Thread(target=self._run, name="pyqik-loop-watch", daemon=True)
        self._over = threading.Event()
        #: The job for which a task was started, by `gather` or `create_task` for instance.
        self._jobs: WeakKeyDictionary[asyncio.Task[Any], str] = WeakKeyDictionary()

    def start(self) -> None:
        """Begin to watch."""
        self._loop.set_task_factory(self._new_task)
        self._thread.start()

    def stop(self) -> None:
        """Watch no more; called by the loop's thread at its end."""
        self._over.set()
        self._thread.join()

    def _new_task(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        **options: Any,
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
        if (job := context.running()) is not None:
            self._jobs[task] = job.payload.title
        return task

    def _run(self) -> None:
        while not self._over.wait(INTERVAL):
            answered = threading.Event()
            asked = time.monotonic()
            try:
                self._loop.call_soon_threadsafe(answered.set)
            except RuntimeError:
                return  # The loop is closed.
            if answered.wait(BLOCKED_AFTER) or self._over.is_set():
                continue
            job = self._name_what_blocks()
            while not (answered.wait(INTERVAL) or self._over.is_set()):
                pass
            seconds = round(time.monotonic() - asked, 3)
            log.warning("the event loop runs again", job=job, blocked=seconds)
            events.emit("loop.blocked", job=job, seconds=seconds)

    def _name_what_blocks(self) -> str | None:
        frame = sys._current_frames().get(self._loop_thread.ident or 0)
        frames = [caller for caller, _ in traceback.walk_stack(frame)] if frame else []
        task = next((task for task in asyncio.all_tasks(self._loop) if _frame_of(task) in frames), None)
        job = None if task is None else self._jobs.get(task) or task.get_name()
        log.warning(
            "an async job blocks the event loop; await what it does, or hand it to asyncio.to_thread",
            job=job,
            blocked=BLOCKED_AFTER,
            stack="".join(traceback.format_stack(frame)) if frame else None,
        )
        return job


def _frame_of(task: asyncio.Task[object]) -> FrameType | None:
    frame: FrameType | None = getattr(task.get_coro(), "cr_frame", None)
    return frame
