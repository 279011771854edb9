"""Settling units of work: out of the record and into exactly one place, once, with everything else left alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import redis as redis_py

from pyqik.wire.broker import BACK, FRONT, GONE, Broker, DeadLimits, Place, UnitOfWork, recover
from tests.redis.wire.database import Value, contents, fill, record
from tests.support.proxy import RedisProxy

RECORD = "pyqik:in-flight:host:1:abc"
NOW = 1_795_320_000.5


@pytest.fixture
def units(broker: Broker, redis: redis_py.Redis) -> Sequence[UnitOfWork]:
    """Three units that the broker holds, of the queue `a`, in which `4` waits."""
    fill(redis, {"queues": {b"a"}, "queue:a": [b"4", b"3", b"2", b"1"]})
    return broker.exchange([], 3, ["a"], adopt=False, now=NOW).units


def settle(broker: Broker, *endings: tuple[UnitOfWork, Place]) -> None:
    broker.exchange(endings, 0, [], adopt=False, now=NOW)


REST: dict[str, Value] = {"queues": {b"a"}, RECORD: record(1, "a", (b"1:2", b"a\n2"), (b"1:3", b"a\n3"))}


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        pytest.param(GONE, {"queue:a": [b"4"]}, id="gone"),
        pytest.param(Place("drop"), {"queue:a": [b"4"]}, id="dropped within a batch of others"),
        pytest.param(FRONT, {"queue:a": [b"4", b"1"]}, id="front"),
        pytest.param(BACK, {"queue:a": [b"1", b"4"]}, id="back"),
        pytest.param(Place("add", "retry", 7.5, b"1'"), {"queue:a": [b"4"], "retry": {b"1'": 7.5}}, id="retry"),
        pytest.param(
            Place("add", "schedule", NOW, b"1'"), {"queue:a": [b"4"], "schedule": {b"1'": NOW}}, id="schedule"
        ),
        pytest.param(Place("add", "dead", NOW, b"1'"), {"queue:a": [b"4"], "dead": {b"1'": NOW}}, id="dead"),
        pytest.param(Place("add", "retry", 7.5), {"queue:a": [b"4"], "retry": {b"1": 7.5}}, id="bytes as they were"),
        pytest.param(Place("front", payload=b"1'"), {"queue:a": [b"4", b"1'"]}, id="front with other bytes"),
    ],
)
def test_a_unit_leaves_the_record_for_one_place(
    broker: Broker, units: Sequence[UnitOfWork], redis: redis_py.Redis, place: Place, expected: dict[str, Value]
) -> None:
    settle(broker, (units[0], place))

    assert contents(redis) == REST | expected


@pytest.mark.parametrize(
    "place", [GONE, FRONT, BACK, Place("add", "retry", 7.5, b"1'")], ids=["gone", "front", "back", "retry"]
)
def test_settling_twice_is_settling_once(
    broker: Broker, units: Sequence[UnitOfWork], redis: redis_py.Redis, place: Place
) -> None:
    settle(broker, (units[0], place))
    once = contents(redis)

    settle(broker, (units[0], place))

    assert contents(redis) == once


@pytest.mark.parametrize("place", [GONE, FRONT, Place("add", "dead", NOW, b"x")], ids=["gone", "front", "dead"])
def test_a_token_that_is_not_in_the_record_settles_nothing(
    broker: Broker, units: Sequence[UnitOfWork], redis: redis_py.Redis, place: Place
) -> None:
    before = contents(redis)

    settle(broker, (UnitOfWork(b"9:1", "a", b"x"), place))

    assert contents(redis) == before


def test_many_endings_of_every_kind_are_settled_in_one_round_trip(
    broker: Broker, units: Sequence[UnitOfWork], redis: redis_py.Redis
) -> None:
    settle(broker, (units[0], FRONT), (units[1], GONE), (units[2], Place("add", "retry", 1.0, b"3'")))

    assert contents(redis) == {
        "queues": {b"a"},
        "queue:a": [b"4", b"1"],
        "retry": {b"3'": 1.0},
        RECORD: record(1, "a"),
    }


def test_units_given_back_newest_first_stand_in_their_old_order(
    broker: Broker, units: Sequence[UnitOfWork], redis: redis_py.Redis
) -> None:
    settle(broker, *[(unit, FRONT) for unit in reversed(units)])

    assert contents(redis)["queue:a"] == [b"4", b"3", b"2", b"1"]


def test_giving_back_makes_the_queue_visible_again(
    broker: Broker, units: Sequence[UnitOfWork], redis: redis_py.Redis
) -> None:
    redis.delete("queues")

    settle(broker, (units[0], FRONT))

    assert contents(redis)["queues"] == {b"a"}


def test_settling_and_taking_are_one_round_trip(
    broker: Broker, units: Sequence[UnitOfWork], redis: redis_py.Redis
) -> None:
    answer = broker.exchange([(units[0], GONE), (units[1], BACK)], 1, ["a"], adopt=False, now=NOW)

    assert [(unit.token, unit.raw) for unit in answer.units] == [(b"2:1", b"4")]
    assert contents(redis) == {
        "queues": {b"a"},
        "queue:a": [b"2"],
        RECORD: record(2, "a", (b"1:3", b"a\n3"), (b"2:1", b"a\n4")),
    }


def test_an_outcome_after_a_rescue_changes_nothing(
    broker: Broker, units: Sequence[UnitOfWork], redis: redis_py.Redis
) -> None:
    recover(redis, "host:1:abc")
    before = contents(redis)

    settle(broker, (units[0], Place("add", "retry", 7.5, b"1'")), (units[1], FRONT), (units[2], GONE))

    assert contents(redis) == before


def test_a_server_that_has_forgotten_its_scripts_is_taught_anew(
    broker: Broker, units: Sequence[UnitOfWork], redis: redis_py.Redis
) -> None:
    settle(broker, (units[0], BACK))
    redis.script_flush()

    answer = broker.exchange([(units[1], BACK)], 1, ["a"], adopt=False, now=NOW)

    assert [unit.raw for unit in answer.units] == [b"4"]
    assert contents(redis)["queue:a"] == [b"2", b"1"]


@pytest.mark.parametrize("command", ["HDEL", "EVALSHA", "EVAL"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_exchange_cut_at_any_command_may_be_repeated(
    connect: Callable[..., Broker], redis_proxy: RedisProxy, redis: redis_py.Redis, command: str, when: str
) -> None:
    broker = connect(redis_proxy.url)
    fill(redis, {"queue:a": [b"5", b"4", b"3", b"2", b"1"]})
    held = broker.exchange([], 3, ["a"], adopt=False, now=NOW).units
    redis.script_flush()
    endings = [(held[0], GONE), (held[1], BACK), (held[2], Place("add", "retry", 1.0, b"3'"))]
    cut = redis_proxy.cut_before_request if when == "before" else redis_proxy.cut_after_request
    cut(command=command)
    with pytest.raises(redis_py.ConnectionError):
        broker.exchange(endings, 2, ["a"], adopt=False, now=NOW)
    broker.close()

    answer = broker.exchange(endings, 2, ["a"], adopt=False, now=NOW)

    assert [unit.raw for unit in answer.units] == [b"4", b"5"]
    assert contents(redis) == {
        "queues": {b"a"},
        "queue:a": [b"2"],
        "retry": {b"3'": 1.0},
        RECORD: record(2, "a", (b"2:1", b"a\n4"), (b"2:2", b"a\n5")),
    }


# The limits of the dead set.


def die(connect: Callable[..., Broker], url: str, redis: redis_py.Redis, limits: DeadLimits) -> None:
    """Settle one unit into the dead set, at `NOW`."""
    broker = connect(url, limits=limits)
    redis.rpush("queue:a", b"1")
    (unit,) = broker.exchange([], 1, ["a"], adopt=False, now=NOW).units
    settle(broker, (unit, Place("add", "dead", NOW, b"new")))


@pytest.mark.parametrize(
    ("before", "most", "after"),
    [
        pytest.param(9_998, 10_000, 9_999, id="9,999 fit"),
        pytest.param(9_999, 10_000, 9_999, id="the oldest goes"),
        pytest.param(12, 10, 9, id="a smaller limit"),
    ],
)
def test_the_dead_set_holds_one_less_than_its_limit_as_sidekiqs_does(
    connect: Callable[..., Broker], redis_url: str, redis: redis_py.Redis, before: int, most: int, after: int
) -> None:
    redis.zadd("dead", {f"old{number}": NOW - before + number for number in range(before)})

    die(connect, redis_url, redis, DeadLimits(most_entries=most))

    assert redis.zcard("dead") == after
    assert redis.zscore("dead", "new") == NOW
    assert (redis.zscore("dead", "old0") is None) == (before + 1 > after)


def test_what_is_older_than_the_limit_leaves_the_dead_set(
    connect: Callable[..., Broker], redis_url: str, redis: redis_py.Redis
) -> None:
    redis.zadd("dead", {"too old": NOW - 100, "old": NOW - 99.5})

    die(connect, redis_url, redis, DeadLimits(max_age=100.0))

    assert contents(redis)["dead"] == {b"old": NOW - 99.5, b"new": NOW}


def test_a_retry_does_not_trim_the_dead_set(broker: Broker, units: Sequence[UnitOfWork], redis: redis_py.Redis) -> None:
    redis.zadd("dead", {"very old": 1.0})

    settle(broker, (units[0], Place("add", "retry", 7.5, b"1'")))

    assert contents(redis)["dead"] == {b"very old": 1.0}
