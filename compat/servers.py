"""The Redis that Ruby and Python share in a test: the one that Debian ships beside that version of Sidekiq."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

import redis

from compat.processes import RunningProgram
from compat.trees import RUBY
from tests.support.wait import wait_until

ATTEMPTS = 5


def redis_server_command(tree: Path) -> list[str]:
    """The command, to be followed by the server's options, that runs the redis-server of a tree.

    6.4's tree has Redis 7.0.15, the oldest that Sidekiq 8 accepts; the others have 8.0.
    """
    return [str(RUBY / "run"), str(tree), "redis-server"]


def start_redis_server(tree: Path) -> tuple[RunningProgram, str]:
    """An empty server in memory on a free loopback port, ready for commands, and its URL."""
    return start_server(redis_server_command(tree))


def start_server(command: Sequence[str], *, own_group: bool = False) -> tuple[RunningProgram, str]:
    """The same with any server's command, to be followed by its options."""
    for _ in range(ATTEMPTS):
        port = _free_port()
        options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
        server = RunningProgram("redis-server", [*command, *options], {}, Path("/"), own_group=own_group)
        wait_until(lambda s=server, p=port: s.returncode is not None or _answers(p, s.pid))  # type: ignore[misc] # lambda defaults
        if server.returncode is None:
            return server, f"redis://127.0.0.1:{port}/0"
        server.close()  # somebody else took the port in between
    raise AssertionError(f"no server could be started by {' '.join(command)} in {ATTEMPTS} attempts")


def _answers(port: int, pid: int) -> bool:
    client = redis.Redis(port=port, socket_timeout=1)
    try:
        return bool(client.info("server")["process_id"] == pid)
    except (redis.ConnectionError, redis.TimeoutError):
        return False
    finally:
        client.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
