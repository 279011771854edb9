"""Messages between the supervisor and a child: msgpack over a socket pair. It ends with either process."""

from __future__ import annotations

import socket
from typing import Any, Final

import msgpack

#: Seconds that a message may wait for a reader who is too busy to read: a child that holds the GIL, for instance.
SEND_TIMEOUT: Final = 1.0

Message = dict[str, Any]


class Channel:
    """One end. A message is a dictionary whose `kind` says what it is."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._socket.settimeout(SEND_TIMEOUT)
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
        """Send a message; False if the other end is gone, or has not read for `SEND_TIMEOUT` seconds.

        After the latter this end is closed: half a message may have been sent, and nothing behind it could be read.
        """
        if self.closed:
            return False
        try:
            self._socket.sendall(msgpack.packb({"kind": kind, **fields}))
        except TimeoutError:
            self.close()
            return False
        except OSError:
            return False  # What the other end has said before is still to be read.
        return True

    def receive(self) -> list[Message]:
        """The messages that have come, possibly none yet; `closed` is True after the last one."""
        self._read()
        return list(self._unpacker)

    def rest(self) -> list[Message]:
        """The messages that a process has left which has ended: more is not waited for. This end is closed."""
        if self._socket.fileno() >= 0:
            # A process that it started, and that lives on, may hold its end open.
            self._socket.setblocking(False)
            while self._read():
                pass
            self.close()
        return list(self._unpacker)

    def close(self) -> None:
        """Close this end."""
        self.closed = True
        self._socket.close()

    def _read(self) -> bool:
        """Read once; whether anything came."""
        try:
            data = self._socket.recv(65536)
        except (BlockingIOError, TimeoutError):
            return False
        except OSError:
            data = b""
        if not data:
            self.closed = True
        self._unpacker.feed(data)
        return bool(data)
