"""Fixtures that every test may use: a Redis of its own, a proxy to break it with, and no traces left behind."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_py

from pyqik.jobs.definition import JobDefinition
from pyqik.jobs.lifecycle import lifecycle
from pyqik.jobs.process import fresh_process
from pyqik.jobs.registry import registry
from tests.support.proxy import RedisProxy
from tests.support.redis_server import BINARY_VARIABLE, RedisServer
from tests.support.threads import leaked_threads


@pytest.fixture(autouse=True)
def no_thread_is_left_behind() -> Iterator[None]:
    """Fail a test after which a non-daemon thread, or any thread whose name starts with `pyqik`, lives on."""
    before = set(threading.enumerate())
    yield
    for thread in leaked_threads(before):
        # A thread that is just ending is no leak.
        thread.join(timeout=3)
    assert not leaked_threads(before), "threads left behind by this test"


@pytest.fixture(autouse=True)
def a_process_of_its_own(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers or configures is gone after it, and the surroundings' Redis is never spoken to.

    Jobs that other test modules declare are not there, so that each may name its own as it likes.
    """
    for variable in [name for name in os.environ if name.startswith(("REDIS_", "PYQIK_")) and name != BINARY_VARIABLE]:
        monkeypatch.delenv(variable)

    def is_no_other_tests(definition: JobDefinition) -> bool:
        file = definition.origin.rpartition("(")[2].rstrip(")")
        return file == str(request.path) or not Path(file).name.startswith("test_")

    with registry.restored(keep=is_no_other_tests), lifecycle.restored(), fresh_process():
        yield


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One server for all tests of an xdist worker. A test that stops its server starts its own `RedisServer()`."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The address of `redis_server`, emptied for this test."""
    client = redis_py.Redis.from_url(redis_server.url)
    client.flushall()
    client.close()
    return redis_server.url


@pytest.fixture
def redis(redis_url: str) -> Iterator[redis_py.Redis]:
    """A plain redis-py client of the emptied server; replies are bytes."""
    client = redis_py.Redis.from_url(redis_url)
    yield client
    client.close()


@pytest.fixture
def redis_proxy(redis_url: str) -> Iterator[RedisProxy]:
    """A proxy in front of the emptied server that loses requests and replies when told to; use `redis_proxy.url`."""
    with RedisProxy(redis_url) as proxy:
        yield proxy
