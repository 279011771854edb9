"""Jobs that fork: the forked process is their own business, and no worker."""

from __future__ import annotations

import pytest
import redis as redis_py

from tests.process.conftest import StartWork
from tests.process.state import count_processed, payload, places, push
from tests.support.jobs import Zoo
from tests.support.wait import wait_until

FORKING = ("tests.support.jobs", "tests.support.crashing_jobs")


@pytest.mark.parametrize(
    ("job_class", "args"),
    [
        pytest.param("Fork::Terminate", [], id="a process that is ended by SIGTERM"),
        pytest.param("Fork::ComeBack", ["return", 0], id="a fork that returns"),
        pytest.param("Fork::ComeBack", ["raise", 1], id="a fork that raises"),
        pytest.param("Fork::ComeBack", ["exit", 7], id="a fork that exits"),
    ],
)
def test_what_a_job_forks_neither_stops_the_worker_nor_works(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo, job_class: str, args: list[object]
) -> None:
    work = start_work("-c", "2", modules=FORKING)
    jids = [f"job{number}" for number in range(10)]
    push(redis, *[payload(job_class, *args, jid=jid) for jid in jids])
    push(redis, payload("Zoo::Pass", jid="last"))

    work.wait_for_event("done", count=11)

    wait_until(lambda: not places(redis))
    assert sorted(zoo.begun()) == sorted([*jids, "last"])
    assert work.lines("signal") == work.lines("child ended") == work.lines("fail") == []
    work.end()
    assert count_processed(redis) == 11
