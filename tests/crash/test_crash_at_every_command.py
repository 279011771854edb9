"""A process dies at every Redis command in turn, before or after the server ran it; then its jobs are recovered.

Each outcome must leave every job in exactly one place, in its old order, and nothing of what the dead process may still
have sent has any effect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis as redis_py

from pyqik.wire.broker import BACK, FRONT, GONE, Broker, DeadLimits, Place, Superseded, recover
from pyqik.wire.connection import open_redis
from tests.redis.wire.database import contents
from tests.redis.worker.engine import left_behind
from tests.support.proxy import RedisProxy
from tests.support.wait import wait_until

JOBS = [b"%02d" % number for number in range(12)]
#: The first and the last command of `live`, with some to spare at the end.
POSITIONS = range(1, 20)


def live(broker: Broker, redis: redis_py.Redis) -> None:
    """A short life: take, wait, settle in every way, give back."""
    held = list(broker.exchange([], 4, ["a", "b", "c"], adopt=False, now=1.0).units)
    endings = [(held[0], GONE), (held[1], Place("add", "retry", 5.0, b"")), (held[2], BACK)]
    held += broker.exchange(endings, 3, ["a", "b", "c"], adopt=False, now=1.0).units
    waiter = broker.waiter("c")
    waiter.arm(0.0)
    redis.lpush("queue:c", JOBS[-1])
    landed = waiter.landed()
    waiter.arm(0.0)
    broker.unblock([waiter])
    waiter.landed()
    started = {"c": 1} if landed is not None else {}
    held += broker.exchange([(held[3], FRONT)], 1, ["c", "a"], adopt=True, now=1.0, started=started).units
    broker.exchange([(held[-1], Place("add", "dead", 9.0))], 0, [], adopt=False, now=1.0)
    waiter.close()


def places(redis: redis_py.Redis) -> list[bytes]:
    """Every payload of every queue and sorted set."""
    found: list[bytes] = []
    for key, value in contents(redis).items():
        if key.startswith("queue:") or key in ("retry", "dead"):
            found += list(value)  # type: ignore[arg-type]  # lists and sorted sets of bytes
    return sorted(found)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("n", POSITIONS)
def test_every_job_is_in_one_place_after_a_death_at_any_command(
    n: int, when: str, redis: redis_py.Redis, redis_proxy: RedisProxy
) -> None:
    redis.script_flush()
    redis.lpush("queue:a", *JOBS[:6])
    redis.lpush("queue:b", *JOBS[6:-1])
    client = open_redis(f"{redis_proxy.url}?socket_timeout=2")
    broker = Broker(client, "host:1:abc", DeadLimits(max_age=1e12))
    (redis_proxy.cut_before_request if when == "before" else redis_proxy.cut_after_request)(n)
    try:
        live(broker, redis)
    except redis_py.RedisError:
        pass
    redis_proxy.refuse()
    if redis.llen("queue:c") == 0 and JOBS[-1] not in {*places(redis), *landed(redis)}:
        redis.lpush("queue:c", JOBS[-1])

    recover(redis, "host:1:abc")

    # The first job is the one that was done, if the server heard of it.
    assert [job for job in places(redis) if job != JOBS[0]] == JOBS[1:]
    assert places(redis).count(JOBS[0]) <= 1
    assert left_behind(redis) == {}
    broker.close()


def landed(redis: redis_py.Redis) -> set[bytes]:
    """What stands in records and on landing lists."""
    found: set[bytes] = set()
    for units in left_behind(redis).values():
        values: Any = units.values() if isinstance(units, dict) else units
        found |= {value.rpartition(b"\n")[2] for value in values}
    return found


LATE: list[tuple[str, Callable[[Broker], object]]] = [
    ("take", lambda broker: broker.exchange([], 5, ["a"], adopt=False, now=1.0)),
    ("adopt", lambda broker: broker.exchange([], 5, ["a"], adopt=True, now=1.0)),
    ("started", lambda broker: broker.exchange([], 0, ["a"], adopt=False, now=1.0, started={"a": 1})),
]


@pytest.mark.parametrize("late", [act for _, act in LATE], ids=[name for name, _ in LATE])
def test_what_a_dead_process_had_still_sent_takes_nothing(
    late: Callable[[Broker], object], redis: redis_py.Redis, redis_url: str
) -> None:
    redis.lpush("queue:a", *JOBS)
    broker = Broker(open_redis(redis_url), "host:1:abc", DeadLimits())
    broker.exchange([], 2, ["a"], adopt=False, now=1.0)
    recover(redis, "host:1:abc")

    with pytest.raises(Superseded):
        late(broker)

    assert places(redis) == JOBS
    broker.close()


def test_a_job_that_lands_for_a_process_that_was_killed_is_given_back_at_the_second_look(
    redis: redis_py.Redis, redis_url: str
) -> None:
    broker = Broker(open_redis(redis_url), "host:1:abc", DeadLimits())
    broker.exchange([], 1, ["a"], adopt=False, now=1.0)
    waiter = broker.waiter("a")
    waiter.arm(0.0)
    recover(redis, "host:1:abc")
    redis.lpush("queue:a", b"1")
    wait_until(lambda: redis.llen("pyqik:landing:host:1:abc:default:a") == 1, message="it has landed")

    count = recover(redis, "host:1:abc")

    assert (count, redis.lrange("queue:a", 0, -1)) == (1, [b"1"])
    waiter.close()
    broker.close()


def test_two_rescuers_at_once_give_back_everything_once(redis: redis_py.Redis, redis_url: str) -> None:
    redis.lpush("queue:a", *JOBS)
    broker = Broker(open_redis(redis_url), "host:1:abc", DeadLimits())
    broker.exchange([], 8, ["a"], adopt=False, now=1.0)

    counts = [recover(redis, "host:1:abc"), recover(redis, "host:1:abc")]

    assert counts == [8, 0]
    assert redis.lrange("queue:a", 0, -1) == JOBS[::-1]
    broker.close()
