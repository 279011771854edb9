"""Hashes beside the state of a long job: written with it, in one command, by the run that owns it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import redis as redis_py

from pyqik.testing.state_hash import StateHash
from pyqik.wire.broker import Broker, Place, UnitOfWork
from pyqik.wire.state_requests import (
    STATE_TTL,
    HashWrite,
    Open,
    Question,
    Read,
    Save,
    StateReply,
    Writes,
)
from tests.redis.wire.test_iteration import FIELDS, KEY, NOW

IDS = "abc/item_id"


@dataclass
class Request:
    token: bytes
    question: Question
    key: str = KEY


def ask(broker: Broker, unit: UnitOfWork, *questions: Question) -> Sequence[StateReply]:
    requests = [Request(unit.token, question) for question in questions]
    return broker.exchange([], 0, [], adopt=False, now=NOW, states=requests).states


def settle(broker: Broker, unit: UnitOfWork, verb: str, writes: Writes) -> None:
    broker.exchange([(unit, Place(verb, state=writes))], 0, [], adopt=False, now=NOW)


def read(broker: Broker, unit: UnitOfWork, key: str) -> tuple[dict[bytes, bytes], int]:
    """All of a hash, and in how many requests."""
    found: dict[bytes, bytes] = {}
    position, requests = b"0", 0
    while requests == 0 or position != b"0":
        [reply] = ask(broker, unit, Read(key, position))
        assert reply.verdict == "ok"
        found.update(reply.fields)
        position, requests = reply.position, requests + 1
    return found, requests


def test_a_hash_is_written_with_the_state_and_kept_as_long(
    broker: Broker, units: Sequence[UnitOfWork], redis: redis_py.Redis
) -> None:
    ask(broker, units[0], Open())
    written = [HashWrite(KEY, FIELDS), HashWrite(IDS, [("1", b"a"), ("2", b"b")]), HashWrite("rows/abc", [], 60)]

    assert ask(broker, units[0], Save(written)) == [StateReply("ok")]
    assert redis.hgetall(IDS) == {b"1": b"a", b"2": b"b"}
    assert redis.ttl(IDS) == STATE_TTL

    redis.expire(IDS, 5)
    again = [HashWrite(KEY, FIELDS), HashWrite(IDS, [("1", b""), ("3", b"c")], 60)]
    ask(broker, units[0], Save(again))
    assert redis.hgetall(IDS) == {b"2": b"b", b"3": b"c"}
    assert redis.ttl(IDS) == 60


def test_a_hash_is_read_in_parts(broker: Broker, units: Sequence[UnitOfWork], redis: redis_py.Redis) -> None:
    fields = {b"%d" % number: b"x" * 100 for number in range(5000)}
    ask(broker, units[0], Open())
    redis.hset(IDS, mapping=fields)  # type: ignore[arg-type]

    found, requests = read(broker, units[0], IDS)

    assert found == fields
    assert requests > 2
    assert read(broker, units[0], "abc/none") == ({}, 1)


def test_who_does_not_own_the_state_reads_and_writes_nothing(
    broker: Broker, units: Sequence[UnitOfWork], redis: redis_py.Redis
) -> None:
    ask(broker, units[0], Open())
    ask(broker, units[1], Open())
    write = [HashWrite(KEY, FIELDS), HashWrite(IDS, [("1", b"a")])]

    assert [reply.verdict for reply in ask(broker, units[0], Save(write), Read(IDS))] == ["lost", "lost"]
    settle(broker, units[0], "drop", write)

    assert not redis.exists(IDS)


@pytest.mark.parametrize("verb", ["drop", "front"])
def test_the_outcome_writes_it_too(
    broker: Broker, units: Sequence[UnitOfWork], redis: redis_py.Redis, verb: str
) -> None:
    ask(broker, units[0], Open(), Save([HashWrite(KEY, FIELDS), HashWrite(IDS, [("1", b"a")])]))
    rows = HashWrite("rows/abc", [("1", b"x")], kept=60)

    if verb == "drop":
        settle(broker, units[0], verb, [HashWrite(KEY, kept=0), HashWrite(IDS, kept=0), rows])
        assert not redis.exists(KEY, IDS)
    else:
        settle(broker, units[0], verb, [HashWrite(KEY, FIELDS), HashWrite(IDS, [("2", b"b")]), rows])
        assert redis.hgetall(IDS) == {b"1": b"a", b"2": b"b"}
    assert redis.hgetall("rows/abc") == {b"1": b"x"}
    assert redis.ttl("rows/abc") == 60


def test_a_key_that_is_something_else_is_named_and_hurts_nobody_else(
    broker: Broker, units: Sequence[UnitOfWork], redis: redis_py.Redis
) -> None:
    ask(broker, units[0], Open())
    redis.set(IDS, "mine")
    write = [HashWrite(KEY, FIELDS), HashWrite(IDS, [("1", b"a")])]

    saved, found = ask(broker, units[0], Save(write), Read(IDS))
    assert (saved.verdict, found.verdict) == ("broken", "broken")
    assert IDS in saved.why
    assert "WRONGTYPE" in saved.why
    assert IDS in found.why

    settle(broker, units[0], "front", write)
    assert redis.get(IDS) == b"mine"
    assert redis.lrange("queue:a", -1, -1) == [units[0].raw]


STORY: list[tuple[str, Any]] = [
    ("ask", Open()),
    ("ask", Save([HashWrite(KEY, FIELDS), HashWrite(IDS, kept=0), HashWrite(IDS, [("1", b"a"), ("2", b"b")])])),
    ("ask", Read(IDS)),
    ("ask", Save([HashWrite(KEY, FIELDS), HashWrite(IDS, [("1", b"")]), HashWrite("rows/abc", [("x", b"y")])])),
    ("ask", Read("rows/abc")),
    ("end", [HashWrite(KEY, kept=0), HashWrite(IDS, kept=0), HashWrite("rows/abc", [("z", b"y")], 9)]),
    ("ask", Read("rows/abc")),
]


def test_what_tests_take_for_redis_does_the_same(
    broker: Broker, units: Sequence[UnitOfWork], redis: redis_py.Redis
) -> None:
    memory, owner = StateHash({}), b"host:1:abc " + units[0].token
    for verb, given in STORY:
        if verb == "end":
            settle(broker, units[0], "front", given)
            memory.settle(owner, given)
        else:
            assert [memory.answer(owner, given)] == ask(broker, units[0], given)
        assert memory.fields == redis.hgetall(KEY)
        beside = {key: redis.hgetall(key) for key in (IDS, "rows/abc") if redis.exists(key)}
        assert memory.beside == beside
