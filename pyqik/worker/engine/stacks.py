"""What every thread and every asyncio task is doing, for the log: TTIN, or the Web UI's dump of a process."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import Iterable, Mapping
from types import FrameType
from typing import Any, TypeAlias

import structlog

log = structlog.get_logger("pyqik")

#: Frames and the line in each, the innermost last.
Stack: TypeAlias = list[tuple[FrameType, int]]


def dump(jobs_by_thread: Mapping[int, str], tasks: Iterable[tuple[asyncio.Task[Any], str]]) -> None:
    """Log a line for each thread and each task that runs a job, with its stack, and with the jid of that job."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames()
    # All before the first line is written: meanwhile the tasks go on, and would not be where the threads were.
    running = _running(frames.values())
    at_work = [(task, jid, _task_stack(task, running)) for task, jid in tasks]
    for ident, frame in frames.items():
        stack = "".join(traceback.format_stack(frame))
        log.warning("thread", thread=names.get(ident, str(ident)), jid=jobs_by_thread.get(ident), stack=stack)
    # This function's own frame is among them: the circle would keep alive what the jobs have in their hands.
    frames.clear()
    running.clear()
    for task, jid, stack in at_work:
        log.warning("asyncio task", task=task.get_name(), jid=jid, stack=stack)


def _running(threads: Iterable[FrameType]) -> dict[FrameType, Stack]:
    """For each frame in which a thread is, from there inwards to where it is now."""
    found: dict[FrameType, Stack] = {}
    for innermost in threads:
        stack = list(traceback.walk_stack(innermost))
        found.update((frame, stack[depth::-1]) for depth, (frame, _) in enumerate(stack))
    return found


def _task_stack(task: asyncio.Task[Any], running: Mapping[FrameType, Stack]) -> str:
    """From the task's own coroutine inwards to what it waits for, which `Task.get_stack` does not tell; or, of a task
    that a thread is just running, to the end of that thread's stack.
    """
    lines: list[str] = []
    awaited: Any = task.get_coro()
    own: Any = getattr(awaited, "cr_frame", None)
    if stack := running.get(own):
        return "".join(traceback.StackSummary.extract(iter(stack)).format())
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        lines += traceback.format_stack(frame, limit=1) if frame else [f"  {awaited!r}\n"]
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return "".join(lines)
