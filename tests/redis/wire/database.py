"""The whole database as plain Python values, so that a test can say what everything looks like after one act."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import redis as redis_py

#: A list as list (head first), a set as set, a hash as dict, a sorted set as dict of scores, a string as bytes.
Value = bytes | list[bytes] | set[bytes] | dict[bytes, Any]


def contents(redis: redis_py.Redis) -> dict[str, Value]:
    """Every key and its value."""
    # Any: redis-py types replies for both of its clients at once.
    client: Any = redis
    readers: dict[bytes, Callable[[bytes], Value]] = {
        b"string": client.get,
        b"list": lambda key: list(client.lrange(key, 0, -1)),
        b"set": lambda key: set(client.smembers(key)),
        b"hash": lambda key: dict(client.hgetall(key)),
        b"zset": lambda key: dict(client.zrange(key, 0, -1, withscores=True)),
    }
    return {key.decode(): readers[client.type(key)](key) for key in sorted(client.keys("*"))}


def fill(redis: redis_py.Redis, values: Mapping[str, Value]) -> None:
    """Write `values` in the form of `contents`; a dict of floats is a sorted set."""
    client: Any = redis
    for key, value in values.items():
        match value:
            case bytes():
                client.set(key, value)
            case list():
                client.rpush(key, *value)
            case set():
                client.sadd(key, *value)
            case dict() if all(isinstance(score, float) for score in value.values()):
                client.zadd(key, value)
            case dict():
                client.hset(key, mapping=value)


def record(take: int, queues: str, *units: tuple[bytes, bytes], ended: bool = False) -> dict[bytes, Any]:
    """An in-flight record whose default capsule has made its `take`th take from `queues` (a blank between two), with
    these units.
    """
    fields: dict[bytes, Any] = {b"take.default": b"%d" % take, b"queues.default": queues.replace(" ", "\n").encode()}
    return {**fields, **dict(units), **({b"ended": b"1"} if ended else {})}
