"""Middleware around the run of every job, configured in code; and the job that runs, seen from what it calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import pyqik
from tests.support.running import run_queued

tenants: list[str] = []
reported: list[tuple[str, str]] = []


@contextmanager
def tenant(name: str) -> Iterator[None]:
    """Stands for the application's own code."""
    tenants.append(name)
    yield
    tenants.append(f"{name} left")


# Middleware is a generator with one yield.
def with_tenant(payload: pyqik.Payload) -> Iterator[None]:
    with tenant(payload.args[0]):
        yield


def not_for_closed_tenants(payload: pyqik.Payload) -> Iterator[None]:
    if payload.args[0] != "closed":
        yield


def report(text: str) -> None:
    """Knows the job that it was called by."""
    reported.append((pyqik.current().job_class, text))


@pyqik.job("Tenants::Report", queue="reports")
def report_tenant(name: str) -> None:
    report(name)


@pytest.fixture(autouse=True)
def application(redis_url: str) -> None:
    """Configuration in code."""
    pyqik.configure(pyqik.Config(redis=redis_url, concurrency=10, queues={"critical": 3, "default": 1}, timeout=25))
    tenants.clear()
    reported.clear()


def test_middleware_is_entered_and_left_around_a_job(redis_url: str) -> None:
    report_tenant.perform_async("acme")

    run_queued(redis_url, ["reports"], server_middleware=[with_tenant])

    assert tenants == ["acme", "acme left"]
    assert reported == [("Tenants::Report", "acme")]


def test_middleware_that_does_not_yield_skips_the_job(redis_url: str) -> None:
    report_tenant.perform_async("closed")

    endings = run_queued(redis_url, ["reports"], server_middleware=[not_for_closed_tenants, with_tenant])

    assert endings == ["job.done"]
    assert (tenants, reported) == ([], [])


def test_events_are_what_metrics_and_error_reporters_listen_to(redis_url: str) -> None:
    seen: list[float] = []
    end = pyqik.events.subscribe("job.done", lambda unit, elapsed: seen.append(elapsed))
    report_tenant.perform_async("acme")

    run_queued(redis_url, ["reports"])

    end()
    assert len(seen) == 1
