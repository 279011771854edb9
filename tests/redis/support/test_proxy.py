"""The proxy of the tests does what the tests of outages rely on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis as redis_py
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.proxy import RedisProxy
from tests.support.wait import wait_until


@pytest.fixture
def proxied(redis_proxy: RedisProxy) -> Iterator[redis_py.Redis]:
    """A client through the proxy that repeats nothing by itself."""
    client = redis_py.Redis.from_url(redis_proxy.url, protocol=2, socket_timeout=2, retry=Retry(NoBackoff(), 0))
    yield client
    client.close()


def test_an_open_proxy_is_transparent(proxied: redis_py.Redis) -> None:
    proxied.set("key", b"\r\n*3\r\n" * 50_000)

    value = proxied.get("key")

    assert value == b"\r\n*3\r\n" * 50_000


def test_a_cut_after_a_request_loses_only_the_reply(
    redis: redis_py.Redis, proxied: redis_py.Redis, redis_proxy: RedisProxy
) -> None:
    redis_proxy.cut_after_request(2, command="INCRBY")
    proxied.incr("count")

    with pytest.raises(redis_py.ConnectionError):
        proxied.incr("count")

    assert redis.get("count") == b"2"
    assert redis_proxy.cuts == 1


def test_a_cut_before_a_request_loses_the_request(
    redis: redis_py.Redis, proxied: redis_py.Redis, redis_proxy: RedisProxy
) -> None:
    redis_proxy.cut_before_request(command="INCRBY")

    with pytest.raises(redis_py.ConnectionError):
        proxied.incr("count")

    assert redis.get("count") is None
    assert redis_proxy.cuts == 1


def test_a_cut_after_a_pipeline_lets_the_server_run_all_that_came_before(
    redis: redis_py.Redis, proxied: redis_py.Redis, redis_proxy: RedisProxy
) -> None:
    redis_proxy.cut_after_request(3, command="INCRBY")
    pipeline = proxied.pipeline(transaction=False)
    for _ in range(3):
        pipeline.incr("count")

    with pytest.raises(redis_py.ConnectionError):
        pipeline.execute()

    assert redis.get("count") == b"3"


def test_what_a_blackhole_swallows_never_arrives(
    redis: redis_py.Redis, proxied: redis_py.Redis, redis_proxy: RedisProxy
) -> None:
    proxied.incr("count")
    redis_proxy.blackhole()

    with pytest.raises(redis_py.TimeoutError):
        proxied.incr("count")

    redis_proxy.restore()
    assert proxied.incr("count") == 2


def test_what_a_pause_holds_back_arrives_later(
    redis: redis_py.Redis, proxied: redis_py.Redis, redis_proxy: RedisProxy
) -> None:
    proxied.incr("count")
    redis_proxy.pause()
    with pytest.raises(redis_py.TimeoutError):
        proxied.incr("count")

    redis_proxy.restore()

    assert wait_until(lambda: redis.get("count") == b"2")


def test_a_refusing_proxy_cuts_what_is_open_and_what_comes(proxied: redis_py.Redis, redis_proxy: RedisProxy) -> None:
    proxied.ping()

    redis_proxy.refuse()

    for _ in range(3):
        with pytest.raises(redis_py.ConnectionError):
            proxied.ping()
