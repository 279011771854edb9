"""Signals, as bytes in a pipe: the handlers do nothing, so none can deadlock or surface inside unrelated code."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Final

from pyqik.worker.engine.wakeup import Wakeup

#: What Sidekiq's signals mean. The Web UI sends the same by name, through Redis.
MEANINGS: Final = {"TSTP": "quiet", "TERM": "stop", "INT": "stop", "TTIN": "dump"}


class SignalInbox:
    """The signals that this process has received. Made in the main thread, which alone may install handlers."""

    def __init__(self, *others: signal.Signals) -> None:
        self._wakeup = Wakeup()
        self.numbers = {signal.Signals[f"SIG{name}"] for name in MEANINGS} | set(others)
        self._handlers = {number: signal.signal(number, _ignore) for number in self.numbers}
        # The C handler writes the number at once, even while some C code holds the GIL.
        self._previous = signal.set_wakeup_fd(self._wakeup.write_fileno, warn_on_full_buffer=False)
        _open.append(self)

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._wakeup.fileno()

    def wake(self) -> None:
        """End the poll without a signal; from any thread."""
        self._wakeup.wake()

    def receive(self) -> list[str]:
        """The names of the signals that came, such as `TERM`, in order."""
        return [signal.Signals(number).name.removeprefix("SIG") for number in self._wakeup.drain() if number]

    def close(self) -> None:
        """Put back the handlers that were there before."""
        _open.remove(self)
        signal.set_wakeup_fd(self._previous)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._wakeup.close()


#: Those that are open: one, outside of tests.
_open: Final[list[SignalInbox]] = []
#: The signals that a thread which forks had blocked before.
_blocked = threading.local()

# A signal to a process that a job has forked is its own: it must neither be ignored nor come to this inbox, not even if
# it is sent at once. So the signals wait until the forked process has its own handlers.


def _before_fork() -> None:
    numbers = {number for inbox in _open for number in inbox.numbers}
    _blocked.before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)


def _after_fork_in_parent() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _blocked.before)


def _after_fork_in_child() -> None:
    while _open:
        _open[-1].close()
    signal.pthread_sigmask(signal.SIG_SETMASK, _blocked.before)


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


def _ignore(number: int, frame: FrameType | None) -> None:
    pass
