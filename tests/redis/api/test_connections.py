"""Which Redis `pyqik.api` reads: the process's own, that of a URL, or that of a client; and its round trips."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest
import redis as redis_py

import pyqik
from pyqik.api import DeadSet, History, ProcessSet, Queue, RetrySet, ScheduledSet, Stats, WorkSet
from pyqik.jobs.process import default_client
from tests.support.proxy import RedisProxy

#: Each class, and something that it asks.
CLASSES: list[Any] = [
    pytest.param(lambda **where: Queue("low", **where).size, 2, id="Queue"),
    pytest.param(lambda **where: len(Queue.all(**where)), 1, id="Queue.all"),
    pytest.param(lambda **where: Queue.all(**where)[0].size, 2, id="a queue of Queue.all"),
    pytest.param(lambda **where: ScheduledSet(**where).size, 1, id="ScheduledSet"),
    pytest.param(lambda **where: RetrySet(**where).size, 1, id="RetrySet"),
    pytest.param(lambda **where: DeadSet(**where).size, 1, id="DeadSet"),
    pytest.param(lambda **where: ProcessSet(**where).size, 1, id="ProcessSet"),
    pytest.param(lambda **where: len(list(WorkSet(**where))), 1, id="WorkSet"),
    pytest.param(lambda **where: Stats(**where).enqueued, 2, id="Stats"),
    pytest.param(lambda **where: sum(History(5, **where).processed.values()), 0, id="History"),
]
#: Something that asks, of any class; and the answer when it asks the right Redis.
Ask = Callable[..., int]


@pytest.fixture
def filled(redis: redis_py.Redis) -> redis_py.Redis:
    redis.sadd("queues", "low")
    redis.lpush("queue:low", "a", "b")
    for key in ("schedule", "retry", "dead"):
        redis.zadd(key, {"a": 1})
    redis.sadd("processes", "a:1:x")
    redis.hset("a:1:x:work", "t1", "{}")
    return redis


@pytest.mark.parametrize(("ask", "answer"), CLASSES)
def test_a_client_is_used_and_stays_open(filled: redis_py.Redis, ask: Ask, answer: int) -> None:
    assert ask(redis=filled) == answer
    gc.collect()
    assert filled.ping()


@pytest.mark.parametrize(("ask", "answer"), CLASSES)
def test_a_url_is_connected_to_and_left_when_nothing_needs_it(
    filled: redis_py.Redis, redis_url: str, ask: Ask, answer: int
) -> None:
    before = len(filled.client_list())

    found = ask(redis=redis_url)

    gc.collect()
    assert found == answer
    assert len(filled.client_list()) == before


@pytest.mark.parametrize(("ask", "answer"), CLASSES)
def test_without_either_it_is_the_redis_to_which_the_process_pushes(
    filled: redis_py.Redis, redis_url: str, ask: Ask, answer: int
) -> None:
    pyqik.configure(pyqik.Config(redis=redis_url))

    assert ask() == answer


def test_reading_and_pushing_share_their_connections(filled: redis_py.Redis, redis_url: str) -> None:
    pyqik.configure(pyqik.Config(redis=redis_url))
    before = len(filled.client_list())

    default_client().push("A", queue="low")
    size = Queue("low").size

    assert (size, len(filled.client_list()) - before) == (3, 1)


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_client_of_either_protocol_will_do(filled: redis_py.Redis, redis_url: str, protocol: int) -> None:
    filled.zadd("retry", {'{"class":"A","jid":"x"}': 2.5})
    client = redis_py.Redis.from_url(redis_url, protocol=protocol)
    retries = RetrySet(redis=client)

    found = [[entry.at for entry in retries], [retries.fetch(2.5)[0].at], [each.at for each in retries.scan('"x"')]]

    assert found == [[2.5, 1.0], [2.5], [2.5]]
    client.close()


def test_a_client_that_decodes_replies_is_refused(redis_url: str) -> None:
    client = redis_py.Redis.from_url(redis_url, decode_responses=True)

    with pytest.raises(ValueError, match="decode_responses=True"):
        Queue("low", redis=client)

    client.close()


def test_a_url_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="Redis URL"):
        RetrySet(redis="localhost:6379")


def test_a_mistake_in_the_environment_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_PROVIDER", "NOWHERE")

    with pytest.raises(pyqik.ConfigError, match="NOWHERE"):
        Stats()


def test_in_async_code_a_thread_asks(filled: redis_py.Redis, redis_url: str) -> None:
    async def enqueued() -> int:
        return await asyncio.to_thread(lambda: Stats(redis=redis_url).enqueued)

    assert asyncio.run(enqueued()) == 2


def test_the_statistics_take_two_round_trips(filled: redis_py.Redis, redis_proxy: RedisProxy) -> None:
    for number in range(50):
        filled.sadd("queues", f"q{number}")
    client = redis_py.Redis.from_url(redis_proxy.url)
    client.ping()
    received: list[bytes] = []
    connection = client.connection_pool.get_connection()
    pack = connection.pack_commands
    connection.pack_commands = lambda commands: received.append(b"") or pack(commands)
    client.connection_pool.release(connection)

    Stats(redis=client)

    assert len(received) == 2
    client.close()
