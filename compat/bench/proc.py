"""What /proc says of a process and of everything below it: who that is, CPU time, memory."""

from __future__ import annotations

import os
import re
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """The process and its descendants that live now; empty if it has ended."""
    found: list[int] = []
    pending = [pid]
    while pending:
        parent = pending.pop()
        try:
            children = [file.read_text() for file in Path(f"/proc/{parent}/task").glob("*/children")]
        except OSError:
            continue
        if Path(f"/proc/{parent}").exists():
            found.append(parent)
            pending += [int(child) for text in children for child in text.split()]
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of the process and its living descendants so far; a hundredth of a second is the grain."""
    return sum(_cpu_seconds(one) for one in tree(pid))


def memory(pid: int) -> dict[str, float]:
    """What smaps_rollup says of one process, in MB (2**20): "Rss", "Pss", "Private_Dirty" and so on."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return {name: int(kilobytes) / 1024 for name, kilobytes in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS
