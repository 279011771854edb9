"""What a push writes: Sidekiq's fields, keys and order; and what is refused before anything is written."""

from __future__ import annotations

import asyncio
import json
import re
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
import redis as redis_py

import pyqik
from tests.redis.jobs.conftest import Pushes

Connect = Callable[..., Pushes]


def payloads(redis: redis_py.Redis, queue: str = "default") -> list[dict[str, Any]]:
    """A queue's payloads, the first to run first."""
    return [json.loads(raw) for raw in reversed(redis.lrange(f"queue:{queue}", 0, -1))]


def keys(redis: redis_py.Redis) -> set[bytes]:
    """All keys but the fences, which expire."""
    every: list[bytes] = redis.keys("*")  # type: ignore[assignment]  # replies are bytes, not decoded
    return {key for key in every if not key.startswith(b"pyqik:push:")}


def nested(levels: int) -> list[Any]:
    """Lists inside each other; args itself and the payload are two levels more."""
    return [nested(levels - 1)] if levels > 1 else []


def schedule(redis: redis_py.Redis) -> list[tuple[dict[str, Any], float]]:
    """The scheduled payloads and their times, the first due first."""
    entries: Any = redis.zrange("schedule", 0, -1, withscores=True)
    return [(json.loads(raw), score) for raw, score in entries]


def test_a_push_writes_what_sidekiq_reads(pushes: Pushes, redis: redis_py.Redis) -> None:
    before = time.time()

    jid = pushes.push("Billing::CloseMonthJob", "2027-01", 7, queue="critical", retry=10, tags=["x"], locale="de")

    (payload,) = payloads(redis, "critical")
    created_at, enqueued_at = payload.pop("created_at"), payload.pop("enqueued_at")
    assert payload == {
        "class": "Billing::CloseMonthJob",
        "args": ["2027-01", 7],
        "jid": jid,
        "queue": "critical",
        "retry": 10,
        "tags": ["x"],
        "locale": "de",
    }
    assert isinstance(created_at, float)
    assert isinstance(enqueued_at, float)
    assert before <= created_at <= enqueued_at <= time.time()
    assert redis.smembers("queues") == {b"critical"}
    assert keys(redis) == {b"queues", b"queue:critical"}


def test_a_push_without_options_has_sidekiqs_defaults(pushes: Pushes, redis: redis_py.Redis) -> None:
    jid = pushes.push("Foo")

    (payload,) = payloads(redis)
    assert (payload["args"], payload["queue"], payload["retry"]) == ([], "default", True)
    assert re.fullmatch("[0-9a-f]{24}", str(jid))


def test_a_given_jid_is_kept(pushes: Pushes, redis: redis_py.Redis) -> None:
    jid = pushes.push("Foo", jid="0123456789abcdef01234567")

    assert jid == "0123456789abcdef01234567"
    assert payloads(redis)[0]["jid"] == jid


@pytest.mark.parametrize(
    ("at", "score"),
    [
        pytest.param(4_000_000_000.125, 4_000_000_000.125, id="seconds"),
        pytest.param(datetime(2100, 1, 1, tzinfo=UTC), 4_102_444_800.0, id="datetime"),
        pytest.param(5.0, 5.0, id="long past"),
    ],
)
def test_a_push_with_a_time_goes_to_the_schedule(
    pushes: Pushes, redis: redis_py.Redis, at: float | datetime, score: float
) -> None:
    jid = pushes.push("Foo", 1, at=at)

    ((payload, found),) = schedule(redis)
    assert found == score
    assert payload["jid"] == jid
    assert not {"at", "enqueued_at"} & set(payload)
    assert keys(redis) == {b"schedule"}


def test_a_bulk_keeps_the_order_of_its_jobs(pushes: Pushes, redis: redis_py.Redis) -> None:
    jids = pushes.push_bulk("Foo", ([n, "x"] for n in range(2_500)), queue="bulk", retry=False)

    found = payloads(redis, "bulk")
    assert [payload["args"] for payload in found] == [[n, "x"] for n in range(2_500)]
    assert [payload["jid"] for payload in found] == jids
    assert len(set(jids)) == 2_500
    assert {(payload["class"], payload["retry"], payload["queue"]) for payload in found} == {("Foo", False, "bulk")}
    assert all(re.fullmatch("[0-9a-f]{24}", str(jid)) for jid in jids)
    assert all(type(payload["enqueued_at"]) is float for payload in found)


