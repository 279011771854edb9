"""Looking at leases, and declaring dead whose lease has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis as redis_py

from pyqik.wire import presence
from pyqik.wire.broker import BACK, GONE, Broker, DeadLimits, Superseded, recover
from pyqik.wire.connection import open_redis
from pyqik.wire.leases import Leases, Verdict
from tests.redis.wire.database import contents, fill, record
from tests.redis.wire.test_presence import IDENTITY, beat
from tests.support.proxy import RedisProxy
from tests.support.redis_server import RedisServer

RECORD = f"pyqik:in-flight:{IDENTITY}"


@pytest.fixture
def leases(redis_url: str) -> Iterator[Leases]:
    leases = Leases(open_redis(redis_url))
    yield leases
    leases.close()


def redis_time(redis: redis_py.Redis) -> float:
    seconds, microseconds = redis.execute_command("TIME")
    return int(seconds) + int(microseconds) / 1_000_000


def test_a_look_shows_what_has_ended_or_soon_will_and_changes_nothing(leases: Leases, redis: redis_py.Redis) -> None:
    now = redis_time(redis)
    fill(redis, {"pyqik:leases": {b"past:1:a": now - 5.25, b"soon:1:b": now + 9, b"later:1:c": now + 20}})
    before = contents(redis)

    look = leases.look(15)

    assert look.ends == {"past:1:a": pytest.approx(now - 5.25, abs=1e-6), "soon:1:b": pytest.approx(now + 9, abs=1e-6)}
    assert now <= look.now <= now + 5
    assert look.run_id == redis.execute_command("INFO", "server")["run_id"]
    assert contents(redis) == before


def test_a_look_at_no_leases_shows_none_and_makes_no_key(leases: Leases, redis: redis_py.Redis) -> None:
    assert leases.look(15).ends == {}
    assert contents(redis) == {}


def test_a_look_takes_one_round_trip(redis_proxy: RedisProxy) -> None:
    leases = Leases(open_redis(redis_proxy.url))
    leases.look(1)
    redis_proxy.requests.clear()

    leases.look(1)

    leases.close()
    assert redis_proxy.requests == ["EVALSHA", "INFO"]


def test_a_look_without_leave_for_info_knows_no_run_id(redis_url: str, redis: redis_py.Redis) -> None:
    redis.execute_command("ACL", "SETUSER", "lame", "on", ">pw", "~*", "&*", "+@all", "-info")
    leases = Leases(open_redis(redis_url.replace("redis://", "redis://lame:pw@")))

    look = leases.look(15)

    leases.close()
    redis.execute_command("ACL", "DELUSER", "lame")
    assert (look.run_id, look.ends) == ("", {})


def test_a_look_breaks_with_its_connection_and_the_next_one_opens_another(redis_proxy: RedisProxy) -> None:
    leases = Leases(open_redis(redis_proxy.url))
    leases.look(1)
    redis_proxy.cut_all()

    with pytest.raises(redis_py.ConnectionError):
        leases.look(1)

    assert leases.look(1).ends == {}
    leases.close()


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def fill_up(client: redis_py.Redis) -> None:
    client.config_set("maxmemory", "1")


def make_a_replica(client: redis_py.Redis) -> None:
    client.replicaof("127.0.0.1", 1)


@pytest.mark.parametrize("spoil", [fill_up, make_a_replica])
def test_a_look_fails_where_a_heartbeat_does(own_server: RedisServer, spoil: Callable[[redis_py.Redis], None]) -> None:
    client = open_redis(own_server.url)
    leases = Leases(open_redis(own_server.url))
    leases.look(1)
    spoil(client)

    with pytest.raises(redis_py.ResponseError):
        beat(client)
    with pytest.raises(redis_py.ResponseError):
        leases.look(1)

    leases.close()
    client.close()


# Declaring dead.


def test_who_is_declared_dead_can_neither_take_nor_beat_nor_is_it_shown(
    leases: Leases, broker: Broker, redis: redis_py.Redis
) -> None:
    fill(redis, {"queue:a": [b"2", b"1"]})
    broker.exchange([], 1, ["a"], adopt=False, now=1.0)
    fill(redis, {"pyqik:leases": {IDENTITY.encode(): 5.0}})

    verdicts = [leases.declare_dead(IDENTITY, 5.0), leases.declare_dead(IDENTITY, 5.0)]

    assert verdicts == [Verdict.DEAD, Verdict.DEAD_ALREADY]
    for act in (lambda: broker.exchange([], 1, ["a"], adopt=False, now=1.0), lambda: beat(redis), broker.probe):
        with pytest.raises(Superseded, match=IDENTITY):
            act()
    assert contents(redis) == {
        "queue:a": [b"2"],
        "pyqik:leases": {IDENTITY.encode(): 5.0},
        RECORD: record(1, "a", (b"1:1", b"a\n1"), ended=True),
    }


def test_who_was_heard_of_meanwhile_is_not_dead(leases: Leases, redis: redis_py.Redis) -> None:
    fill(redis, {"pyqik:leases": {IDENTITY.encode(): 5.0}})
    beat(redis, lease=0.001)

    assert leases.declare_dead(IDENTITY, 5.0) is Verdict.NOT_SO
    assert RECORD not in contents(redis)


def test_who_has_left_is_not_dead(leases: Leases, redis: redis_py.Redis) -> None:
    assert leases.declare_dead(IDENTITY, 5.0) is Verdict.NOT_SO
    assert contents(redis) == {}


def test_whose_lease_has_not_ended_is_not_dead(leases: Leases, redis: redis_py.Redis) -> None:
    beat(redis, lease=30)
    (end,) = leases.look(60).ends.values()

    assert leases.declare_dead(IDENTITY, end) is Verdict.NOT_SO
    assert RECORD not in contents(redis)


def test_the_end_of_a_lease_is_recognised_to_the_last_digit(leases: Leases, redis: redis_py.Redis) -> None:
    beat(redis, lease=0.0)
    (end,) = leases.look(1).ends.values()

    assert leases.declare_dead(IDENTITY, end) is Verdict.DEAD


# The first lease.


@pytest.fixture
def leasing(redis_url: str) -> Iterator[Broker]:
    """A broker whose first take writes a lease."""
    broker = Broker(open_redis(redis_url), IDENTITY, DeadLimits(), lease=2.5)
    yield broker
    broker.close()


def lease_of(redis: redis_py.Redis) -> float | None:
    # Any: redis-py types replies for both of its clients at once.
    score: Any = redis.zscore("pyqik:leases", IDENTITY)
    return score


def test_the_first_take_writes_a_lease_and_no_other_does(leasing: Broker, redis: redis_py.Redis) -> None:
    leasing.exchange([], 1, ["a", "b"], adopt=False, now=1.0)
    first, now = lease_of(redis), redis_time(redis)
    redis.delete("pyqik:leases")
    leasing.exchange([], 1, ["a", "b"], adopt=False, now=1.0)

    assert first is not None
    assert now + 2 <= first <= now + 2.5
    assert lease_of(redis) is None


def test_the_first_take_leaves_a_lease_that_is_there(leasing: Broker, redis: redis_py.Redis) -> None:
    beat(redis, lease=500)
    end = lease_of(redis)

    leasing.exchange([], 1, ["a"], adopt=False, now=1.0)

    assert lease_of(redis) == end


def test_leases_of_the_wrong_type_keep_nobody_from_taking(leasing: Broker, redis: redis_py.Redis) -> None:
    fill(redis, {"queue:a": [b"1"], "pyqik:leases": b"x"})

    taken = leasing.exchange([], 1, ["a"], adopt=False, now=1.0)

    assert [unit.raw for unit in taken.units] == [b"1"]


def test_who_may_still_hold_something_leaves_without_its_lease(redis: redis_py.Redis) -> None:
    beat(redis)

    presence.leave(redis, IDENTITY, keep_lease=True)

    assert set(contents(redis)) == {IDENTITY, "pyqik:leases"}


# Outcomes that come too late.


def test_outcomes_of_what_was_given_back_are_refused_and_that_is_known(broker: Broker, redis: redis_py.Redis) -> None:
    fill(redis, {"queue:a": [b"3", b"2", b"1"]})
    first, second, third = broker.exchange([], 3, ["a"], adopt=False, now=1.0).units
    broker.exchange([(first, GONE)], 0, [], adopt=False, now=1.0)
    assert not broker.refused
    recover(redis, IDENTITY)
    before = contents(redis)

    broker.exchange([(second, GONE), (third, BACK)], 0, [], adopt=False, now=1.0)

    assert broker.refused
    assert contents(redis) == before
