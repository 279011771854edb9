"""Both clients behind one face, so that every test of pushing runs for both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis as redis_py
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

import pyqik

Push = Callable[..., Any]


class PushesBlocking:
    """`push` and `push_bulk` of a `Client`; `timeout` is how long a reply may take."""

    def __init__(self, url: str, timeout: float, middleware: tuple[pyqik.ClientMiddleware, ...]) -> None:
        self._redis = redis_py.Redis.from_url(url, socket_timeout=timeout, retry=Retry(NoBackoff(), 0))
        self._client = pyqik.Client(self._redis, middleware)

    def push(self, *args: Any, **fields: Any) -> str | None:
        return self._client.push(*args, **fields)

    def push_bulk(self, *args: Any, **fields: Any) -> list[str | None]:
        return self._client.push_bulk(*args, **fields)

    def close(self) -> None:
        self._redis.close()


class PushesAsync:
    """The same of an `AsyncClient`, in an event loop of its own."""

    def __init__(self, url: str, timeout: float, middleware: tuple[pyqik.ClientMiddleware, ...]) -> None:
        self._runner = asyncio.Runner()
        self._redis = redis.asyncio.Redis.from_url(url, socket_timeout=timeout, retry=AsyncRetry(NoBackoff(), 0))
        self._client = pyqik.AsyncClient(self._redis, middleware)

    def push(self, *args: Any, **fields: Any) -> str | None:
        return self._runner.run(self._client.push(*args, **fields))

    def push_bulk(self, *args: Any, **fields: Any) -> list[str | None]:
        return self._runner.run(self._client.push_bulk(*args, **fields))

    def close(self) -> None:
        self._runner.run(self._redis.aclose())
        self._runner.close()


Pushes = PushesBlocking | PushesAsync


@pytest.fixture(params=[PushesBlocking, PushesAsync], ids=["blocking", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Pushes]]:
    """`connect(url, *middleware, timeout=5)`: a client of either kind, closed after the test."""
    opened: list[Pushes] = []

    def connect(url: str, *middleware: pyqik.ClientMiddleware, timeout: float = 5) -> Pushes:
        opened.append(request.param(url, timeout, middleware))
        return opened[-1]

    yield connect
    for pushes in opened:
        pushes.close()


@pytest.fixture
def pushes(connect: Callable[..., Pushes], redis_url: str) -> Pushes:
    """A client of either kind on the emptied server."""
    return connect(redis_url)
