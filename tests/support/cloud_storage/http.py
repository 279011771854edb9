"""HTTP/1.1 as the fake speaks it: connections that stay open, bodies that are not copied, faults on the way."""

from __future__ import annotations

import socket
import socketserver
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, NamedTuple

from tests.support.cloud_storage.api import Reply, Request, lowered
from tests.support.cloud_storage.behaviour import Behaviour
from tests.support.cloud_storage.errors import Broken, phrase

#: Bytes that are read or sent at once, and that are sent together with the head.
_SLICE: Final = 1024 * 1024
_SMALL: Final = 64 * 1024
#: How often a second a slow connection moves.
_STEPS: Final = 50


class Answer(NamedTuple):
    """A reply, and after how many bytes of its body the connection ends."""

    reply: Reply
    cut_after: int | None = None


class Line:
    """What all connections share: how fast they are, what went over them, and when they end."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour: Final = behaviour
        self.closing: Final = threading.Event()
        #: Bytes of bodies.
        self.bytes_in = 0
        self.bytes_out = 0
        self._lock = threading.Lock()

    def wait(self, seconds: float) -> None:
        """Raises: Broken if the server closes."""
        if self.closing.wait(seconds) if seconds > 0 else self.closing.is_set():
            raise Broken

    def moved(self, received: int = 0, sent: int = 0) -> None:
        """Count bytes; before they are sent, so that a client that has them finds them counted."""
        with self._lock:
            self.bytes_in += received
            self.bytes_out += sent

    @property
    def slice(self) -> int:
        """Bytes that are moved at once."""
        bandwidth = self.behaviour.bandwidth
        return _SLICE if bandwidth is None else max(1, int(bandwidth / _STEPS))


class Server(ThreadingHTTPServer):
    """Knows its connections, so that it can end them."""

    request_queue_size = 128

    def __init__(self, line: Line, answer: Callable[[Request], Answer], failed: Callable[[str], None]) -> None:
        self.line: Final = line
        self.answer: Final = answer
        self.failed: Final = failed
        self._open: dict[threading.Thread, Any] = {}
        self._guard = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)
        self._acceptor = threading.Thread(
            target=self.serve_forever, args=(0.02,), name="cloud-storage-acceptor", daemon=True
        )

    def start(self) -> None:
        """Take connections."""
        self._acceptor.start()

    def server_bind(self) -> None:
        """Without the name of this machine, for which a resolver would be asked."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread of its own, which is remembered."""
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="cloud-storage-connection",
            daemon=True,
        )
        with self._guard:
            self._open[thread] = request
        thread.start()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One connection, to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._guard:
                del self._open[threading.current_thread()]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error."""
        if not isinstance(sys.exception(), OSError):
            self.failed(traceback.format_exc())

    def end(self) -> None:
        """End all connections and threads."""
        self.shutdown()
        self._acceptor.join()
        self.server_close()
        with self._guard:
            threads = list(self._open)
            for connection in self._open.values():
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""

    def _serve(self) -> None:
        self.close_connection = True
        try:
            request = Request(self.command, self.path, lowered(self.headers), self._read())
            answer = self.server.answer(request)
            self.server.line.wait(self.server.line.behaviour.latency)
            self._send(*answer)
        except (Broken, OSError):
            return
        asked = self.headers.get("Connection", "").lower() == "close"
        self.close_connection = asked or answer.cut_after is not None

    def _read(self) -> bytearray:
        """The body. Raises: Broken if it ends too early."""
        if self.headers.get("Transfer-Encoding"):
            self.server.failed(f"{self.command} {self.path}: a body without Content-Length")
            raise Broken
        body = bytearray(int(self.headers.get("Content-Length", 0)))
        for view in self._paced([memoryview(body)]):
            got = self.rfile.readinto(view)
            self.server.line.moved(received=got)
            if got < len(view):
                raise Broken
        return body

    def _send(self, reply: Reply, cut_after: int | None) -> None:
        size = sum(map(len, reply.body))
        lines = [f"HTTP/1.1 {reply.status} {phrase(reply.status)}", f"Date: {self.date_time_string()}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        if reply.status not in (204, 304):
            lines.append(f"Content-Length: {size}")
        data = "\r\n".join([*lines, "", ""]).encode()
        pieces = [] if self.command == "HEAD" else [memoryview(piece) for piece in reply.body]
        if cut_after is not None:
            pieces = [memoryview(b"".join(pieces)[:cut_after])]
        if size <= _SMALL and self.server.line.behaviour.bandwidth is None:
            self.server.line.moved(sent=sum(map(len, pieces)))
            self.connection.sendall(b"".join([data, *pieces]))
            return
        self.connection.sendall(data)
        for view in self._paced(pieces):
            self.server.line.moved(sent=len(view))
            self.connection.sendall(view)

    def _paced(self, pieces: Sequence[memoryview]) -> Iterator[memoryview]:
        """All bytes in slices, no faster than the connection is."""
        line = self.server.line
        due = time.monotonic()
        for piece in pieces:
            while piece:
                view = piece[: line.slice]
                piece = piece[len(view) :]
                yield view
                if line.behaviour.bandwidth is not None:
                    due += len(view) / line.behaviour.bandwidth
                    line.wait(due - time.monotonic())
