"""Jobs that do what a test wants, one after the other on the same thread, or beside each other on the event loop."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis as redis_py

import pyqik
from pyqik.worker.launcher import Launcher
from tests.support.running import ENDINGS
from tests.support.wait import wait_until

#: `run_jobs(middleware, first, second)`: how each ended, in order.
RunJobs = Callable[..., list[str]]


@pytest.fixture
def run_jobs(redis_url: str, redis: redis_py.Redis) -> Iterator[RunJobs]:
    """Runs functions as jobs: each is pushed when the one before has ended, or at once if they run `together`.

    One that raises `Shutdown` is given back and runs again, before the others.
    """
    endings: list[str] = []

    def run(middleware: pyqik.ServerMiddleware, *bodies: Callable[[], Any], together: bool = False) -> list[str]:
        with Launcher(
            pyqik.Config(redis=redis_url, queues=["a"], concurrency=1, poll=False, server_middleware=[middleware])
        ):
            for count, body in enumerate(bodies, 1):
                name = f"Body{count}"
                pyqik.job(name)(body)
                payload = {"class": name, "args": [], "jid": name.rjust(24, "0"), "retry": False}
                redis.lpush("queue:a", json.dumps(payload))
                if not together or count == len(bodies):
                    wait_until(lambda count=count: len(final(endings)) == count, 20, f"job {count} has ended")
        return final(endings)

    with ExitStack() as stack:
        for name in ENDINGS:
            stack.callback(pyqik.events.subscribe(name, lambda name=name, **_: endings.append(name)))
        yield run


def final(endings: list[str]) -> list[str]:
    """Those that are no interruption."""
    return list(itertools.filterfalse("job.interrupted".__eq__, endings))
