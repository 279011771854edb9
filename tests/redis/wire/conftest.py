"""A broker on the emptied server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
import redis as redis_py

from pyqik.wire.broker import Broker, DeadLimits, UnitOfWork
from pyqik.wire.connection import open_redis
from tests.redis.wire.database import fill

IDENTITY = "host:1:abc"


@pytest.fixture
def connect() -> Iterator[Callable[..., Broker]]:
    """`connect(url, identity, limits)`: a broker, closed after the test."""
    brokers: list[Broker] = []

    def connect(url: str, identity: str = IDENTITY, limits: DeadLimits | None = None) -> Broker:
        client = open_redis(url)
        brokers.append(Broker(client, identity, limits or DeadLimits()))
        return brokers[-1]

    yield connect
    for broker in brokers:
        broker.close()


@pytest.fixture
def broker(connect: Callable[..., Broker], redis_url: str) -> Broker:
    """The broker of the process `host:1:abc`."""
    return connect(redis_url)


@pytest.fixture
def units(broker: Broker, redis: redis_py.Redis) -> Sequence[UnitOfWork]:
    """Two units that the broker holds, of the queue `a`."""
    fill(redis, {"queues": {b"a"}, "queue:a": [b"2", b"1"]})
    return broker.exchange([], 2, ["a"], adopt=False, now=1_795_320_000.0).units
