"""A real process moves due retries and scheduled jobs to their queues, and forgets dead processes."""

from __future__ import annotations

import time

import pytest
import redis as redis_py

from tests.process.conftest import StartWork
from tests.process.state import payload, places
from tests.support.jobs import Zoo
from tests.support.wait import wait_until

POLLS_OFTEN = {"PYQIK_POLL_INTERVAL_AVERAGE": "0.2"}


@pytest.mark.parametrize("sorted_set", ["retry", "schedule"])
def test_due_jobs_run_and_those_of_later_stay(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo, sorted_set: str
) -> None:
    later = payload("Zoo::Pass", jid="later")
    redis.zadd(sorted_set, {payload("Zoo::Pass", jid="due"): time.time() - 1, later: time.time() + 600})

    start_work(environment=POLLS_OFTEN)

    wait_until(lambda: zoo.ended() == ["due"])
    wait_until(lambda: places(redis) == {later: [sorted_set]})


def test_a_due_job_goes_to_the_queue_that_it_names(start_work: StartWork, redis: redis_py.Redis) -> None:
    redis.zadd("schedule", {payload("Elsewhere::Job", jid="due", queue="rubys"): 1.0})

    start_work(environment=POLLS_OFTEN)

    wait_until(lambda: redis.llen("queue:rubys") == 1)
    assert redis.sismember("queues", "rubys")
    assert redis.zcard("schedule") == 0


def test_processes_that_are_gone_are_removed_from_the_list(start_work: StartWork, redis: redis_py.Redis) -> None:
    redis.sadd("processes", "gone:1:abc")
    redis.sadd("processes", "rubys:2:def")
    redis.hset("rubys:2:def", "info", "{}")

    work = start_work(environment=POLLS_OFTEN)

    wait_until(lambda: redis.smembers("processes") == {b"rubys:2:def", work.identities[0].encode()})


def test_no_poll_leaves_due_jobs_to_others(start_work: StartWork, redis: redis_py.Redis) -> None:
    due = payload("Zoo::Pass", jid="due")
    redis.zadd("retry", {due: 1.0})
    work = start_work("--no-poll", environment=POLLS_OFTEN)

    threads = work.supervisor_threads()

    assert "pyqik-heartbeat" in threads
    assert "pyqik-poller" not in threads
    assert places(redis) == {due: ["retry"]}
