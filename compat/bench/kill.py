"""Are jobs lost when processes are killed? Amid the jobs a child is killed, and later a supervisor."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from compat.bench import machine
from compat.bench.arena import STAGED, Arena
from compat.bench.proc import tree
from compat.bench.running import Stalled, started, stop, wait_for
from compat.bench.sides import Side
from compat.processes import RunningProgram

#: Shares of the jobs that have run when the child is killed, and when the supervisor is.
CHILD_AT, SUPERVISOR_AT = 0.3, 0.6
#: Seconds for a round.
TIMEOUT = 180.0


def run_kills(arena: Arena, side: Side, rounds: int) -> list[machine.Row]:
    """As many rounds, and their table. Raises: AssertionError if a job never ran."""
    rows = [_round(arena, side) for _ in range(rounds)]
    machine.show(rows, {name.replace("_", " "): name for name in rows[0]})
    lost = sum(row["lost"] for row in rows)
    assert lost == 0, f"{lost} jobs never ran"
    return rows


def _round(arena: Arena, side: Side) -> machine.Row:
    arena.ledger.clear()
    told = side.told(arena.url, arena.ledger.path, "warning")
    arena.prepare(STAGED)
    arena.release()
    with started(side, told) as first:
        _until_ran(arena, CHILD_AT, first)
        in_flight = [_kill(arena, *_children_of(first))]
        _until_ran(arena, SUPERVISOR_AT, first)
        orphans = _children_of(first)
        in_flight.append(_kill(arena, first.pid))
        # Without a supervisor the children give their jobs back by themselves; a new `pyqik work` goes on meanwhile.
        with started(side, told) as second:
            wait_for(lambda: not any(map(_lives, orphans)), TIMEOUT, f"the orphans {orphans} have ended", second)
            _until_ran(arena, 1.0, second)
            wait_for(arena.is_empty, TIMEOUT, "Redis has no jobs any more", second)
            stop(second)
    # Those to warm up with are not run here.
    lost = arena.ledger.missing(arena.jobs)
    return {
        "jobs": arena.jobs,
        "in_flight_when_the_child_was_killed": in_flight[0],
        "in_flight_when_the_supervisor_was_killed": in_flight[1],
        "lost": lost,
        "ran_twice_or_more": arena.ledger.repeated(arena.jobs),
    }


def _until_ran(arena: Arena, share: float, program: RunningProgram) -> None:
    """Wait until the first `share` of the jobs have all run."""
    end = int(arena.jobs * share)
    wait_for(lambda: arena.ledger.ran(0, end), TIMEOUT, f"{end:,} jobs have run", program)


def _kill(arena: Arena, *pids: int) -> int:
    """SIGKILL; how many jobs were on record as in flight a moment before."""
    in_flight = arena.in_flight()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return in_flight


def _children_of(program: RunningProgram) -> list[int]:
    """Those of `pyqik work` that run jobs: one, and after a crash a solo child besides. Raises: Stalled."""
    children = [pid for pid in tree(program.pid) if "pyqik.worker.processes.child" in _command_line(pid)]
    if not children:
        raise Stalled(f"`pyqik work` has no children:\n{program.log()[-3000:]}")
    return children


def _command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
