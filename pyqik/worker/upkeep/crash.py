"""What the end of a child says: whether it was a crash, what caused it, and which jobs may be to blame. Pure."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pyqik.worker.engine.board import Entry

#: What metrics tell apart.
Kind: TypeAlias = Literal["signal", "oom", "exit", "stuck"]


@dataclass(frozen=True, slots=True)
class Crash:
    """The crash of a child. `cause` is for people; `tokens` are those of the units that may be to blame, and `unnamed`
    is how many of these had no token yet.
    """

    kind: Kind
    cause: str
    tokens: tuple[bytes, ...] = ()
    unnamed: int = 0

    @classmethod
    def blamed_on(cls, entries: Sequence[Entry], kind: Kind, cause: str) -> Crash:
        """A crash of which one of `entries` is the reason."""
        return cls(
            kind,
            cause,
            tuple(entry.token for entry in entries if entry.token),
            sum(not entry.token for entry in entries),
        )


@dataclass(frozen=True, slots=True)
class End:
    """How a child ended, and what it ran then.

    `status` is its exit status, negative for a signal; `expected` whether it had said so before or was killed by its
    supervisor; `overdue` the job for whose sake it was killed, as that ran longer than its `stuck_after`; `lost` those
    whose threads were gone, without which it could not go on.
    """

    status: int
    expected: bool
    running: Sequence[Entry]
    overdue: Entry | None = None
    lost: Sequence[Entry] = ()

    @property
    def how(self) -> str:
        """`SIGSEGV`, `exit status 3`."""
        return _signal_name(-self.status) if self.status < 0 else f"exit status {self.status}"

    def crash(self, out_of_memory: Callable[[], bool]) -> Crash | None:
        """The crash that it was, if it was one. `out_of_memory` says whether a SIGKILL was the kernel's."""
        if self.overdue is not None:
            # The job may have ended in the very last moment.
            still_there = [entry for entry in self.running if entry.is_run_of(self.overdue)]
            cause = f"killed, as the job ran longer than its stuck_after of {self.overdue.stuck_after:g} seconds"
            return Crash.blamed_on(still_there, "stuck", cause)
        if self.lost:
            return Crash.blamed_on(self.lost, "exit", "the job ended its thread behind Python's back")
        if self.expected:
            return None
        if self.status == -signal.SIGKILL and out_of_memory():
            cause = "SIGKILL by the kernel, which had run out of memory (OOM)"
            return Crash.blamed_on(self.running, "oom", cause)
        return Crash.blamed_on(self.running, "signal" if self.status < 0 else "exit", self.how)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
