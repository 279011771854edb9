"""A thousand `async def` jobs at a time in a child of `pyqik work`, beside plain ones."""

from __future__ import annotations

from pathlib import Path

import redis as redis_py

from tests.process.conftest import StartWork
from tests.process.state import count_processed, jids, payload, places, push, traces
from tests.process.test_capsules import shown_as_running
from tests.process.test_host_death import SHORT
from tests.support.jobs import Zoo
from tests.support.process import ROOT
from tests.support.wait import wait_until

TASKS, THREADS = 1000, 2

#: A module that a child imports: async jobs of which one looks at the gate for all, and none holds a file.
CROWD = """
import asyncio, os, pathlib
import pyqik
from tests.support.jobs import GLANCE, ZOO_VARIABLE, Zoo

zoo = Zoo(pathlib.Path(os.environ[ZOO_VARIABLE]))
looking = None

async def look():
    while not zoo.is_open("gate"):
        await asyncio.sleep(GLANCE)

@pyqik.job("Crowd::Wait")
async def wait():
    global looking
    jid = pyqik.current().jid
    zoo.write("begun", jid)
    looking = looking or asyncio.create_task(look())
    await asyncio.shield(looking)
    zoo.write("ended", jid)
"""


def test_a_thousand_async_jobs_run_at_a_time_beside_plain_ones_and_are_all_shown(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo, tmp_path: Path
) -> None:
    (tmp_path / "crowd.py").write_text(CROWD, encoding="utf-8")
    work = start_work(
        *("-c", str(THREADS), "--async-concurrency", str(TASKS)),
        modules=["tests.support.jobs", "crowd"],
        cwd=tmp_path,
        environment={**SHORT, "PYTHONPATH": str(ROOT)},
    )
    plain = [payload("Zoo::Wait", "gate", jid=jid) for jid in jids(THREADS, "a")]
    tasks = [payload("Crowd::Wait", jid=jid) for jid in jids(TASKS, "b")]
    push(redis, *plain, *tasks)

    expected = sorted(("default", raw) for raw in [*plain, *tasks])
    wait_until(lambda: shown_as_running(redis, work.identities[0]) == expected, 60)

    assert sorted(zoo.begun()) == [*jids(THREADS, "a"), *jids(TASKS, "b")]
    assert zoo.ended() == []
    zoo.open_gate("gate")
    wait_until(lambda: len(zoo.ended()) == THREADS + TASKS, 30)
    work.end()
    assert sorted(zoo.ended()) == sorted(zoo.begun()) == [*jids(THREADS, "a"), *jids(TASKS, "b")]
    assert count_processed(redis) == THREADS + TASKS
    assert len(work.started_children) == 1
    assert (places(redis), traces(redis)) == ({}, {})
