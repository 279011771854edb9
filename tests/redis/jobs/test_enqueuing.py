"""`perform_async` and its kin: what a declared job puts into Redis."""

from __future__ import annotations

import asyncio
import json
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis as redis_py

import pyqik

pytestmark = pytest.mark.usefixtures("configured")


@pytest.fixture
def configured(redis_url: str) -> None:
    """The default clients push to the emptied server."""
    pyqik.configure(pyqik.Config(redis=redis_url))


@pytest.fixture
def receipt() -> pyqik.FunctionJob[[int], None]:
    """A job that carries options."""

    @pyqik.job("Enqueuing::Receipt", queue="mailers", retry=5, tags=["billing"])
    def send_receipt(order_id: int) -> None: ...

    return send_receipt


def payloads(redis: redis_py.Redis, queue: str = "mailers") -> list[dict[str, Any]]:
    """A queue's payloads, the first to run first."""
    return [json.loads(raw) for raw in reversed(redis.lrange(f"queue:{queue}", 0, -1))]


def scheduled(redis: redis_py.Redis) -> list[tuple[list[Any], float]]:
    """Arguments and times of what is scheduled."""
    entries: Any = redis.zrange("schedule", 0, -1, withscores=True)
    return [(json.loads(raw)["args"], score) for raw, score in entries]


def test_a_payload_carries_all_options_as_ruby_cannot_know_them(
    receipt: pyqik.FunctionJob[[int], None], redis: redis_py.Redis
) -> None:
    jid = receipt.perform_async(42)

    (payload,) = payloads(redis)
    del payload["created_at"], payload["enqueued_at"]
    assert payload == {
        "class": "Enqueuing::Receipt",
        "args": [42],
        "jid": jid,
        "queue": "mailers",
        "retry": 5,
        "tags": ["billing"],
    }


def test_other_options_can_be_set_for_once(receipt: pyqik.FunctionJob[[int], None], redis: redis_py.Redis) -> None:
    receipt.set(queue="low", retry=0).perform_async(1)
    receipt.perform_async(2)

    assert [(payload["args"], payload["retry"]) for payload in payloads(redis, "low")] == [([1], 0)]
    assert [(payload["args"], payload["retry"]) for payload in payloads(redis)] == [([2], 5)]


Enqueue = Callable[[pyqik.FunctionJob[[int], None]], object]


@pytest.mark.parametrize(
    ("enqueue", "delay"),
    [
        pytest.param(lambda job: job.perform_in(300, 1), 300, id="perform_in seconds"),
        pytest.param(lambda job: job.perform_in(timedelta(minutes=5), 1), 300, id="perform_in timedelta"),
        pytest.param(lambda job: job.perform_at(time.time() + 300, 1), 300, id="perform_at seconds"),
        pytest.param(
            lambda job: job.perform_at(datetime.now(UTC) + timedelta(minutes=5), 1), 300, id="perform_at datetime"
        ),
        pytest.param(lambda job: job.set(wait=300).perform_async(1), 300, id="set wait"),
        pytest.param(
            lambda job: job.set(wait_until=datetime.now(UTC) + timedelta(minutes=5)).perform_async(1),
            300,
            id="set wait_until",
        ),
        pytest.param(lambda job: job.set(wait=900).perform_in(300, 1), 300, id="the later word counts"),
        pytest.param(lambda job: job.perform_bulk([[1]], at=timedelta(minutes=5)), 300, id="perform_bulk at"),
        pytest.param(lambda job: asyncio.run(job.aperform_in(300, 1)), 300, id="aperform_in"),
        pytest.param(lambda job: asyncio.run(job.aperform_at(time.time() + 300, 1)), 300, id="aperform_at"),
        pytest.param(lambda job: asyncio.run(job.aperform_bulk([[1]], at=300)), 300, id="aperform_bulk"),
    ],
)
def test_a_job_for_later_is_scheduled(
    receipt: pyqik.FunctionJob[[int], None], redis: redis_py.Redis, enqueue: Enqueue, delay: float
) -> None:
    before = time.time()

    enqueue(receipt)

    ((args, at),) = scheduled(redis)
    assert args == [1]
    assert before + delay <= at <= time.time() + delay
    assert payloads(redis) == []


@pytest.mark.parametrize(
    "enqueue",
    [
        pytest.param(lambda job: job.perform_in(0, 1), id="now"),
        pytest.param(lambda job: job.perform_at(datetime(2020, 1, 1, tzinfo=UTC), 1), id="past"),
        pytest.param(lambda job: job.perform_at(1_500_000_000.0, 1), id="past seconds"),
    ],
)
def test_a_job_for_now_or_earlier_is_pushed_at_once(
    receipt: pyqik.FunctionJob[[int], None], redis: redis_py.Redis, enqueue: Enqueue
) -> None:
    enqueue(receipt)

    assert [payload["args"] for payload in payloads(redis)] == [[1]]
    assert scheduled(redis) == []


def test_a_bulk_of_a_job_is_pushed_in_order(receipt: pyqik.FunctionJob[[int], None], redis: redis_py.Redis) -> None:
    jids = receipt.perform_bulk(([order_id] for order_id in range(2_001)), batch_size=1000)

    found = payloads(redis)
    assert [payload["args"] for payload in found] == [[order_id] for order_id in range(2_001)]
    assert [payload["jid"] for payload in found] == jids
    assert {payload["retry"] for payload in found} == {5}


