"""What all jobs of this process share: its configuration, and the clients through which `perform_async` pushes."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast
from weakref import WeakKeyDictionary

from pyqik.core.config import Config
from pyqik.core.config.sources import read_environment
from pyqik.core.errors import ConfigError
from pyqik.jobs.client import AsyncClient, Client
from pyqik.jobs.middleware import ClientMiddleware


class _Process:
    """The one global of the package. Everything in it is made when it is first needed."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.config: Config | None = None
        #: Whether `config` was read from all sources, so that the environment has been heard.
        self.settled = False
        self.client: Client | None = None
        self.async_clients: WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[AsyncClient, AsyncGenerator[AsyncClient]]
        ] = WeakKeyDictionary()

    def forget_clients(self) -> None:
        if self.client is not None:
            self.client.close()
        self.client = None
        # Each is closed by its own loop when that ends; nobody else may touch its connections.
        self.async_clients = WeakKeyDictionary()


_process = _Process()


def configure(config: Config) -> None:
    """Set the configuration of this process: for its pushes, and for `pyqik work` if it imports the caller's module.

    The environment (`REDIS_URL`, `PYQIK_...`) and the flags of `pyqik work` are stronger than what is given here.
    """
    with _process.lock:
        _process.config, _process.settled = config, False
        _process.forget_clients()


def configured() -> Config | None:
    """What was given to `configure`, or None."""
    return _process.config


def use(config: Config) -> None:
    """Take `config` as it is, whatever the environment says: for the worker, which has read all sources already."""
    with _process.lock:
        _process.config, _process.settled = config, True
        _process.forget_clients()


def default_client() -> Client:
    """The client of this process. It connects at its first push."""
    client = _process.client
    if client is None:
        with _process.lock:
            if _process.client is None:
                target = _target()
                _process.client = Client(
                    target.redis, target.middleware, default_job_options=target.default_job_options
                )
            client = _process.client
    return client


async def default_async_client() -> AsyncClient:
    """The client of the running event loop. It is closed when the loop ends, as `asyncio.run` ends it."""
    loop = asyncio.get_running_loop()
    entry = _process.async_clients.get(loop)
    if entry is None:
        clients = _client_until_loop_ends()
        entry = (await anext(clients), clients)
        with _process.lock:
            _process.async_clients[loop] = entry
    return entry[0]


@contextmanager
def fresh_process() -> Iterator[None]:
    """A block in which nothing is configured and no client exists; afterwards all is as before. For tests."""
    global _process
    before, _process = _process, _Process()
    try:
        yield
    finally:
        _process.forget_clients()
        _process = before


async def _client_until_loop_ends() -> AsyncGenerator[AsyncClient]:
    # The loop's last act is to close the asynchronous generators that were started in it: the only hook it offers.
    target = _target()
    async with AsyncClient(target.redis, target.middleware, default_job_options=target.default_job_options) as client:
        yield client


class _Target(NamedTuple):
    """What the default clients are made of."""

    redis: str
    middleware: Sequence[ClientMiddleware]
    default_job_options: Mapping[str, Any]


def _target() -> _Target:
    given = _process.config
    redis = Config().redis if given is None else given.redis
    if not _process.settled:
        environment = read_environment(os.environ)
        if environment.mistakes:
            raise ConfigError(environment.mistakes)
        redis = str(environment.values.get("redis", redis))
    # Config leaves open what a middleware is called with: it holds those of two kinds.
    middleware = cast(Sequence[ClientMiddleware], given.client_middleware if given else ())
    return _Target(redis, middleware, given.default_job_options if given else {})
