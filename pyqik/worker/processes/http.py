"""The supervisor's HTTP server: answers probes, and pages such as the metrics, from a thread of its own.

It knows nothing of jobs or Redis.
"""

from __future__ import annotations

import errno
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import structlog

from pyqik.core.errors import ConfigError

log = structlog.get_logger("pyqik")

#: The port, unless another is configured; when it is taken, the next of this many are tried.
DEFAULT_PORT: Final = 9394
PORTS: Final = 10

#: Answers a path: whether all is well, and a line that says what is or is not.
Check = Callable[[], tuple[bool, str]]
#: Makes what stands at a path: its content type and its bytes.
Page = Callable[[], tuple[str, bytes]]

PLAIN_TEXT: Final = "text/plain; charset=utf-8"


class HttpServer:
    """See the module's docstring. Each path of `checks` answers 200 or 503, each of `pages` 200.

    Raises: ConfigError for a port in use.
    """

    def __init__(self, host: str, port: int | None, checks: Mapping[str, Check], pages: Mapping[str, Page]) -> None:
        self._server = _bind(host, port, _handler(checks, pages))
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="pyqik-http", daemon=True
        )

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()
        log.info("http", port=self.port)

    def stop(self) -> None:
        """End, after the current answers."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _bind(host: str, port: int | None, handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    """Two workers on one host are common, so only a port that was asked for must be free."""
    ports = range(DEFAULT_PORT, DEFAULT_PORT + PORTS) if port is None else (port,)
    for candidate in ports:
        try:
            return _Server((host, candidate), handler)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or candidate == ports[-1]:
                raise ConfigError(
                    [f"port {candidate} of {host}: {error.strerror}; write another --port, or 0 for no HTTP server"]
                ) from None
    raise AssertionError("unreachable")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A second worker must find the port taken, not share it.
    allow_reuse_port = False

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind without asking DNS for this host's name, as the standard library does: that may take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


def _handler(checks: Mapping[str, Check], pages: Mapping[str, Page]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5.0

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path in checks:
                well, text = checks[path]()
                self._answer(200 if well else 503, PLAIN_TEXT, f"{text}\n".encode())
            elif path in pages:
                self._answer(200, *pages[path]())
            else:
                known = ", ".join([*checks, *pages])
                self._answer(404, PLAIN_TEXT, f"not found; there is {known}\n".encode())

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Probes come every few seconds; they are not worth a line each."""

    return Handler
