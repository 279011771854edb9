"""TSTP: a process takes nothing more, lets its jobs finish, and lives on until it is told to stop."""

from __future__ import annotations

import signal

import redis as redis_py

from pyqik.wire.presence import send_signal
from tests.process.conftest import StartWork
from tests.process.state import next_in_queue, payload, places, push, traces
from tests.support.jobs import Zoo
from tests.support.wait import wait_until


def test_quiet_takes_no_more_jobs_while_running_ones_finish_and_term_ends_it_with_status_0(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("-c", "2")
    later = payload("Zoo::Pass", jid="later")
    push(redis, payload("Zoo::Wait", "gate", jid="running"))
    zoo.wait_for_runs(1)

    work.send(signal.SIGTSTP)
    # Of two signals that wait for a process, the later may be heard first.
    work.wait_for_event("signal", signal="TSTP")
    work.dump(work.children[0])
    push(redis, later)
    zoo.open_gate("gate")
    work.wait_for_event("done", jid="running")
    work.send(signal.SIGTERM)

    assert work.wait() == 0
    assert (zoo.begun(), zoo.ended()) == (["running"], ["running"])
    assert next_in_queue(redis) == [later]
    assert places(redis) == {later: ["queue:default"]}
    assert traces(redis) == {}


def test_quiet_shows_in_the_process_hash_at_once(start_work: StartWork, redis: redis_py.Redis) -> None:
    work = start_work()
    identity = work.identities[0]
    wait_until(lambda: redis.hget(identity, "quiet") == b"false")

    work.send(signal.SIGTSTP)

    # The next beat would come after ten seconds.
    wait_until(lambda: redis.hget(identity, "quiet") == b"true", timeout=5)
    assert redis.smembers("processes") == {identity.encode()}


def test_quiet_ends_the_polling_of_retries_and_scheduled_jobs(start_work: StartWork, redis: redis_py.Redis) -> None:
    work = start_work(environment={"PYQIK_POLL_INTERVAL_AVERAGE": "0.05"})
    due = payload("Zoo::Pass", jid="due")
    assert "pyqik-poller" in work.supervisor_threads()

    work.send(signal.SIGTSTP)

    wait_until(lambda: "pyqik-poller" not in work.supervisor_threads(), timeout=5)
    redis.zadd("retry", {due: 1.0})
    redis.zadd("schedule", {due: 1.0})
    work.send(signal.SIGTERM)
    assert work.wait() == 0
    assert places(redis) == {due: ["retry", "schedule"]}


def test_a_quiet_process_goes_on_beating_and_hears_the_web_ui(start_work: StartWork, redis: redis_py.Redis) -> None:
    work = start_work()
    identity = work.identities[0]
    work.send(signal.SIGTSTP)
    wait_until(lambda: redis.hget(identity, "quiet") == b"true")
    redis.delete(identity, "pyqik:leases")

    send_signal(redis, identity, "TTIN")

    # Both come with the next beat.
    work.wait_for_event("thread", pid=work.children[0])
    assert redis.hget(identity, "quiet") == b"true"
    assert redis.zscore("pyqik:leases", identity) is not None
    assert redis.exists(f"{identity}-signals") == 0
    assert work.status is None