def test_a_bulk_is_read_as_it_is_pushed(pushes: Pushes, redis: redis_py.Redis) -> None:
    seen: list[int] = []

    def args_lists() -> Iterator[list[int]]:
        for n in range(30):
            seen.append(redis.llen("queue:default"))
            yield [n]

    pushes.push_bulk("Foo", args_lists(), batch_size=10)

    assert seen == [0] * 10 + [10] * 10 + [20] * 10


def test_a_bulk_can_have_one_time_for_all_or_one_for_each(pushes: Pushes, redis: redis_py.Redis) -> None:
    pushes.push_bulk("Foo", [[1], [2]], at=4_000_000_000)
    pushes.push_bulk("Foo", [[3], [4]], at=[4_000_000_001, datetime(2100, 1, 1, tzinfo=UTC)])

    found = schedule(redis)
    assert sorted((payload["args"], score) for payload, score in found) == [
        ([1], 4e9),
        ([2], 4e9),
        ([3], 4e9 + 1),
        ([4], 4_102_444_800.0),
    ]
    assert not any({"at", "enqueued_at"} & set(payload) for payload, _ in found)


def test_an_empty_bulk_pushes_nothing(pushes: Pushes, redis: redis_py.Redis) -> None:
    jids = pushes.push_bulk("Foo", [])

    assert jids == []
    assert redis.keys("*") == []


