"""Class jobs: for when retries need a rule of their own."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis as redis_py
from structlog.testing import capture_logs

import pyqik
from tests.support.running import run_queued

broken: list[str] = []


class TooManyRequests(Exception):
    """Stands for an error of a service that the job uses."""


def mark_broken(jid: str) -> None:
    """Stands for the application's own code."""
    broken.append(jid)


class ResizeImage(pyqik.Job, name="Images::Resize", queue="images", retry=3):
    def perform(self, image_id: int, width: int) -> None:
        self.logger.info("resizing", width=width)
        if width == 0:
            raise TooManyRequests
        if width < 0:
            raise ValueError(width)

    def retry_in(self, count: int, error: Exception) -> pyqik.RetryDecision:
        if isinstance(error, ValueError):
            return pyqik.KILL
        return 60.0 if isinstance(error, TooManyRequests) else None

    def retries_exhausted(self, error: Exception) -> None:
        mark_broken(self.jid)


@pytest.fixture(autouse=True)
def application(redis_url: str) -> None:
    """An application that is configured, and has done nothing yet."""
    pyqik.configure(pyqik.Config(redis=redis_url))
    broken.clear()


def entries(redis: redis_py.Redis, key: str) -> list[tuple[dict[str, Any], float]]:
    """The payloads of a sorted set and their scores."""
    found: Any = redis.zrange(key, 0, -1, withscores=True)
    return [(json.loads(raw), score) for raw, score in found]


def test_a_class_job_runs_and_logs_what_it_is(redis_url: str) -> None:
    jid = ResizeImage.perform_async(1, 640)

    with capture_logs() as lines:
        endings = run_queued(redis_url, ["images"])

    (line,) = [line for line in lines if line["event"] == "resizing"]
    assert endings == ["job.done"]
    assert (line["jid"], line["class"], line["queue"], line["width"]) == (jid, "Images::Resize", "images", 640)


def test_a_class_job_says_when_it_is_tried_again(redis_url: str, redis: redis_py.Redis) -> None:
    ResizeImage.perform_async(1, 0)

    endings = run_queued(redis_url, ["images"])

    ((entry, due),) = entries(redis, "retry")
    assert endings == ["job.failed"]
    assert 60 <= due - entry["failed_at"] <= 70
    assert broken == []


def test_a_class_job_may_end_its_retries(redis_url: str, redis: redis_py.Redis) -> None:
    jid = ResizeImage.perform_async(1, -1)

    run_queued(redis_url, ["images"])

    ((entry, _),) = entries(redis, "dead")
    assert entry["jid"] == jid
    assert broken == [jid]
