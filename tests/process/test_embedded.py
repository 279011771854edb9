"""`pyqik work --embedded`: a worker that brings its own Valkey."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import redis as redis_py

from tests.process.conftest import StartWork
from tests.process.stopwatch import Stopwatch
from tests.support.process import WorkProcess

JOBS = """
import pyqik

@pyqik.job("Shop::Greet")
def greet(name): ...

@pyqik.on("startup")
def enqueue():
    greet.perform_async("Ada")
"""


@pytest.mark.parametrize(
    ("send", "number"),
    [
        (WorkProcess.send, signal.SIGTERM),
        (WorkProcess.send_to_group, signal.SIGTERM),
        (WorkProcess.send_to_group, signal.SIGINT),
    ],
    ids=["TERM", "TERM to all", "Ctrl-C"],
)
def test_an_embedded_worker_runs_jobs_without_any_redis_and_takes_its_server_with_it(
    start_work: StartWork, tmp_path: Path, send: Callable[[WorkProcess, signal.Signals], None], number: signal.Signals
) -> None:
    (tmp_path / "shop_jobs.py").write_text(JOBS, encoding="utf-8")
    work = start_work("--embedded", "-t", "20", url=None, cwd=tmp_path, modules=["shop_jobs"])
    url = work.wait_for_event("starting")["redis"]
    work.wait_for_event("done")

    with Stopwatch() as watch:
        send(work, number)
        work.wait()

    assert watch.seconds < 3
    assert work.status == 0
    with redis_py.Redis.from_url(url) as client, pytest.raises(redis_py.ConnectionError):
        client.ping()
