"""Children that do not answer, and jobs that run for longer than they may.

A child reports each second. One that does not is not dead: C code may hold the GIL for minutes. But somebody should
know, so it is logged, shown in the metrics, and its stacks are had, without its help if need be. Only a job whose
author has set a `stuck_after` costs its process the life.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from pyqik.worker.engine.board import Entry
from pyqik.worker.processes.child_process import ChildProcess, State

log = structlog.get_logger("pyqik")

#: Seconds without a word after which a child is stuck.
STUCK: Final = 30.0
#: Seconds without a word after which a child is not expected to dump its stacks itself.
UNRESPONSIVE: Final = 3.0
#: Seconds in which the stacks must have been written.
DUMP_PATIENCE: Final = 1.0
#: Seconds between two looks of which no more than this counts: this process itself may have been frozen meanwhile.
LONGEST_LOOK: Final = 2.0


@dataclass(slots=True)
class _Watched:
    """What is known of a child."""

    silence: float = 0.0
    heard: float = 0.0
    reported: bool = False
    #: For how many seconds each run has been seen.
    seen: dict[tuple[int, float], float] = field(default_factory=dict)
    #: When the stacks that are being written must be there, and whether C code writes them.
    dump_due: float | None = None
    asked_c_code: bool = False


class Stuck:
    """See the module's docstring. Used by the supervisor's main thread.

    `describe(child, entry)` has a running job named in the log.
    """

    def __init__(self, describe: Callable[[ChildProcess, Entry], object]) -> None:
        self._describe = describe
        self._watched: dict[ChildProcess, _Watched] = {}
        self._looked: float | None = None

    @property
    def count(self) -> int:
        """How many children are stuck now. From any thread."""
        return sum(watched.silence >= STUCK for watched in self._watched.copy().values())

    @property
    def longest_silence(self) -> float:
        """For how many seconds the most silent child has said nothing. From any thread."""
        return max((watched.silence for watched in self._watched.copy().values()), default=0.0)

    def look(self, children: Sequence[ChildProcess], now: float) -> None:
        """Look after all children that live."""
        elapsed = 0.0 if self._looked is None else min(now - self._looked, LONGEST_LOOK)
        self._looked = now
        self._watched = {child: self._watched.get(child) or _Watched(heard=child.heard) for child in children}
        for child, watched in self._watched.items():
            if child.state is State.STARTING:
                # It imports the author's modules, which takes as long as it takes.
                continue
            self._note_silence(child, watched, elapsed, now)
            self._note_overdue(child, watched, elapsed, now)
            if watched.dump_due is not None and now >= watched.dump_due:
                self._end_dump(child, watched)

    def dump(self, child: ChildProcess, now: float) -> None:
        """Somebody wants the child's stacks."""
        if (watched := self._watched.get(child)) is not None:
            self._ask(child, watched, now)
        else:
            child.dump()

    def _note_silence(self, child: ChildProcess, watched: _Watched, elapsed: float, now: float) -> None:
        if child.heard != watched.heard:
            if watched.reported:
                log.warning("the child answers again", child=child.pid, silence=round(watched.silence, 1))
            watched.heard, watched.silence, watched.reported = child.heard, 0.0, False
            return
        watched.silence += elapsed
        if watched.silence >= STUCK and not watched.reported:
            watched.reported = True
            running = child.entries()
            log.error("the child does not answer", child=child.pid, silence=STUCK, running=len(running))
            for entry in running:
                self._describe(child, entry)
            self._ask(child, watched, now)

    def _note_overdue(self, child: ChildProcess, watched: _Watched, elapsed: float, now: float) -> None:
        entries = [entry for entry in child.entries() if entry.stuck_after]
        watched.seen = {
            (entry.slot, entry.started_at): watched.seen.get((entry.slot, entry.started_at), -elapsed) + elapsed
            for entry in entries
        }
        if child.overdue is not None or child.killed:
            return
        for entry in entries:
            if watched.seen[entry.slot, entry.started_at] >= entry.stuck_after:
                child.overdue = entry
                log.error("a job runs longer than its stuck_after; killing its process", child=child.pid)
                self._describe(child, entry)
                self._ask(child, watched, now)
                return

    def _ask(self, child: ChildProcess, watched: _Watched, now: float) -> None:
        """Have the child log its stacks; if it says nothing, by C code too. Not otherwise: C code reads what running
        threads change meanwhile, which was seen to crash a child.
        """
        child.dump()
        if watched.dump_due is None:
            watched.asked_c_code = min(watched.silence, now - child.spoke) >= UNRESPONSIVE
            if watched.asked_c_code:
                child.stacks.ask(child.pid)
            watched.dump_due = now + DUMP_PATIENCE

    def _end_dump(self, child: ChildProcess, watched: _Watched) -> None:
        watched.dump_due = None
        if watched.asked_c_code:
            stacks = child.stacks.read()
            child.stacks.clear()
            log.warning("stacks, as C code sees them", child=child.pid, stack=stacks or "none could be had")
        overdue = child.overdue
        if overdue is not None:
            if any(entry.is_run_of(overdue) for entry in child.entries()):
                child.kill()
            else:
                child.overdue = None
                log.info("the job has ended in time after all", child=child.pid)
