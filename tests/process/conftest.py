"""Fixtures of process tests: a zoo for jobs, and real `pyqik work` processes that are gone after the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis as redis_py

from tests.support.jobs import ZOO_VARIABLE, Zoo
from tests.support.process import ROOT, WorkProcess
from tests.support.redis_server import RedisServer

StartWork = Callable[..., WorkProcess]


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    """Where the jobs of `tests.support.jobs` write down that they run, and wait for gates."""
    directory = tmp_path / "zoo"
    directory.mkdir()
    return Zoo(directory)


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A server that a test may kill, freeze and start again; it forgets nothing."""
    with RedisServer("--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


@pytest.fixture
def own_redis(own_server: RedisServer) -> Iterator[redis_py.Redis]:
    """A client of that server."""
    client = redis_py.Redis.from_url(own_server.url)
    yield client
    client.close()


@pytest.fixture
def start_work(tmp_path: Path, zoo: Zoo, redis_url: str) -> Iterator[StartWork]:
    """`start_work("-c", "2")`: a `pyqik work` with the zoo's jobs on this test's Redis, ready unless `ready=False`."""
    with ExitStack() as closing:

        def start(
            *options: str,
            url: str | None = redis_url,
            port: int | None = 0,
            modules: Sequence[str] = ("tests.support.jobs",),
            environment: Mapping[str, str] = {},
            cwd: Path = ROOT,
            through: Sequence[str] = (),
            own_process_ids: bool = False,
            ready: bool = True,
        ) -> WorkProcess:
            given = [f"--require={module}" for module in modules]
            given += [] if url is None else ["--redis", url]
            given += [] if port is None else ["--port", str(port)]
            work = WorkProcess(
                *(*given, "-t", "1", *options),
                directory=tmp_path,
                environment={ZOO_VARIABLE: str(zoo.directory), **environment},
                cwd=cwd,
                through=through,
                own_process_ids=own_process_ids,
            )
            closing.callback(work.close)
            if ready:
                work.wait_for_event("child ready")
            return work

        yield start
