"""Taking units of work: from queue to in-flight record, once, whatever happens to the replies."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import redis as redis_py

from pyqik.wire.broker import Broker, DeadLimits, Superseded, Taken, recover
from pyqik.wire.connection import open_redis
from tests.redis.wire.database import contents, fill, record
from tests.support.proxy import RedisProxy

RECORD = "pyqik:in-flight:host:1:abc"
LANDING = "pyqik:landing:host:1:abc:default"


def take(broker: Broker, count: int, *queues: str, adopt: bool = False) -> Taken:
    return broker.exchange([], count, queues, adopt=adopt, now=1.0)


def taken(broker: Broker, count: int, *queues: str, adopt: bool = False) -> list[bytes]:
    return [unit.raw for unit in take(broker, count, *queues, adopt=adopt).units]


def test_the_oldest_is_taken_first_and_stands_in_the_record(broker: Broker, redis: redis_py.Redis) -> None:
    fill(redis, {"queue:a": [b"3", b"2", b"1"]})

    units = take(broker, 2, "a").units

    assert [(unit.token, unit.queue, unit.raw) for unit in units] == [(b"1:1", "a", b"1"), (b"1:2", "a", b"2")]
    assert contents(redis) == {
        "queue:a": [b"3"],
        RECORD: record(1, "a", (b"1:1", b"a\n1"), (b"1:2", b"a\n2")),
    }


def test_queues_are_emptied_in_the_order_in_which_they_are_named(broker: Broker, redis: redis_py.Redis) -> None:
    fill(redis, {"queue:a": [b"a2", b"a1"], "queue:b": [b"b2", b"b1"], "queue:c": [b"c1"]})

    raws = taken(broker, 4, "b", "a", "c")

    assert raws == [b"b1", b"b2", b"a1", b"a2"]
    assert contents(redis)["queue:c"] == [b"c1"]


@pytest.mark.parametrize(("count", "expected"), [(1, [b"1"]), (3, [b"1", b"2", b"3"]), (50, [b"1", b"2", b"3"])])
def test_no_more_than_asked_for_and_no_more_than_there_is(
    broker: Broker, redis: redis_py.Redis, count: int, expected: list[bytes]
) -> None:
    fill(redis, {"queue:a": [b"3", b"2", b"1"]})

    assert taken(broker, count, "a") == expected


def test_any_bytes_and_a_queue_of_any_name_survive(broker: Broker, redis: redis_py.Redis) -> None:
    raw = bytes(range(256)) + b"\n1:1\n"
    fill(redis, {"queue:größe:x y": [raw]})

    (unit,) = take(broker, 1, "größe:x y").units

    assert (unit.queue, unit.raw) == ("größe:x y", raw)


def test_a_paused_queue_is_left_alone_and_named(broker: Broker, redis: redis_py.Redis) -> None:
    fill(redis, {"queue:a": [b"1"], "queue:b": [b"2"], "paused": {b"a", b"elsewhere"}})

    answer = take(broker, 5, "a", "b")

    assert (answer.paused, [unit.raw for unit in answer.units]) == (("a",), [b"2"])
    assert contents(redis)["queue:a"] == [b"1"]


def test_nothing_to_take_leaves_only_the_number_of_the_take(broker: Broker, redis: redis_py.Redis) -> None:
    assert taken(broker, 5, "a", "b") == []
    assert contents(redis) == {RECORD: record(1, "a b")}


def test_no_room_and_nothing_to_adopt_sends_nothing(broker: Broker, redis: redis_py.Redis) -> None:
    fill(redis, {"queue:a": [b"1"]})

    assert taken(broker, 0, "a") == []
    assert contents(redis) == {"queue:a": [b"1"]}


# Adopting.


def test_landed_jobs_are_adopted_before_those_that_wait(broker: Broker, redis: redis_py.Redis) -> None:
    # A blocking move puts the newest at the head.
    fill(redis, {"queue:a": [b"4", b"3"], f"{LANDING}:a": [b"2", b"1"], f"{LANDING}:b": [b"0"]})

    raws = taken(broker, 4, "a", "b", adopt=True)

    assert raws == [b"1", b"2", b"0", b"3"]
    assert contents(redis) == {
        "queue:a": [b"4"],
        RECORD: record(1, "a b", (b"1:1", b"a\n1"), (b"1:2", b"a\n2"), (b"1:3", b"b\n0"), (b"1:4", b"a\n3")),
    }


def test_landed_jobs_that_are_too_many_go_back_to_the_front_in_their_order(
    broker: Broker, redis: redis_py.Redis
) -> None:
    fill(redis, {"queue:a": [b"5", b"4"], f"{LANDING}:a": [b"3", b"2", b"1"], f"{LANDING}:b": [b"7", b"6"]})

    raws = taken(broker, 1, "a", "b", adopt=True)

    assert raws == [b"1"]
    assert contents(redis) == {
        "queue:a": [b"5", b"4", b"3", b"2"],
        "queue:b": [b"7", b"6"],
        RECORD: record(1, "a b", (b"1:1", b"a\n1")),
    }


def test_adopting_without_room_gives_everything_back(broker: Broker, redis: redis_py.Redis) -> None:
    fill(redis, {"queue:a": [b"3"], f"{LANDING}:a": [b"2", b"1"]})

    raws = taken(broker, 0, "a", adopt=True)

    assert raws == []
    assert contents(redis) == {"queue:a": [b"3", b"2", b"1"], RECORD: record(1, "a")}


def test_what_landed_from_a_queue_that_is_paused_by_now_goes_back(broker: Broker, redis: redis_py.Redis) -> None:
    fill(redis, {"queue:a": [b"2"], f"{LANDING}:a": [b"1"], "paused": {b"a"}})

    raws = taken(broker, 5, "a", adopt=True)

    assert raws == []
    assert contents(redis)["queue:a"] == [b"2", b"1"]


def test_without_adopting_the_landing_lists_are_left_alone(broker: Broker, redis: redis_py.Redis) -> None:
    fill(redis, {f"{LANDING}:a": [b"1"]})

    assert taken(broker, 5, "a") == []
    assert contents(redis)[f"{LANDING}:a"] == [b"1"]


def test_another_process_s_landing_list_is_none_of_ours(broker: Broker, redis: redis_py.Redis) -> None:
    fill(redis, {"pyqik:landing:host:1:other:default:a": [b"1"]})

    assert taken(broker, 5, "a", adopt=True) == []


# Repeating.


@pytest.fixture
def proxied(connect: Callable[..., Broker], redis_proxy: RedisProxy, redis: redis_py.Redis) -> Broker:
    """A broker whose first take is an EVAL, as the server knows no script."""
    redis.script_flush()
    return connect(redis_proxy.url)


def lose_reply(proxy: RedisProxy, broker: Broker, count: int, queues: Sequence[str]) -> None:
    """A take that the server runs and whose reply is cut off."""
    proxy.cut_after_request(command="EVAL")
    with pytest.raises(redis_py.ConnectionError):
        take(broker, count, *queues)
    broker.close()


def test_a_take_whose_reply_was_lost_gives_the_same_answer_again(
    proxied: Broker, redis_proxy: RedisProxy, redis: redis_py.Redis
) -> None:
    fill(redis, {"queue:a": [b"3", b"2", b"1"]})
    lose_reply(redis_proxy, proxied, 2, ["a"])
    lost = contents(redis)

    units = take(proxied, 2, "a").units

    assert [(unit.token, unit.raw) for unit in units] == [(b"1:1", b"1"), (b"1:2", b"2")]
    assert contents(redis) == lost


@pytest.mark.parametrize("count", [0, 1, 50], ids=["no room", "less room", "more room"])
def test_the_answer_is_the_same_whatever_room_there_is_by_then(
    proxied: Broker, redis_proxy: RedisProxy, redis: redis_py.Redis, count: int
) -> None:
    fill(redis, {"queue:a": [b"3", b"2", b"1"]})
    lose_reply(redis_proxy, proxied, 2, ["a"])

    assert taken(proxied, count, "a") == [b"1", b"2"]
    assert contents(redis)["queue:a"] == [b"3"]


def test_the_next_take_after_a_repeated_one_takes_anew(
    proxied: Broker, redis_proxy: RedisProxy, redis: redis_py.Redis
) -> None:
    fill(redis, {"queue:a": [b"3", b"2", b"1"]})
    lose_reply(redis_proxy, proxied, 2, ["a"])
    take(proxied, 2, "a")

    (unit,) = take(proxied, 2, "a").units

    assert (unit.token, unit.raw) == (b"2:1", b"3")


def test_a_take_that_arrives_after_a_later_one_is_refused_and_changes_nothing(
    broker: Broker, connect: Callable[..., Broker], redis_url: str, redis: redis_py.Redis
) -> None:
    fill(redis, {"queue:a": [b"3", b"2", b"1"]})
    take(broker, 1, "a")
    take(broker, 1, "a")
    before = contents(redis)

    with pytest.raises(Superseded):
        take(connect(redis_url), 1, "a")

    assert contents(redis) == before


def test_a_process_that_was_declared_dead_takes_nothing_more(broker: Broker, redis: redis_py.Redis) -> None:
    fill(redis, {"queue:a": [b"2", b"1"]})
    take(broker, 1, "a")
    recover(redis, "host:1:abc")
    before = contents(redis)

    with pytest.raises(Superseded, match="host:1:abc"):
        take(broker, 1, "a")

    assert contents(redis) == before


def test_a_server_that_has_forgotten_its_scripts_is_taught_anew(broker: Broker, redis: redis_py.Redis) -> None:
    fill(redis, {"queue:a": [b"2", b"1"]})
    take(broker, 1, "a")
    redis.script_flush()

    assert taken(broker, 1, "a") == [b"2"]


def test_the_record_tells_what_is_held(broker: Broker, redis: redis_py.Redis) -> None:
    fill(redis, {"queue:a": [b"2", b"1"]})
    take(broker, 2, "a")

    assert sorted(broker.held()) == [b"1:1", b"1:2"]


# Blocking moves.


def test_a_job_that_wakes_a_waiter_stands_on_the_landing_list(broker: Broker, redis: redis_py.Redis) -> None:
    waiter = broker.waiter("a")
    waiter.arm(0.0)

    redis.lpush("queue:a", b"1")

    assert waiter.landed()
    assert contents(redis) == {f"{LANDING}:a": [b"1"]}
    waiter.close()


def test_an_unblocked_waiter_has_landed_nothing(broker: Broker, redis: redis_py.Redis) -> None:
    waiter = broker.waiter("a")
    waiter.arm(0.0)

    assert broker.unblock([waiter])

    assert not waiter.landed()
    waiter.close()


def test_a_waiter_that_was_woken_before_it_is_unblocked_tells_so(broker: Broker, redis: redis_py.Redis) -> None:
    waiter = broker.waiter("a")
    waiter.arm(0.0)
    redis.lpush("queue:a", b"1")

    assert broker.unblock([waiter])

    assert waiter.landed()
    waiter.close()


def test_without_leave_to_unblock_the_caller_is_told(redis_url: str, redis: redis_py.Redis) -> None:
    redis.execute_command("ACL", "SETUSER", "lame", "on", ">pw", "~*", "&*", "+@all", "-client")
    client = open_redis(redis_url.replace("redis://", "redis://lame:pw@"))
    broker = Broker(client, "host:1:abc", DeadLimits())
    waiter = broker.waiter("a")
    waiter.arm(0.0)

    assert broker.unblock([waiter]) is False

    waiter.close()
    broker.close()
    redis.execute_command("ACL", "DELUSER", "lame")