@pytest.mark.parametrize(
    "args",
    [
        pytest.param([2**80, -(2**64), 0.1, 1e300], id="numbers"),
        pytest.param(["käse/☃", "\x00", ""], id="text"),
        pytest.param([None, True, {"a": [{"b": None}]}, []], id="nested"),
        pytest.param([{"ä": ["ö", 0.5]}, nested(98)], id="nested as deep as Ruby reads"),
    ],
)
def test_arguments_arrive_as_they_were(pushes: Pushes, redis: redis_py.Redis, args: list[Any]) -> None:
    pushes.push("Foo", *args)
    pushes.push_bulk("Foo", [args])

    assert [payload["args"] for payload in payloads(redis)] == [args, args]


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        pytest.param([date(2027, 1, 1)], r"Foo.*args\[0\] is a datetime.date.*isoformat", id="date"),
        pytest.param([1, {"a": Decimal(1)}], r"args\[1\]\['a'\] is a decimal.Decimal", id="decimal"),
        pytest.param([(1, 2)], r"args\[0\] is a tuple.*send a list", id="tuple"),
        pytest.param([{1: 2}], r"args\[0\] has the key 1.*'1'", id="integer key"),
        pytest.param([float("nan")], r"args\[0\] is nan", id="nan"),
        pytest.param(["\ud800"], r"args\[0\] has a lone surrogate", id="surrogate"),
        pytest.param([b"x"], r"args\[0\] is a bytes.*base64", id="bytes"),
        pytest.param([{"a": [{"\ud800": 1}]}], r"lone surrogate", id="surrogate in a nested key"),
        pytest.param([[[{"a": float("inf")}]]], r"args\[0\]\[0\]\[0\]\['a'\] is inf", id="nested infinity"),
        pytest.param([nested(99)], "nested more than 100 deep", id="nested too deep"),
        pytest.param([OrderedDict(a=1)], r"args\[0\] is a collections.OrderedDict", id="another kind of dict"),
    ],
)
def test_arguments_that_json_would_change_are_refused(
    pushes: Pushes, redis: redis_py.Redis, args: list[Any], complaint: str
) -> None:
    with pytest.raises(pyqik.InvalidJob, match=complaint):
        pushes.push("Foo", *args)
    with pytest.raises(pyqik.InvalidJob, match=complaint):
        pushes.push_bulk("Foo", [args])

    assert redis.keys("*") == []


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        pytest.param({"queue": ""}, "Foo: queue is ''", id="empty queue"),
        pytest.param({"queue": None}, "queue is None", id="no queue"),
        pytest.param({"retry": -1}, "retry is -1", id="negative retry"),
        pytest.param({"retry": 1.5}, "retry is 1.5", id="broken retry"),
        pytest.param({"retry_for": 2_000_000_000}, "retry_for is 2000000000", id="retry_for too long"),
        pytest.param({"tags": "billing"}, "tags is 'billing'", id="tags not a list"),
        pytest.param({"at": "tomorrow"}, "the time is 't", id="time not a number"),
        pytest.param({"at": datetime(2027, 1, 1)}, "no time zone", id="naive time"),
        pytest.param({"enqueued_at": 1.0}, "'enqueued_at' is not an option", id="reserved field"),
        pytest.param({"note": object()}, "note is a object", id="unknown field that JSON cannot hold"),
    ],
)
def test_options_that_cannot_be_are_refused(
    pushes: Pushes, redis: redis_py.Redis, fields: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(pyqik.InvalidJob, match=complaint):
        pushes.push("Foo", **fields)
    with pytest.raises(pyqik.InvalidJob, match=complaint):
        pushes.push_bulk("Foo", [[1]], **fields)

    assert redis.keys("*") == []


@pytest.mark.parametrize(
    ("args_lists", "fields", "complaint"),
    [
        pytest.param([[1], "ab"], {}, "Foo, job 1 of the bulk: the arguments are str", id="text for arguments"),
        pytest.param("ab", {}, "the jobs are str", id="text for jobs"),
        pytest.param([[1], [2]], {"at": [4e9]}, "`at` has 1 times for 2 jobs", id="times missing"),
        pytest.param([[1]], {"batch_size": 0}, "batch_size is 0", id="no batch size"),
        pytest.param([[1]], {"jid": "a" * 24}, "'jid' is not an option", id="one jid for many"),
    ],
)
def test_bulks_that_cannot_be_are_refused(
    pushes: Pushes, redis: redis_py.Redis, args_lists: Any, fields: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(pyqik.InvalidJob, match=complaint):
        pushes.push_bulk("Foo", args_lists, **fields)

    assert redis.keys("*") == []


@pytest.mark.parametrize("job_class", [None, "", str], ids=["none", "empty", "a class"])
def test_a_class_that_is_no_name_is_refused(pushes: Pushes, job_class: Any) -> None:
    with pytest.raises(pyqik.InvalidJob, match="the class is"):
        pushes.push(job_class)


def test_an_error_in_the_middle_of_a_bulk_says_how_many_jobs_were_pushed(pushes: Pushes, redis: redis_py.Redis) -> None:
    with pytest.raises(pyqik.InvalidJob, match="job 25 of the bulk") as caught:
        pushes.push_bulk("Foo", [[n] if n != 25 else [object()] for n in range(40)], batch_size=10)

    assert caught.value.__notes__ == ["20 jobs of this bulk were pushed before the error"]
    assert redis.llen("queue:default") == 20


def test_middleware_sees_the_payload_and_may_change_it(connect: Connect, redis_url: str, redis: redis_py.Redis) -> None:
    seen: list[str] = []

    def outer(payload: pyqik.Payload) -> Iterator[None]:
        seen.append("outer in")
        payload["locale"] = "de"
        yield
        seen.append("outer out")

    def inner(payload: pyqik.Payload) -> Iterator[None]:
        seen.append(f"inner in {payload['locale']}")
        payload["queue"] = "elsewhere"
        yield
        seen.append("inner out")

    connect(redis_url, outer, inner).push("Foo", 1)

    (payload,) = payloads(redis, "elsewhere")
    assert (payload["locale"], payload["queue"]) == ("de", "elsewhere")
    assert seen == ["outer in", "inner in de", "inner out", "outer out"]
    assert redis.smembers("queues") == {b"elsewhere"}


def test_what_middleware_appends_to_one_job_is_not_on_the_next(
    connect: Connect, redis_url: str, redis: redis_py.Redis
) -> None:
    def tagging(payload: pyqik.Payload) -> Iterator[None]:
        payload["tags"].append(f"number {payload.args[0]}")
        yield

    connect(redis_url, tagging).push_bulk("Foo", [[1], [2]], tags=["all"])

    assert [payload["tags"] for payload in payloads(redis)] == [["all", "number 1"], ["all", "number 2"]]


def test_middleware_may_put_a_job_off(connect: Connect, redis_url: str, redis: redis_py.Redis) -> None:
    def tomorrow(payload: pyqik.Payload) -> Iterator[None]:
        payload["at"] = 4_000_000_000
        yield

    connect(redis_url, tomorrow).push("Foo", 1)

    assert keys(redis) == {b"schedule"}
    assert "at" not in schedule(redis)[0][0]


def stop_odd(payload: pyqik.Payload) -> Iterator[None]:
    """Stops the jobs whose first argument is odd."""
    if payload.args[0] % 2:
        return
    yield


def test_middleware_that_does_not_yield_stops_the_push(connect: Connect, redis_url: str, redis: redis_py.Redis) -> None:
    jid = connect(redis_url, stop_odd).push("Foo", 1)

    assert jid is None
    assert redis.keys("*") == []


def test_jobs_of_a_bulk_that_middleware_stopped_have_no_jid(
    connect: Connect, redis_url: str, redis: redis_py.Redis
) -> None:
    jids = connect(redis_url, stop_odd).push_bulk("Foo", [[n] for n in range(4)])

    assert [jid is None for jid in jids] == [False, True, False, True]
    assert [payload["args"] for payload in payloads(redis)] == [[0], [2]]


def test_what_middleware_raises_reaches_the_caller(connect: Connect, redis_url: str, redis: redis_py.Redis) -> None:
    def failing(payload: pyqik.Payload) -> Iterator[None]:
        if payload.args[0] == 1:
            raise LookupError("no tenant")
        yield

    with pytest.raises(LookupError, match="no tenant"):
        connect(redis_url, failing).push("Foo", 1)

    assert redis.keys("*") == []


def test_what_middleware_breaks_is_refused(connect: Connect, redis_url: str, redis: redis_py.Redis) -> None:
    def breaking(payload: pyqik.Payload) -> Iterator[None]:
        payload["queue"] = None
        yield

    with pytest.raises(pyqik.InvalidJob, match="middleware left queue as None"):
        connect(redis_url, breaking).push("Foo")

    assert redis.keys("*") == []


def test_a_bulk_goes_to_every_queue_that_middleware_chose(
    connect: Connect, redis_url: str, redis: redis_py.Redis
) -> None:
    def by_parity(payload: pyqik.Payload) -> Iterator[None]:
        payload["queue"] = "odd" if payload.args[0] % 2 else "even"
        yield

    connect(redis_url, by_parity).push_bulk("Foo", [[n] for n in range(5)])

    assert [payload["args"] for payload in payloads(redis, "odd")] == [[1], [3]]
    assert [payload["args"] for payload in payloads(redis, "even")] == [[0], [2], [4]]
    assert redis.smembers("queues") == {b"odd", b"even"}


def test_a_client_closes_what_it_opened(redis_url: str) -> None:
    with pyqik.Client(redis_url) as client:
        assert client.push("Foo")


def test_an_async_client_closes_what_it_opened(redis_url: str) -> None:
    async def push() -> str | None:
        async with pyqik.AsyncClient(redis_url) as client:
            return await client.push("Foo")

    assert asyncio.run(push())


def test_the_blocking_form_warns_in_an_event_loop_once_for_each_place(redis_url: str) -> None:
    async def push(client: pyqik.Client) -> None:
        for _ in range(3):
            client.push("Foo")
        client.push_bulk("Foo", [[1]])

    with pyqik.Client(redis_url) as client, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        asyncio.run(push(client))

    assert [str(warning.message) for warning in caught] == [
        "push blocks the event loop until Redis has answered; write `await pyqik.AsyncClient.push(...)`",
        "push_bulk blocks the event loop until Redis has answered; write `await pyqik.AsyncClient.push_bulk(...)`",
    ]
    assert {warning.filename for warning in caught} == {__file__}
