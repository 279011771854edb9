"""`default_job_options`: between pyqik's own defaults and what a job says, at every way to push, and in the worker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis as redis_py

import pyqik
from pyqik.jobs import process
from tests.redis.jobs.conftest import Pushes
from tests.support.running import run_queued

OPTIONS: dict[str, Any] = {"queue": "low", "retry": 3, "tags": ["all"], "custom": {"a": [1]}}

#: A job with options of its own; each takes one argument.
Job = pyqik.FunctionJob[[int], None]


@pytest.fixture
def bare() -> Job:
    """A job that says nothing, declared before anything is configured."""

    @pyqik.job("Bare")
    def bare(number: int) -> None: ...

    return bare


@pytest.fixture
def outspoken() -> Job:
    """A job that wants what pyqik's own defaults are."""

    @pyqik.job("Outspoken", queue="default", retry=True, tags=[])
    def outspoken(number: int) -> None: ...

    return outspoken


@pytest.fixture
def configured(bare: Job, outspoken: Job, redis_url: str) -> None:
    """After the jobs were declared, as happens when they are imported by the module that configures."""
    pyqik.configure(pyqik.Config(redis=redis_url, default_job_options=OPTIONS))


def pushed(redis: redis_py.Redis, queue: str) -> list[dict[str, Any]]:
    """The options of the payloads in a queue, the first to run first."""
    payloads = [json.loads(raw) for raw in reversed(redis.lrange(f"queue:{queue}", 0, -1))]
    own = {"class", "args", "jid", "created_at", "enqueued_at"}
    return [{name: value for name, value in payload.items() if name not in own} for payload in payloads]


WAYS: list[Any] = [
    pytest.param(lambda job: job.perform_async(1), id="perform_async"),
    pytest.param(lambda job: job.perform_bulk([[1]]), id="perform_bulk"),
    pytest.param(lambda job: job.perform_in(-1, 1), id="perform_in"),
    pytest.param(lambda job: job.set().perform_async(1), id="set"),
    pytest.param(lambda job: asyncio.run(job.aperform_async(1)), id="aperform_async"),
    pytest.param(lambda job: asyncio.run(job.aperform_bulk([[1]])), id="aperform_bulk"),
]


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize("way", WAYS)
def test_a_job_that_says_nothing_gets_them(way: Callable[[Job], object], bare: Job, redis: redis_py.Redis) -> None:
    way(bare)

    assert pushed(redis, "low") == [OPTIONS]


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize("way", WAYS)
def test_what_a_job_says_is_stronger(way: Callable[[Job], object], outspoken: Job, redis: redis_py.Redis) -> None:
    way(outspoken)

    assert pushed(redis, "default") == [{**OPTIONS, "queue": "default", "retry": True, "tags": []}]


@pytest.mark.usefixtures("configured")
def test_what_a_push_says_is_strongest(outspoken: Job, redis: redis_py.Redis) -> None:
    outspoken.set(queue="urgent", retry=0, custom=None).perform_async(1)

    assert pushed(redis, "urgent") == [{"queue": "urgent", "retry": 0, "tags": [], "custom": None}]


@pytest.mark.usefixtures("configured")
def test_a_class_job_gets_them_too(redis: redis_py.Redis) -> None:
    class Bare(pyqik.Job, name="BareClass"):
        def perform(self, number: int) -> None: ...

    Bare.perform_async(1)

    assert pushed(redis, "low") == [OPTIONS]


def test_a_new_configuration_is_heard_by_jobs_that_were_declared_before(
    bare: Job, redis_url: str, redis: redis_py.Redis
) -> None:
    pyqik.configure(pyqik.Config(redis=redis_url, default_job_options={"retry": 1}))
    bare.perform_async(1)

    pyqik.configure(pyqik.Config(redis=redis_url, default_job_options={"retry": 2}))
    bare.perform_async(1)

    assert [options["retry"] for options in pushed(redis, "default")] == [1, 2]


def test_what_middleware_appends_stays_with_its_own_job(bare: Job, redis_url: str, redis: redis_py.Redis) -> None:
    def tagging(payload: pyqik.Payload) -> Iterator[None]:
        payload["tags"].append("seen")
        yield

    pyqik.configure(pyqik.Config(redis=redis_url, default_job_options={"tags": []}, client_middleware=[tagging]))

    bare.perform_async(1)
    bare.perform_bulk([[1], [1]])

    assert [options["tags"] for options in pushed(redis, "default")] == [["seen"]] * 3


