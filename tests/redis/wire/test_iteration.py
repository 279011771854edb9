"""The states of long jobs in Redis: opened, saved and ended by whoever holds the job, and by nobody else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import redis as redis_py

from pyqik.wire import iteration
from pyqik.wire.broker import BACK, Broker, Place, UnitOfWork
from pyqik.wire.state_requests import DEPLOY, STATE_TTL, Fields, HashWrite, Open, Question, Save, StateReply
from tests.redis.wire.database import fill

KEY = "it-abc"
NOW = 1_795_320_000.5
FIELDS: Fields = [("ex", b"1"), ("c", b"7"), ("rt", b"0.5"), ("loops", b""), ("counters", b'{"a":1}')]
WRITTEN = {b"ex": b"1", b"c": b"7", b"rt": b"0.5", b"counters": b'{"a":1}'}


@dataclass
class Request:
    token: bytes
    fields: Fields | None = None
    key: str = KEY

    @property
    def question(self) -> Question:
        return Open() if self.fields is None else Save([HashWrite(self.key, self.fields)])


def ask(broker: Broker, *requests: Request) -> Sequence[StateReply]:
    return broker.exchange([], 0, [], adopt=False, now=NOW, states=requests).states


def state(redis: redis_py.Redis) -> dict[bytes, bytes]:
    fields: Any = redis.hgetall(KEY)
    return fields


def test_opening_writes_what_ruby_needs_to_find(
    broker: Broker, units: Sequence[UnitOfWork], redis: redis_py.Redis
) -> None:
    [reply] = ask(broker, Request(units[0].token))

    expected = {b"ex": b"0", b"c": b"null", b"rt": b"0", b"owner": b"host:1:abc 1:1"}
    assert reply == StateReply("ok", expected)
    assert state(redis) == expected
    assert redis.ttl(KEY) == STATE_TTL


def test_opening_finds_what_stands_there(broker: Broker, units: Sequence[UnitOfWork], redis: redis_py.Redis) -> None:
    fill(redis, {KEY: {b"ex": b"3", b"c": b'"x"', b"rt": b"1.5", b"cancelled": b"9", b"other": b"kept"}})

    [reply] = ask(broker, Request(units[0].token))

    assert reply.fields == state(redis)
    assert reply.fields[b"cancelled"] == b"9"
    assert reply.fields[b"other"] == b"kept"


def test_saving_writes_renews_and_tells_of_a_cancellation(
    broker: Broker, units: Sequence[UnitOfWork], redis: redis_py.Redis
) -> None:
    ask(broker, Request(units[0].token))
    redis.hset(KEY, "loops", "gone")
    redis.expire(KEY, 5)

    assert ask(broker, Request(units[0].token, FIELDS)) == [StateReply("ok")]
    assert state(redis) == {**WRITTEN, b"owner": b"host:1:abc 1:1"}
    assert redis.ttl(KEY) == STATE_TTL

    iteration.cancel(redis, "abc")
    assert ask(broker, Request(units[0].token, FIELDS)) == [StateReply("ok", cancelled=True)]


def test_the_last_one_to_open_owns_it(broker: Broker, units: Sequence[UnitOfWork], redis: redis_py.Redis) -> None:
    """The same jid may exist twice."""
    ask(broker, Request(units[0].token), Request(units[1].token))
    before = state(redis)

    first, second = ask(broker, Request(units[0].token, FIELDS), Request(units[1].token))

    assert (first.verdict, second.verdict) == ("lost", "ok")
    assert state(redis) == before
    assert ask(broker, Request(units[1].token, FIELDS)) == [StateReply("ok")]


def test_who_does_not_hold_the_job_reads_and_writes_nothing(
    broker: Broker, units: Sequence[UnitOfWork], redis: redis_py.Redis
) -> None:
    ask(broker, Request(units[0].token))
    before = state(redis)
    redis.hdel("pyqik:in-flight:host:1:abc", units[0].token)

    replies = ask(broker, Request(units[0].token), Request(units[0].token, FIELDS), Request(b"9:9"))

    assert [reply.verdict for reply in replies] == ["lost", "lost", "lost"]
    assert state(redis) == before


def test_a_key_that_is_something_else_is_named_and_left_alone(
    broker: Broker, units: Sequence[UnitOfWork], redis: redis_py.Redis
) -> None:
    redis.set(KEY, "x")
    opened, saved = ask(broker, Request(units[0].token), Request(units[0].token, FIELDS))

    assert (opened.verdict, saved.verdict) == ("broken", "lost")
    assert "WRONGTYPE" in opened.why
    assert redis.get(KEY) == b"x"


def test_the_outcome_writes_the_state_and_gives_it_up(
    broker: Broker, units: Sequence[UnitOfWork], redis: redis_py.Redis
) -> None:
    ask(broker, Request(units[0].token))
    place = Place(BACK.verb, state=[HashWrite(KEY, FIELDS)])

    broker.exchange([(units[0], place)], 0, [], adopt=False, now=NOW)

    assert state(redis) == WRITTEN
    assert redis.ttl(KEY) == STATE_TTL
    assert redis.lrange("queue:a", 0, -1) == [b"1"]


def test_the_end_of_a_job_removes_its_state(broker: Broker, units: Sequence[UnitOfWork], redis: redis_py.Redis) -> None:
    ask(broker, Request(units[0].token))

    broker.exchange([(units[0], Place("drop", state=[HashWrite(KEY, kept=0)]))], 0, [], adopt=False, now=NOW)

    assert not redis.exists(KEY)


@pytest.mark.parametrize("fields", [None, FIELDS], ids=["end", "interruption"])
def test_an_outdated_run_leaves_the_state_to_its_owner(
    broker: Broker, units: Sequence[UnitOfWork], redis: redis_py.Redis, fields: Fields | None
) -> None:
    ask(broker, Request(units[0].token), Request(units[1].token))
    before = state(redis)

    broker.exchange(
        [(units[0], Place("front", state=[HashWrite(KEY, fields or [], STATE_TTL if fields else 0)]))],
        0,
        [],
        adopt=False,
        now=NOW,
    )

    assert state(redis) == before
    assert redis.lrange("queue:a", 0, -1) == [b"1"]


def test_a_settled_unit_writes_no_state_again(
    broker: Broker, units: Sequence[UnitOfWork], redis: redis_py.Redis
) -> None:
    ask(broker, Request(units[0].token))
    ending = (units[0], Place("drop", state=[HashWrite(KEY, kept=0)]))
    broker.exchange([ending], 0, [], adopt=False, now=NOW)
    fill(redis, {KEY: {b"ex": b"1", b"owner": b"host:1:abc 1:1"}})

    broker.exchange([ending], 0, [], adopt=False, now=NOW)

    assert redis.exists(KEY)


def test_several_units_with_and_without_states_settle_at_once(
    broker: Broker, units: Sequence[UnitOfWork], redis: redis_py.Redis
) -> None:
    ask(broker, Request(units[0].token, key="it-1"))
    places = [Place("add", "retry", 5.0, b"1'", [HashWrite("it-1", FIELDS)]), Place("front")]

    broker.exchange(list(zip(units, places, strict=True)), 0, [], adopt=False, now=NOW)

    assert redis.zrange("retry", 0, -1) == [b"1'"]
    assert redis.hgetall("it-1") == WRITTEN
    assert redis.lrange("queue:a", 0, -1) == [b"2"]


# In the middle of a deploy.


def put_process(redis: redis_py.Redis, identity: str, started_at: float, queues: str = '["a"]', **fields: str) -> None:
    info = '{"started_at":%r,"queues":%s}' % (started_at, queues)  # noqa: UP031
    redis.hset(identity, mapping={"info": info, "quiet": "false", **fields})
    redis.zadd("pyqik:leases", {identity: 1.0})


def now_of(redis: redis_py.Redis) -> float:
    return float(redis.time()[0])


def stopped_twice(redis: redis_py.Redis, first: float, last: float) -> None:
    now = now_of(redis)
    redis.hset(KEY, mapping={"ex": "2", "c": "5", "rt": "1", "stops": f"[{now - first},{now - last}]"})


@pytest.mark.parametrize(
    ("first", "last", "own_age", "other", "verdict"),
    [
        pytest.param(50, 20, 100, {"started_at": 40}, "later", id="a younger one is there"),
        pytest.param(50, 20, 100, {"started_at": 60}, "ok", id="the other is older than the deploy"),
        pytest.param(50, 20, 30, {"started_at": 10}, "ok", id="this one is younger itself"),
        pytest.param(50, 20, 100, {"started_at": 40, "queues": '["b"]'}, "ok", id="it serves other queues"),
        pytest.param(50, 20, 100, {"started_at": 40, "quiet": "true"}, "ok", id="it is quiet"),
        pytest.param(900, DEPLOY + 10, 1000, {"started_at": 40}, "ok", id="the deploy is long over"),
    ],
)
def test_a_job_that_was_stopped_twice_is_left_to_a_younger_process(
    broker: Broker,
    units: Sequence[UnitOfWork],
    redis: redis_py.Redis,
    first: float,
    last: float,
    own_age: float,
    other: dict[str, Any],
    verdict: str,
) -> None:
    stopped_twice(redis, first, last)
    now = now_of(redis)
    put_process(redis, "host:1:abc", now - own_age)
    put_process(redis, "host:2:def", now - other.pop("started_at"), **other)

    [reply] = ask(broker, Request(units[0].token))

    assert reply.verdict == verdict
    assert redis.hexists(KEY, "owner") == (verdict == "ok")


@pytest.mark.parametrize("stops", ["nonsense", "{}", '["a","b"]', "[1]", "[null,null,null]", '{"1":2}'])
def test_stops_that_are_none_are_no_obstacle(
    broker: Broker, units: Sequence[UnitOfWork], redis: redis_py.Redis, stops: str
) -> None:
    now = now_of(redis)
    put_process(redis, "host:1:abc", now - 100)
    put_process(redis, "host:2:def", now - 1)
    redis.hset(KEY, mapping={"ex": "2", "c": "5", "rt": "1", "stops": stops})

    assert ask(broker, Request(units[0].token))[0].verdict == "ok"


# Cancelling.


def test_a_cancellation_is_written_once_with_what_ruby_needs(redis: redis_py.Redis) -> None:
    since = iteration.cancel(redis, "abc")
    redis.hset(KEY, "cancelled", since - 5)

    assert iteration.cancel(redis, "abc") == since - 5
    assert set(state(redis)) == {b"cancelled", b"ex", b"c", b"rt"}
    assert redis.ttl(KEY) == STATE_TTL


def test_a_cancellation_leaves_a_state_as_it_is(redis: redis_py.Redis) -> None:
    fill(redis, {KEY: {b"ex": b"3", b"c": b"7", b"rt": b"1.5"}})
    iteration.cancel(redis, "abc")

    assert {**state(redis), b"cancelled": b""} == {b"ex": b"3", b"c": b"7", b"rt": b"1.5", b"cancelled": b""}


def test_a_lost_reply_to_an_opening_changes_nothing(
    connect: Callable[..., Broker], units: Sequence[UnitOfWork], broker: Broker, redis: redis_py.Redis
) -> None:
    """The same request again has the same answer."""
    [first] = ask(broker, Request(units[0].token))

    assert ask(broker, Request(units[0].token)) == [first]
