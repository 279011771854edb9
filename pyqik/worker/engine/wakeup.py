"""Waking a thread that sleeps in a poll, from another thread or from a signal handler."""

from __future__ import annotations

import os


class Wakeup:
    """A pipe whose reading end stands in the sleeper's poll."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._read

    @property
    def write_fileno(self) -> int:
        """The descriptor for `signal.set_wakeup_fd`."""
        return self._write

    def wake(self) -> None:
        """End the sleep, or the next one. Safe in a signal handler and from any thread."""
        try:
            os.write(self._write, b"\0")
        except (BlockingIOError, OSError):
            pass  # Full: it will wake anyway. Closed: nobody sleeps any more.

    def drain(self) -> bytes:
        """Read what has been written; the bytes of `signal.set_wakeup_fd` are the signals' numbers."""
        try:
            return os.read(self._read, 4096)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Close both ends."""
        # A later `wake` must not write into whatever file gets this number next.
        write, self._write = self._write, -1
        os.close(write)
        os.close(self._read)
