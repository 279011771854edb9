"""Lack of memory: whom the kernel kills for it, and whether it did. To the parent that looks like any SIGKILL.

The kernel counts such kills for each control group; where there is none to be read, for the whole machine.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

#: Thousandths of all memory by which a child counts as larger than it is when the kernel looks for a process to kill.
HANDICAP: Final = 100
#: The most that the kernel takes.
_MOST: Final = 1000
#: Seconds that a process with much memory may take to end after the kernel has chosen it.
DYING: Final = 30.0


def offer(pid: int) -> None:
    """Let the kernel choose the child `pid` before its supervisor, should memory run out: the child's jobs are given
    back and another one is started. A large child that is dying frees its memory late, and the next choice may come
    before that.
    """
    score = Path(f"/proc/{pid}/oom_score_adj")
    # Where it does not exist or cannot be written, the kernel decides by size alone.
    with contextlib.suppress(OSError, ValueError):
        score.write_text(str(min(int(score.read_text("ascii")) + HANDICAP, _MOST)), "ascii")


class OomWatch:
    """Notes when the kernel killed something, so that each kill explains the end of one process."""

    def __init__(self, counter: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        """`counter` is a file with a line `oom_kill N`, see `find_counter`; None if there is none."""
        self._counter = counter
        self._clock = clock
        self._count = self._read()
        self._kills: list[float] = []

    def look(self) -> None:
        """Note the kills since the last look."""
        count, now = self._read(), self._clock()
        self._kills = [at for at in self._kills if now - at <= DYING] + [now] * max(0, count - self._count)
        self._count = count

    def claim(self) -> bool:
        """Whether a process that has just ended by SIGKILL was one of them; each counts for one process."""
        self.look()
        if not self._kills:
            return False
        self._kills.pop(0)
        return True

    def _read(self) -> int:
        if self._counter is None:
            return 0
        try:
            return _oom_kills(self._counter.read_text("ascii"))
        except (OSError, ValueError):
            return 0


def find_counter(
    memberships: Path = Path("/proc/self/cgroup"), mounts: Path = Path("/proc/self/mounts"), root: Path = Path("/")
) -> Path | None:
    """The file in which the kernel counts the kills in this process's control group.

    Version 2 has it in `memory.events`, version 1 in `memory.oom_control`; without either it is the machine's
    `/proc/vmstat`. `root` stands before every path that is read from the other two.
    """
    for kind, mount, group in _hierarchies(memberships, mounts):
        name = "memory.events" if kind == "cgroup2" else "memory.oom_control"
        # Inside a container its own group is usually mounted as if it were the root of all.
        for directory in (root / mount.lstrip("/") / group.lstrip("/"), root / mount.lstrip("/")):
            if _counts(directory / name):
                return directory / name
    machine = root / "proc/vmstat"
    return machine if _counts(machine) else None


def _hierarchies(memberships: Path, mounts: Path) -> list[tuple[str, str, str]]:
    """Each hierarchy that may have the memory controller: its kind, where it is mounted, and this process's group."""
    try:
        groups = [line.split(":", 2) for line in memberships.read_text("utf-8", "replace").splitlines()]
        mounted = [line.split() for line in mounts.read_text("utf-8", "replace").splitlines()]
    except OSError:
        return []
    group_of = {
        "cgroup2" if number == "0" else "cgroup": group
        for number, controllers, group in groups
        if number == "0" or "memory" in controllers.split(",")
    }
    return [
        (kind, mount, group_of[kind])
        for _, mount, kind, options, *_ in mounted
        if kind in group_of and (kind == "cgroup2" or "memory" in options.split(","))
    ]


def _counts(file: Path) -> bool:
    try:
        _oom_kills(file.read_text("ascii"))
    except (OSError, ValueError):
        return False
    return True


def _oom_kills(text: str) -> int:
    """Raises: ValueError where nothing is counted."""
    for line in text.splitlines():
        name, _, count = line.partition(" ")
        if name == "oom_kill":
            return int(count)
    raise ValueError("no line `oom_kill`")
