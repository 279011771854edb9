"""Messages between the supervisor and a child: msgpack over a socket pair. It ends with either process.

Nobody waits for a reader who does not read: a child may hold the GIL for minutes, a supervisor may be frozen. What the
socket does not hold waits in the sender, and goes with a later message.
"""

from __future__ import annotations

import select
import socket
from typing import Any, Final

import msgpack

#: Bytes that wait in the sender, beyond which a message is dropped.
MOST_UNSENT: Final = 1024 * 1024

Message = dict[str, Any]


class Channel:
    """One end. A message is a dictionary whose `kind` says what it is."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._socket.setblocking(False)
        self._unsent = bytearray()
        self._unpacker = msgpack.Unpacker(raw=False, max_buffer_size=64 * 1024 * 1024)
        self.closed = False

    @classmethod
    def pair(cls) -> tuple[Channel, socket.socket]:
        """This process's end, and the other one to hand to a child."""
        ours, theirs = socket.socketpair()
        return cls(ours), theirs

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._socket.fileno()

    def send(self, kind: str, **fields: Any) -> bool:
        """Send a message; False if the other end is gone, or has read nothing for so long that this one is dropped."""
        self.flush()
        if self.closed or len(self._unsent) > MOST_UNSENT:
            return False
        self._unsent += msgpack.packb({"kind": kind, **fields})
        try:
            self._send()
        except OSError:
            return False  # What the other end has said before is still to be read.
        return True

    def flush(self, timeout: float = 0.0) -> bool:
        """Send what waits here, within `timeout` seconds; whether nothing waits any more."""
        try:
            while not self.closed and self._unsent:
                if not select.select([], [self._socket], [], timeout)[1]:
                    return False
                self._send()
        except OSError:
            return False
        return not self._unsent

    def receive(self) -> list[Message]:
        """The messages that have come, possibly none yet; `closed` is True after the last one."""
        self._read()
        return list(self._unpacker)

    def rest(self) -> list[Message]:
        """The messages that a process has left which has ended: more is not waited for. This end is closed."""
        if self._socket.fileno() >= 0:
            # Not to its end: a process that it started, and that lives on, may hold it open.
            while self._read():
                pass
            self.close()
        return list(self._unpacker)

    def close(self) -> None:
        """Close this end."""
        self.closed = True
        self._socket.close()

    def _send(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            pass

    def _read(self) -> bool:
        """Read once; whether anything came."""
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.closed = True
        self._unpacker.feed(data)
        return bool(data)
