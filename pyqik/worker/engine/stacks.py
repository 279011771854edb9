"""What every thread and every asyncio task is doing, for the log: TTIN, or the Web UI's dump of a process."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import Iterable, Mapping
from types import FrameType
from typing import Any

import structlog

log = structlog.get_logger("pyqik")


def dump(jobs_by_thread: Mapping[int, str], tasks: Iterable[tuple[asyncio.Task[Any], str]]) -> None:
    """Log a line for each thread and each task that runs a job, with its stack, and with the jid of that job."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        log.warning(
            "thread", thread=names.get(ident, str(ident)), jid=jobs_by_thread.get(ident), stack=_thread_stack(frame)
        )
    for task, jid in tasks:
        log.warning("asyncio task", task=task.get_name(), jid=jid, stack=_task_stack(task))


def _thread_stack(frame: FrameType) -> str:
    return "".join(traceback.format_stack(frame))


def _task_stack(task: asyncio.Task[Any]) -> str:
    """From the task's own coroutine inwards to what it waits for: `Task.get_stack` knows the first of these only."""
    lines: list[str] = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        lines += traceback.format_stack(frame, limit=1) if frame else [f"  {awaited!r}\n"]
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return "".join(lines)
