"""What tests of long jobs take for Redis does what the scripts do: the same requests, the same replies and states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import redis as redis_py

from pyqik.testing.state_hash import StateHash
from pyqik.wire import iteration
from pyqik.wire.broker import Broker, Place, UnitOfWork
from pyqik.wire.state_requests import Fields, HashWrite
from tests.redis.wire.test_iteration import FIELDS, KEY, NOW, Request

LATER: Fields = [("ex", b"2"), ("c", b"9"), ("rt", b"1"), ("loops", b'{"a":{}}'), ("counters", b"")]

#: What is done to a state, in turn. A request is of the first or the second of two runs that have the same jid.
STORIES: list[list[tuple[str, int, Any]]] = [
    [("open", 0, None)],
    [("open", 0, None), ("save", 0, FIELDS), ("save", 0, LATER)],
    [("open", 0, None), ("open", 1, None), ("save", 0, FIELDS), ("save", 1, LATER)],
    [("save", 0, FIELDS)],
    [("cancel", 0, None), ("open", 0, None), ("save", 0, FIELDS)],
    [("open", 0, None), ("cancel", 0, None), ("cancel", 0, None), ("save", 0, FIELDS), ("end", 0, LATER)],
    [("open", 0, None), ("save", 0, FIELDS), ("end", 0, LATER), ("open", 1, None)],
    [("open", 0, None), ("save", 0, FIELDS), ("end", 0, None), ("open", 1, None)],
    [("open", 0, None), ("open", 1, None), ("end", 0, FIELDS), ("save", 1, LATER), ("end", 1, None)],
    [("end", 0, FIELDS)],
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: "-".join(f"{verb}{run}" for verb, run, _ in story))
def test_a_state_in_memory_is_like_one_in_redis(
    story: list[tuple[str, int, Any]],
    broker: Broker,
    units: Sequence[UnitOfWork],
    redis: redis_py.Redis,
) -> None:
    memory = StateHash({})
    for verb, run, fields in story:
        unit, owner = units[run], b"host:1:abc " + units[run].token
        if verb == "cancel":
            iteration.cancel(redis, KEY.removeprefix("it-"))
            memory.cancel(float(redis.hget(KEY, "cancelled") or 0))  # type: ignore[arg-type]
        elif verb == "end":
            writes = [HashWrite(KEY, fields) if fields else HashWrite(KEY, kept=0)]
            broker.exchange([(unit, Place("back", state=writes))], 0, [], adopt=False, now=NOW)
            memory.settle(owner, writes)
        else:
            request = Request(unit.token, fields)
            [reply] = broker.exchange([], 0, [], adopt=False, now=NOW, states=[request]).states
            assert memory.answer(owner, request.question) == reply
        assert memory.fields == redis.hgetall(KEY)
