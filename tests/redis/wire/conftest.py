"""A broker on the emptied server."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pyqik.wire.broker import Broker, DeadLimits
from pyqik.wire.connection import open_redis

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
