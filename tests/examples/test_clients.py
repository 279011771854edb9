"""Clients: jobs that Ruby will run, pushed from Python."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import redis as redis_py

import pyqik


def queued(redis: redis_py.Redis, queue: str) -> list[dict[str, Any]]:
    """A queue's payloads, the first to run first."""
    return [json.loads(raw) for raw in reversed(redis.lrange(f"queue:{queue}", 0, -1))]


def test_a_job_that_ruby_will_run(redis_url: str, redis: redis_py.Redis) -> None:
    user_ids = range(2_500)
    with pyqik.Client(redis_url) as client:
        jid = client.push("Billing::CloseMonthJob", "2027-01", queue="critical", retry=10)
        client.push_bulk("Mailer::DigestJob", [[user_id] for user_id in user_ids], queue="mailers")

    (close_month,) = queued(redis, "critical")
    assert (close_month["class"], close_month["args"]) == ("Billing::CloseMonthJob", ["2027-01"])
    assert (close_month["jid"], close_month["retry"]) == (jid, 10)
    assert [job["args"] for job in queued(redis, "mailers")] == [[user_id] for user_id in user_ids]
    assert redis.smembers("queues") == {b"critical", b"mailers"}


def test_the_same_in_async_code(redis_url: str, redis: redis_py.Redis) -> None:
    async def close_month() -> str | None:
        async with pyqik.AsyncClient(redis_url) as client:
            return await client.push("Billing::CloseMonthJob", "2027-01", queue="critical")

    jid = asyncio.run(close_month())

    assert [job["jid"] for job in queued(redis, "critical")] == [jid]


def test_a_client_with_middleware(redis_url: str, redis: redis_py.Redis) -> None:
    def with_locale(payload: pyqik.Payload) -> Iterator[None]:
        payload["locale"] = "de"
        yield

    def only_once_a_month(payload: pyqik.Payload) -> Iterator[None]:
        if payload.args[0] in done:
            return
        yield
        done.add(payload.args[0])

    done: set[str] = set()
    with pyqik.Client(redis_url, middleware=[with_locale, only_once_a_month]) as client:
        first = client.push("Billing::CloseMonthJob", "2027-01")
        second = client.push("Billing::CloseMonthJob", "2027-01")

    assert first is not None
    assert second is None
    assert [job["locale"] for job in queued(redis, "default")] == ["de"]
