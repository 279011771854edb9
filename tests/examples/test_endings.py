"""Saying how a job ends. Anything else that is raised means a retry."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis as redis_py

import pyqik
from tests.support.running import run_queued


@pyqik.job("Accounts::Charge", queue="charges")
def charge(state: str) -> None:
    if state == "closed":
        raise pyqik.Discard("account is closed")  # gone, and no error is reported
    if state == "disputed":
        raise pyqik.Kill("needs a person")  # straight to the dead set
    if state == "busy":
        raise pyqik.RetryIn(30)  # counts as a retry, waits 30 seconds
    raise ConnectionError("bank is away")


@pytest.fixture(autouse=True)
def application(redis_url: str) -> None:
    """An application that is configured."""
    pyqik.configure(pyqik.Config(redis=redis_url))


@pytest.mark.parametrize(
    ("state", "ending", "sizes"),
    [
        ("closed", "job.discarded", (0, 0)),
        ("disputed", "job.failed", (0, 1)),
        ("busy", "job.failed", (1, 0)),
        ("anything else", "job.failed", (1, 0)),
    ],
)
def test_a_job_ends_as_it_says(
    redis_url: str, redis: redis_py.Redis, state: str, ending: str, sizes: tuple[int, int]
) -> None:
    charge.perform_async(state)

    endings = run_queued(redis_url, ["charges"])

    assert endings == [ending]
    assert (redis.zcard("retry"), redis.zcard("dead")) == sizes
    assert redis.llen("queue:charges") == 0


def test_a_retry_waits_as_long_as_it_was_told(redis_url: str, redis: redis_py.Redis) -> None:
    charge.perform_async("busy")

    run_queued(redis_url, ["charges"])

    entries: Any = redis.zrange("retry", 0, -1, withscores=True)
    ((raw, due),) = entries
    assert due - json.loads(raw)["failed_at"] == pytest.approx(30, abs=0.01)
