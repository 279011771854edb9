"""Function jobs: declaring, calling, enqueueing, running."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis as redis_py

import pyqik
from tests.support.running import run_queued

posted: list[int] = []
downloaded: list[int] = []


def post_mail(order_id: int) -> None:
    """Stands for the application's own code."""
    posted.append(order_id)


async def download(feed_id: int) -> None:
    """Stands for the application's own code."""
    downloaded.append(feed_id)


# The first argument is the class name that Ruby puts on the wire; without it, the function's own name.
@pyqik.job("Billing::SendReceipt", queue="mailers", retry=5)
def send_receipt(order_id: int) -> None:
    post_mail(order_id)


# An async job: the same decorator.
@pyqik.job("Feeds::Poll", queue="feeds", retry=3)
async def poll_feed(feed_id: int) -> None:
    await download(feed_id)


@pytest.fixture(autouse=True)
def application(redis_url: str) -> None:
    """An application that is configured, and has done nothing yet."""
    pyqik.configure(pyqik.Config(redis=redis_url))
    posted.clear()
    downloaded.clear()


def queued(redis: redis_py.Redis, queue: str) -> list[dict[str, Any]]:
    """A queue's payloads, the first to run first."""
    return [json.loads(raw) for raw in reversed(redis.lrange(f"queue:{queue}", 0, -1))]


def test_an_ordinary_call_needs_no_redis(redis: redis_py.Redis) -> None:
    send_receipt(42)

    assert posted == [42]
    assert redis.keys("*") == []


def test_enqueueing_in_sidekiqs_words(redis: redis_py.Redis) -> None:
    order_ids = range(100, 103)

    jid = send_receipt.perform_async(42)
    send_receipt.perform_in(timedelta(minutes=5), 42)
    send_receipt.perform_at(datetime(2127, 1, 1, 9, tzinfo=UTC), 42)
    send_receipt.set(queue="low", retry=0).perform_async(42)
    send_receipt.perform_bulk([order_id] for order_id in order_ids)

    mailers = queued(redis, "mailers")
    assert mailers[0]["jid"] == jid
    assert [job["args"] for job in mailers] == [[42], [100], [101], [102]]
    assert [(job["queue"], job["retry"]) for job in queued(redis, "low")] == [("low", 0)]
    assert redis.zcard("schedule") == 2


def test_enqueueing_in_async_code(redis: redis_py.Redis) -> None:
    async def handle_request() -> str | None:
        return await send_receipt.aperform_async(42)

    jid = asyncio.run(handle_request())

    assert [job["jid"] for job in queued(redis, "mailers")] == [jid]


def test_a_function_job_runs(redis_url: str) -> None:
    send_receipt.perform_async(42)

    endings = run_queued(redis_url, ["mailers"])

    assert endings == ["job.done"]
    assert posted == [42]


def test_an_async_job_runs(redis_url: str) -> None:
    poll_feed.perform_async(7)

    endings = run_queued(redis_url, ["feeds"])

    assert endings == ["job.done"]
    assert downloaded == [7]