def test_a_bulk_with_arguments_that_do_not_fit_is_refused(
    receipt: pyqik.FunctionJob[[int], None], redis: redis_py.Redis
) -> None:
    with pytest.raises(pyqik.WrongArguments, match="takes 1 argument"):
        receipt.perform_bulk([[1], [2, 3]])

    assert payloads(redis) == []


def test_the_awaited_twins_push_the_same(receipt: pyqik.FunctionJob[[int], None], redis: redis_py.Redis) -> None:
    async def enqueue() -> None:
        await receipt.aperform_async(1)
        await receipt.aperform_bulk([[2], [3]])
        await receipt.set(retry=False).aperform_async(4)

    asyncio.run(enqueue())

    assert [(payload["args"], payload["retry"]) for payload in payloads(redis)] == [
        ([1], 5),
        ([2], 5),
        ([3], 5),
        ([4], False),
    ]


def test_each_event_loop_has_a_client_of_its_own_that_ends_with_it(
    receipt: pyqik.FunctionJob[[int], None], redis: redis_py.Redis
) -> None:
    connections = len(redis.client_list())

    for n in range(3):
        asyncio.run(receipt.aperform_async(n))

    assert len(payloads(redis)) == 3
    assert len(redis.client_list()) == connections


def test_many_coroutines_push_at_once(receipt: pyqik.FunctionJob[[int], None], redis: redis_py.Redis) -> None:
    async def enqueue() -> None:
        await asyncio.gather(*[receipt.aperform_async(n) for n in range(50)])

    asyncio.run(enqueue())

    assert sorted(payload["args"] for payload in payloads(redis)) == [[n] for n in range(50)]


@pytest.mark.parametrize(
    ("blocking", "twin"),
    [
        (lambda job: job.perform_async(1), "perform_async blocks .*`await aperform_async"),
        (lambda job: job.perform_in(5, 1), "perform_in blocks .*`await aperform_in"),
        (lambda job: job.perform_bulk([[1]]), "perform_bulk blocks .*`await aperform_bulk"),
    ],
    ids=["perform_async", "perform_in", "perform_bulk"],
)
def test_the_blocking_form_warns_in_an_event_loop_and_names_its_twin(
    receipt: pyqik.FunctionJob[[int], None], blocking: Enqueue, twin: str
) -> None:
    async def enqueue() -> None:
        blocking(receipt)

    with pytest.warns(RuntimeWarning, match=twin) as caught:
        asyncio.run(enqueue())

    assert [warning.filename for warning in caught] == [__file__]


def test_outside_of_an_event_loop_nothing_warns(receipt: pyqik.FunctionJob[[int], None]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        assert receipt.perform_async(1)


def class_job() -> type[pyqik.Job]:
    """A class job that carries options."""

    class ResizeImage(pyqik.Job, name="Enqueuing::Resize", queue="mailers", retry=3):
        def perform(self, image_id: int, width: int) -> None: ...

    return ResizeImage


@pytest.mark.parametrize(
    "enqueue",
    [
        pytest.param(lambda job: job.perform_async(1, 2), id="perform_async"),
        pytest.param(lambda job: job.perform_in(-1, 1, 2), id="perform_in"),
        pytest.param(lambda job: job.perform_at(1_500_000_000, 1, 2), id="perform_at"),
        pytest.param(lambda job: job.perform_bulk([[1, 2]])[0], id="perform_bulk"),
        pytest.param(lambda job: job.set(tags=["x"]).perform_async(1, 2), id="set"),
        pytest.param(lambda job: asyncio.run(job.aperform_async(1, 2)), id="aperform_async"),
        pytest.param(lambda job: asyncio.run(job.aperform_in(-1, 1, 2)), id="aperform_in"),
        pytest.param(lambda job: asyncio.run(job.aperform_at(1_500_000_000, 1, 2)), id="aperform_at"),
        pytest.param(lambda job: asyncio.run(job.aperform_bulk([[1, 2]]))[0], id="aperform_bulk"),
    ],
)
def test_a_class_job_is_enqueued_in_the_same_words(
    redis: redis_py.Redis, enqueue: Callable[[type[pyqik.Job]], str | None]
) -> None:
    jid = enqueue(class_job())

    (payload,) = payloads(redis)
    assert (payload["class"], payload["args"], payload["retry"]) == ("Enqueuing::Resize", [1, 2], 3)
    assert payload["jid"] == jid


def test_a_bulk_names_the_job_whose_arguments_do_not_fit(redis: redis_py.Redis) -> None:
    with pytest.raises(pyqik.WrongArguments, match=r"job 1 of the bulk: Enqueuing::Resize takes 2 arguments"):
        class_job().perform_bulk([[1, 2], [3]])

    assert payloads(redis) == []


def test_a_class_job_checks_its_arguments(redis: redis_py.Redis) -> None:
    with pytest.raises(pyqik.WrongArguments, match=r"Enqueuing::Resize takes 2 arguments \(image_id, width\), got 1"):
        class_job().perform_async(1)

    assert payloads(redis) == []
