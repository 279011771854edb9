"""What runs in each slot of a child, in memory that it shares with the supervisor.

A child writes it as jobs start and end; the supervisor reads it whenever it likes, also while C code in the child holds
the GIL, and after the child has died: only so is it known for certain which jobs a crash may be charged to.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
from dataclasses import dataclass
from typing import Final

from pyqik.wire.presence import Running
from pyqik.worker.engine.shared_file import open_shared_file

#: Take token (empty until the take that gives a landed unit its token), start and `stuck_after` (0: never) in seconds.
_ENTRY: Final = struct.Struct("<24pdd")
_FREE: Final = bytes(_ENTRY.size)
#: A token with its length, at the beginning of an entry.
_TOKEN: Final = struct.Struct("<24p")


@dataclass(frozen=True, slots=True)
class Entry:
    """A running job: its slot, its unit's take token (maybe empty yet), when it started (epoch seconds), and after how
    many seconds it counts as stuck (0: never).
    """

    slot: int
    token: bytes
    started_at: float
    stuck_after: float

    @property
    def running(self) -> Running:
        """As the Web UI shows it."""
        return Running(f"t{self.slot}", self.token, int(self.started_at))

    def is_run_of(self, other: Entry) -> bool:
        """Whether both are the same run; only one of them may know its token."""
        return (self.slot, self.started_at) == (other.slot, other.started_at)


class Board:
    """The writing side: one slot for each job that may run at a time. Any thread may write to a slot of its own."""

    def __init__(self, slots: int, fileno: int | None = None) -> None:
        """With `fileno` what is written is seen by whoever `read`s that file; otherwise by this process alone."""
        size = max(slots, 1) * _ENTRY.size
        self._memory: bytearray | mmap.mmap
        if fileno is None:
            self._memory = bytearray(size)
        else:
            os.ftruncate(fileno, size)
            self._memory = mmap.mmap(fileno, size)

    def enter(self, slot: int, token: bytes, started_at: float, stuck_after: float = 0.0) -> None:
        """A job starts in `slot`."""
        _ENTRY.pack_into(self._memory, slot * _ENTRY.size, token, started_at, stuck_after)

    def name(self, slot: int, token: bytes) -> None:
        """The unit that runs in `slot` has got its token."""
        _TOKEN.pack_into(self._memory, slot * _ENTRY.size, token)

    def leave(self, slot: int) -> None:
        """The job in `slot` has ended."""
        start = slot * _ENTRY.size
        self._memory[start : start + _ENTRY.size] = _FREE

    def entries(self) -> list[Entry]:
        """What runs now."""
        return _entries(bytes(self._memory))


class SharedBoard:
    """The reading side, which makes the file; its descriptor goes to the process that writes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._file = open_shared_file("pyqik-board")

    def fileno(self) -> int:
        """The descriptor to hand to the writer."""
        return self._file.fileno()

    def entries(self) -> list[Entry]:
        """What runs now, or what ran when the writer died. From any thread; empty after `close`."""
        with self._lock:
            if self._file.closed:
                return []
            return _entries(os.pread(self.fileno(), os.fstat(self.fileno()).st_size, 0))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()


def _entries(memory: bytes) -> list[Entry]:
    return [
        Entry(slot, token, started_at, stuck_after)
        for slot, (token, started_at, stuck_after) in enumerate(_ENTRY.iter_unpack(memory))
        if started_at
    ]
