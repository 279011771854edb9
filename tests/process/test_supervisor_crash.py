"""kill -9 of the supervisor: nobody is left who could kill its children, so they give their jobs back and end."""

from __future__ import annotations

import signal

import pytest
import redis as redis_py

from tests.process.conftest import StartWork
from tests.process.state import jids, next_in_queue, payload, places, push, traces
from tests.process.stopwatch import Stopwatch
from tests.support.jobs import Zoo
from tests.support.wait import wait_until


@pytest.mark.parametrize(
    ("job_class", "arguments"),
    [
        pytest.param("Zoo::Wait", ["never"], id="interruptible"),
        pytest.param("Zoo::WaitInLoop", ["never"], id="asyncio"),
        pytest.param("Zoo::Block", [60], id="blocking in C"),
        pytest.param("Zoo::Stubborn", ["never"], id="swallowing every exception"),
    ],
)
def test_children_whose_supervisor_was_killed_give_their_jobs_back_and_end_within_five_seconds(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo, job_class: str, arguments: list[object]
) -> None:
    work = start_work("--processes", "2", "-c", "2", "--async-concurrency", "2", "-t", "60")
    work.wait_for_event("child ready", count=2)
    unfinished = [payload(job_class, *arguments, jid=jid) for jid in jids(4, "a")]
    waiting = [payload("Zoo::Pass", jid=jid) for jid in jids(3, "b")]
    push(redis, *unfinished)
    zoo.wait_for_runs(4)
    push(redis, *waiting)

    with Stopwatch() as watch:
        work.send(signal.SIGKILL)
        work.wait()
        wait_until(lambda: not work.children, timeout=30)

    assert watch.seconds < 5
    assert sorted(next_in_queue(redis)[:4]) == sorted(unfinished)
    assert next_in_queue(redis)[4:] == waiting
    assert set(map(len, places(redis).values())) == {1}
    assert traces(redis) == {}
    assert (zoo.overlaps(), zoo.ended()) == ([], [])


def test_idle_children_whose_supervisor_was_killed_end(start_work: StartWork, redis: redis_py.Redis) -> None:
    work = start_work("--processes", "2")
    work.wait_for_event("child ready", count=2)

    with Stopwatch() as watch:
        work.send(signal.SIGKILL)
        work.wait()
        wait_until(lambda: not work.children, timeout=30)

    assert watch.seconds < 2
    assert work.lines("the supervisor is gone; giving the jobs back")
