"""Slow is not dead: C code that holds the GIL for longer than the lease makes a job look busy, and no more."""

from __future__ import annotations

import json

import redis as redis_py

from tests.process.conftest import StartWork
from tests.process.state import payload, places, push
from tests.process.test_host_death import LEASE, SHORT, TOOK_OVER
from tests.support.jobs import Zoo
from tests.support.wait import wait_until

#: Seconds for which the job holds the GIL.
HOLD = 4 * LEASE


def test_a_job_that_holds_the_gil_for_longer_than_the_lease_is_shown_and_not_taken_over(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    other = start_work("-q", "elsewhere", environment=SHORT)
    work = start_work("-c", "2", environment=SHORT)
    identity = work.identities[0]
    raw = payload("Zoo::HoldTheGil", HOLD, jid="job")
    push(redis, raw)
    zoo.wait_for_runs(1)
    work_of: list[bytes] = wait_until(lambda: redis.execute_command("HVALS", f"{identity}:work"))
    first_beat = redis.execute_command("HGET", identity, "beat")

    wait_until(lambda: float(redis.execute_command("HGET", identity, "beat")) > float(first_beat) + LEASE + 1, 30)

    assert zoo.ended() == []
    assert json.loads(work_of[0])["payload"] == raw.decode()
    assert redis.execute_command("HVALS", f"{identity}:work") == work_of
    assert redis.execute_command("TTL", f"{identity}:work") > 60 - LEASE
    assert redis.sismember("processes", identity)
    work.wait_for_event("done")
    wait_until(lambda: not places(redis))
    assert (zoo.begun(), other.lines(TOOK_OVER), len(work.started_children)) == (["job"], [], 1)