def test_a_client_has_them_by_a_parameter(redis_url: str, redis: redis_py.Redis) -> None:
    with pyqik.Client(redis_url, default_job_options=OPTIONS) as client:
        client.push("Ruby::Job", 1)
        client.push_bulk("Ruby::Job", [[1]], retry=False)
        client.push("Ruby::Job", 1, queue="other", tags=[])

    assert pushed(redis, "low") == [OPTIONS, {**OPTIONS, "retry": False}]
    assert pushed(redis, "other") == [{**OPTIONS, "queue": "other", "tags": []}]


def test_an_async_client_has_them_by_a_parameter(redis_url: str, redis: redis_py.Redis) -> None:
    async def push() -> None:
        async with pyqik.AsyncClient(redis_url, default_job_options=OPTIONS) as client:
            await client.push("Ruby::Job", 1)

    asyncio.run(push())

    assert pushed(redis, "low") == [OPTIONS]


@pytest.mark.usefixtures("configured")
def test_a_client_of_ones_own_knows_nothing_of_the_configuration(
    connect: Callable[..., Pushes], redis_url: str, redis: redis_py.Redis
) -> None:
    connect(redis_url).push("Ruby::Job", 1)

    assert pushed(redis, "default") == [{"queue": "default", "retry": True}]


@pytest.mark.parametrize("kind", [pyqik.Client, pyqik.AsyncClient])
def test_a_client_refuses_options_that_cannot_be(kind: type[pyqik.Client], redis_url: str) -> None:
    with pytest.raises(pyqik.InvalidJob, match="default_job_options: retry is -1"):
        kind(redis_url, default_job_options={"retry": -1})


def test_what_the_worker_has_worked_out_counts_for_the_pushes_of_its_jobs(
    bare: Job, redis_url: str, redis: redis_py.Redis
) -> None:
    process.use(pyqik.Config(redis=redis_url, default_job_options=OPTIONS))

    bare.perform_async(1)

    assert pushed(redis, "low") == [OPTIONS]


# In the worker: for payloads that carry no `retry`, as a careless client writes them.


def fails(number: int) -> None:
    raise ValueError("no")


@pytest.mark.parametrize(
    ("declared", "payload", "place", "kept"),
    [
        pytest.param({}, {}, "retry", 2, id="nobody says anything: the configuration"),
        pytest.param({"retry": 7}, {}, "retry", 7, id="the job says more"),
        pytest.param({"retry": 0}, {}, "dead", 0, id="the job says none"),
        pytest.param({}, {"retry": 9}, "retry", 9, id="the payload says it"),
        pytest.param({}, {"retry": None}, "retry", 2, id="null is nothing"),
    ],
)
def test_a_payload_without_retry_gets_that_of_its_job_or_of_the_configuration(
    declared: dict[str, Any],
    payload: dict[str, Any],
    place: str,
    kept: int,
    redis_url: str,
    redis: redis_py.Redis,
) -> None:
    pyqik.job("Fails", **declared)(fails)
    redis.lpush("queue:a", json.dumps({"class": "Fails", "args": [1], "jid": "a" * 24, **payload}))

    run_queued(redis_url, ["a"], default_job_options={"retry": 2})

    (entry,) = (json.loads(raw) for raw in redis.zrange(place, 0, -1))
    assert entry["retry"] == kept


@pytest.mark.parametrize(
    ("retry_count", "place"),
    [
        pytest.param(None, "retry", id="first failure"),
        pytest.param(0, "retry", id="2nd"),
        pytest.param(1, "dead", id="3rd"),
    ],
)
def test_max_retries_counts_for_retry_true(
    retry_count: int | None, place: str, redis_url: str, redis: redis_py.Redis
) -> None:
    pyqik.job("Fails")(fails)
    payload = {"class": "Fails", "args": [1], "jid": "a" * 24, "retry": True, "retry_count": retry_count}
    redis.lpush("queue:a", json.dumps(payload))

    run_queued(redis_url, ["a"], max_retries=2)

    assert redis.zcard(place) == 1
