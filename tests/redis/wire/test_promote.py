"""Moving due jobs from `retry` and `schedule` to their queues: each once, none lost, nothing else changed."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis as redis_py

from pyqik.wire import schedule
from pyqik.wire.connection import open_redis
from pyqik.wire.schedule import BATCH, promote
from tests.redis.wire.database import contents, fill
from tests.support.proxy import RedisProxy

NOW = 1_795_320_000.5

JOB = b'{"class":"A","args":[1.10,1180591620717411303424],"queue":"low","jid":"%s","created_at":1795319920091}'


def job(jid: str) -> bytes:
    return JOB.replace(b"%s", jid.encode())


def promoted(jid: str) -> bytes:
    return job(jid)[:-1] + b',"enqueued_at":1795320000.5}'


def test_a_due_job_is_last_in_its_queue_with_a_new_enqueued_at(redis: redis_py.Redis) -> None:
    fill(redis, {"retry": {job("due"): NOW, job("later"): NOW + 0.001}, "queue:low": [b"x"]})

    counts = promote(redis, "retry", NOW)

    assert counts == (1, 1)
    assert contents(redis) == {
        "queues": {b"low"},
        "queue:low": [promoted("due"), b"x"],
        "retry": {job("later"): NOW + 0.001},
    }


def test_an_old_enqueued_at_is_replaced_by_float_seconds_in_its_place(redis: redis_py.Redis) -> None:
    fill(redis, {"schedule": {b'{"class":"A","enqueued_at":1795319920091,"queue":"low","x":1e5}': 1.0}})

    promote(redis, "schedule", NOW)

    assert contents(redis)["queue:low"] == [b'{"class":"A","enqueued_at":1795320000.5,"queue":"low","x":1e5}']


def test_several_due_jobs_are_pushed_in_the_order_of_their_times(redis: redis_py.Redis) -> None:
    fill(redis, {"schedule": {job("b"): 2.0, job("a"): 1.0, job("c"): 3.0}})

    counts = promote(redis, "schedule", NOW)

    assert counts == (3, 3)
    assert contents(redis)["queue:low"] == [promoted("c"), promoted("b"), promoted("a")]


@pytest.mark.parametrize(
    ("queue", "expected"),
    [
        pytest.param({}, "default", id="none"),
        pytest.param({"queue": None}, "default", id="null"),
        pytest.param({"queue": ""}, "default", id="empty"),
        pytest.param({"queue": "größe"}, "größe", id="any name"),
        pytest.param({"queue": 5}, "5", id="a number"),
    ],
)
def test_the_queue_is_the_payload_s(redis: redis_py.Redis, queue: dict[str, Any], expected: str) -> None:
    fill(redis, {"retry": {json.dumps({"class": "A", **queue}).encode(): 1.0}})

    promote(redis, "retry", NOW)

    assert set(contents(redis)) == {"queues", f"queue:{expected}"}


def test_nothing_due_changes_nothing(redis: redis_py.Redis) -> None:
    fill(redis, {"retry": {job("later"): NOW + 1}})
    before = contents(redis)

    counts = promote(redis, "retry", NOW)

    assert counts == (0, 0)
    assert contents(redis) == before


def test_more_than_a_batch_is_left_for_the_next_call(redis: redis_py.Redis) -> None:
    fill(redis, {"retry": {job(str(number)): float(number) for number in range(BATCH + 3)}})

    first, second = promote(redis, "retry", NOW), promote(redis, "retry", NOW)

    assert (first, second) == ((BATCH, BATCH), (3, 3))
    assert redis.llen("queue:low") == BATCH + 3


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"{not json", id="no JSON"),
        pytest.param(b"\xff\xfe", id="no UTF-8"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"[" * 200 + b"]" * 200, id="too deep"),
    ],
)
def test_text_that_ruby_cannot_parse_goes_to_the_dead_set_as_it_is(redis: redis_py.Redis, raw: bytes) -> None:
    fill(redis, {"schedule": {raw: 1.0, job("due"): 2.0}})

    counts = promote(redis, "schedule", NOW)

    assert counts == (2, 2)
    assert contents(redis) == {"queues": {b"low"}, "queue:low": [promoted("due")], "dead": {raw: NOW}}


@pytest.mark.parametrize("raw", [b"[1]", b"null", b"5", b"{}", b"[1e400]"])
def test_what_would_break_the_dead_page_is_wrapped(redis: redis_py.Redis, raw: bytes) -> None:
    fill(redis, {"retry": {raw: 1.0}})

    promote(redis, "retry", NOW)

    (entry,) = contents(redis)["dead"]
    assert json.loads(bytes(entry))["args"] == [raw.decode()]


def test_of_two_pollers_that_read_the_same_entry_one_moves_it(
    redis: redis_py.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(redis, {"retry": {job("due"): 1.0}})
    other = open_redis(redis_url)
    answers = []
    read = schedule._destination

    def while_reading(member: bytes, now: float) -> tuple[str, bytes, str]:
        monkeypatch.setattr(schedule, "_destination", read)
        answers.append(promote(other, "retry", NOW))
        return read(member, now)

    monkeypatch.setattr(schedule, "_destination", while_reading)
    answers.append(promote(redis, "retry", NOW))

    assert answers == [(1, 1), (1, 0)]
    assert contents(redis)["queue:low"] == [promoted("due")]
    other.close()


@pytest.mark.parametrize("command", ["ZRANGE", "EVALSHA", "EVAL"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_promotion_cut_at_any_command_may_be_repeated(
    redis_proxy: RedisProxy, redis: redis_py.Redis, command: str, when: str
) -> None:
    redis.script_flush()
    fill(redis, {"retry": {job("due"): 1.0}})
    client = open_redis(redis_proxy.url)
    cut = redis_proxy.cut_before_request if when == "before" else redis_proxy.cut_after_request
    cut(command=command)
    with pytest.raises(redis_py.ConnectionError):
        promote(client, "retry", NOW)

    promote(client, "retry", NOW)

    assert contents(redis) == {"queues": {b"low"}, "queue:low": [promoted("due")]}
    client.close()
