"""Giving back what a dead process held: everything, once, in the old order, and for good."""

from __future__ import annotations

from collections.abc import Callable

import redis as redis_py

from pyqik.wire.broker import GONE, TOMBSTONE, Broker, recover
from tests.redis.wire.database import contents, fill, record

RECORD = "pyqik:in-flight:host:1:abc"
LANDING = "pyqik:landing:host:1:abc:default"


def test_everything_goes_back_to_the_front_the_oldest_first(broker: Broker, redis: redis_py.Redis) -> None:
    jobs = [b"%d" % number for number in range(1, 31)]
    fill(redis, {"queue:a": jobs[::-1], "queue:b": [b"x"]})
    for _ in range(12):
        broker.exchange([], 2, ["a", "b"], adopt=False, now=1.0)

    count = recover(redis, "host:1:abc")

    assert count == 24
    assert contents(redis) == {
        "queues": {b"a"},
        "queue:a": jobs[::-1],
        "queue:b": [b"x"],
        RECORD: record(12, "a b", ended=True),
    }


def test_what_has_landed_goes_back_behind_what_was_taken_before_it(broker: Broker, redis: redis_py.Redis) -> None:
    fill(redis, {"queue:a": [b"5", b"4", b"2", b"1"]})
    broker.exchange([], 2, ["a", "b"], adopt=False, now=1.0)
    fill(redis, {f"{LANDING}:a": [b"3b", b"3a"], f"{LANDING}:b": [b"x"]})

    count = recover(redis, "host:1:abc")

    assert count == 5
    assert contents(redis) == {
        "queues": {b"a", b"b"},
        "queue:a": [b"5", b"4", b"3b", b"3a", b"2", b"1"],
        "queue:b": [b"x"],
        RECORD: record(1, "a b", ended=True),
    }


def test_what_is_settled_does_not_come_back(broker: Broker, redis: redis_py.Redis) -> None:
    fill(redis, {"queue:a": [b"2", b"1"]})
    first, _ = broker.exchange([], 2, ["a"], adopt=False, now=1.0).units
    broker.exchange([(first, GONE)], 0, [], adopt=False, now=1.0)

    recover(redis, "host:1:abc")

    assert contents(redis)["queue:a"] == [b"2"]


def test_a_second_recovery_finds_nothing(broker: Broker, redis: redis_py.Redis) -> None:
    fill(redis, {"queue:a": [b"2", b"1"]})
    broker.exchange([], 2, ["a"], adopt=False, now=1.0)
    recover(redis, "host:1:abc")
    once = contents(redis)

    count = recover(redis, "host:1:abc")

    assert (count, contents(redis)) == (0, once)


def test_a_second_recovery_finds_what_landed_meanwhile(broker: Broker, redis: redis_py.Redis) -> None:
    broker.exchange([], 1, ["a"], adopt=False, now=1.0)
    fill(redis, {"queue:a": [b"2"]})
    recover(redis, "host:1:abc")
    fill(redis, {f"{LANDING}:a": [b"1"]})

    count = recover(redis, "host:1:abc")

    assert (count, contents(redis)["queue:a"]) == (1, [b"2", b"1"])


def test_a_process_that_never_took_anything_leaves_only_the_word_that_it_has_ended(redis: redis_py.Redis) -> None:
    count = recover(redis, "host:1:abc")

    assert count == 0
    assert contents(redis) == {RECORD: {b"ended": b"1"}}


def test_the_word_that_it_has_ended_is_forgotten_one_day(redis: redis_py.Redis) -> None:
    recover(redis, "host:1:abc")

    assert TOMBSTONE - 5 <= redis.ttl(RECORD) <= TOMBSTONE


def test_bytes_and_queue_names_survive(broker: Broker, redis: redis_py.Redis) -> None:
    raw = bytes(range(256))
    fill(redis, {"queue:größe": [raw]})
    broker.exchange([], 1, ["größe"], adopt=False, now=1.0)

    recover(redis, "host:1:abc")

    assert contents(redis)["queue:größe"] == [raw]


def test_the_living_keep_what_they_hold(
    broker: Broker, connect: Callable[..., Broker], redis_url: str, redis: redis_py.Redis
) -> None:
    fill(redis, {"queue:a": [b"2", b"1"]})
    broker.exchange([], 1, ["a"], adopt=False, now=1.0)
    connect(redis_url, "host:2:def").exchange([], 1, ["a"], adopt=False, now=1.0)

    recover(redis, "host:1:abc")

    assert contents(redis)["pyqik:in-flight:host:2:def"] == record(1, "a", (b"1:1", b"a\n2"))
