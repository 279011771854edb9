"""What the first process of a container owes the others: to take note of the end of those that nobody else waits for.

A process that a job has started, and that outlives its child, is adopted by process 1, which is then `pyqik work`;
without this it would stay in the process table as a zombie.
"""

from __future__ import annotations

import os
from collections.abc import Collection


def is_first_process() -> bool:
    """Whether orphans are adopted by this process."""
    return os.getpid() == 1


def reap(own: Collection[int]) -> list[int]:
    """Take note of the end of every adopted process; their ids. The status of those in `own` is left to be read by
    whoever started them.
    """
    reaped: list[int] = []
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return reaped
        # The kernel shows one at a time, and the same again until its status is read: the others come after it.
        if ended is None or ended.si_pid in own:
            return reaped
        os.waitpid(ended.si_pid, 0)
        reaped.append(ended.si_pid)
