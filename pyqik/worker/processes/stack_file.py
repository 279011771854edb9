"""Stacks from a process that does not answer: C code writes them into a file that both processes see.

`faulthandler` does so in a signal handler of C, which needs neither the GIL nor a thread that is free; and when the
process crashes by a signal of its own, too.
"""

from __future__ import annotations

import faulthandler
import fcntl
import os
import signal
from typing import Final

from pyqik.worker.engine.shared_file import open_shared_file

#: What asks for the stacks.
DUMP_SIGNAL: Final = signal.SIGUSR2


def write_stacks_to(fileno: int) -> None:
    """From now on this process's stacks are written there when it gets `DUMP_SIGNAL`, or crashes."""
    faulthandler.enable(fileno, all_threads=True)
    faulthandler.register(DUMP_SIGNAL, fileno, all_threads=True, chain=False)


class StackFile:
    """The reading side, which makes the file; its descriptor goes to the process whose stacks are wanted."""

    def __init__(self) -> None:
        self._file = open_shared_file("pyqik-stacks")
        # Both processes share one position in the file, which would stay where it was when the file is emptied.
        fcntl.fcntl(self._file, fcntl.F_SETFL, fcntl.fcntl(self._file, fcntl.F_GETFL) | os.O_APPEND)

    def fileno(self) -> int:
        """The descriptor to hand to the writer."""
        return self._file.fileno()

    def ask(self, pid: int) -> bool:
        """Ask the process `pid` for its stacks; False if it is not ready to be asked: the signal would kill it."""
        self.clear()
        if not _catches(pid, DUMP_SIGNAL):
            return False
        os.kill(pid, DUMP_SIGNAL)
        return True

    def read(self) -> str:
        """What has been written since the last `ask` or `clear`."""
        return os.pread(self.fileno(), os.fstat(self.fileno()).st_size, 0).decode("utf-8", "replace")

    def clear(self) -> None:
        """Forget what has been written."""
        os.ftruncate(self.fileno(), 0)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal; False where the system does not tell."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
            caught = next(line.split()[1] for line in status if line.startswith("SigCgt:"))
    except (OSError, StopIteration):
        return False
    return bool(int(caught, 16) >> (number - 1) & 1)
