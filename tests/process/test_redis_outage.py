"""Redis goes away and comes back: jobs go on, their outcomes wait for it, and a stop does not."""

from __future__ import annotations

import signal

import pytest
import redis as redis_py

from tests.process.conftest import StartWork
from tests.process.state import count_processed, jids, payload, places, push, traces
from tests.process.stopwatch import Stopwatch
from tests.support.jobs import Zoo
from tests.support.redis_server import RedisServer
from tests.support.wait import wait_until

LOST = "Redis does not answer as it should; jobs go on, their outcomes wait"


def test_jobs_that_finish_while_redis_is_down_are_settled_when_it_is_back(
    start_work: StartWork, own_server: RedisServer, own_redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("-c", "5", url=own_server.url)
    push(own_redis, *[payload("Zoo::Wait", "gate", jid=jid) for jid in jids(5, "a")])
    push(own_redis, *[payload("Zoo::Pass", jid=jid) for jid in jids(5, "b")])
    zoo.wait_for_runs(5)

    own_server.kill()
    zoo.open_gate("gate")
    work.wait_for_event("done", count=5)
    work.wait_for_event(LOST)
    own_server.start()

    work.wait_for_event("Redis is back")
    work.wait_for_event("done", count=10)
    wait_until(lambda: not places(own_redis))
    assert (sorted(zoo.begun()), zoo.overlaps()) == ([*jids(5, "a"), *jids(5, "b")], [])
    work.send(signal.SIGTERM)
    assert work.wait() == 0
    assert count_processed(own_redis) == 10
    assert traces(own_redis) == {}


def test_jobs_that_finish_while_redis_is_frozen_are_settled_when_it_thaws(
    start_work: StartWork, own_server: RedisServer, own_redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("-c", "5", url=own_server.url)
    push(own_redis, *[payload("Zoo::Wait", "gate", jid=jid) for jid in jids(5, "a")])
    push(own_redis, *[payload("Zoo::Pass", jid=jid) for jid in jids(5, "b")])
    zoo.wait_for_runs(5)

    own_server.freeze()
    zoo.open_gate("gate")
    work.wait_for_event("done", count=5)
    own_server.thaw()

    work.wait_for_event("done", count=10)
    wait_until(lambda: not places(own_redis))
    assert (sorted(zoo.begun()), zoo.overlaps()) == ([*jids(5, "a"), *jids(5, "b")], [])
    work.send(signal.SIGTERM)
    assert work.wait() == 0
    assert count_processed(own_redis) == 10


def test_a_child_that_is_killed_while_redis_is_down_has_its_jobs_given_back_when_it_is_back(
    start_work: StartWork, own_server: RedisServer, own_redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("-c", "2", url=own_server.url)
    push(own_redis, *[payload("Zoo::Wait", "gate", jid=jid) for jid in jids(2)])
    zoo.wait_for_runs(2)
    own_server.kill()

    work.send_to_child(signal.SIGKILL)
    work.wait_for_event("could not give back the jobs of an ended process yet")
    own_server.start()

    # Both are suspects of the crash, so the second one waits for the first.
    zoo.wait_for_runs(3)
    zoo.open_gate("gate")
    work.wait_for_event("done", count=2)
    wait_until(lambda: not places(own_redis))
    assert zoo.overlaps() == []


@pytest.mark.parametrize("outage", ["kill", "freeze"])
def test_a_stop_while_redis_is_away_ends_in_time_and_says_what_could_not_be_given_back(
    start_work: StartWork, own_server: RedisServer, own_redis: redis_py.Redis, zoo: Zoo, outage: str
) -> None:
    work = start_work("-c", "2", "-t", "1", url=own_server.url)
    raws = [payload("Zoo::Wait", "never", jid=jid) for jid in jids(2)]
    push(own_redis, *raws)
    zoo.wait_for_runs(2)
    getattr(own_server, outage)()

    with Stopwatch() as watch:
        work.send(signal.SIGTERM)
        work.wait()

    assert watch.seconds < 1 + 3
    assert work.status == 1
    line = work.wait_for_event("not everything could be given back; Redis still has it on record")
    assert line["identities"] == work.identities
    own_server.thaw() if outage == "freeze" else own_server.start()
    record = f"pyqik:in-flight:{work.identities[0]}"
    assert places(own_redis) == {raw: [record] for raw in raws}


def test_a_second_stop_while_redis_is_away_ends_it_at_once(
    start_work: StartWork, own_server: RedisServer, own_redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("-t", "30", url=own_server.url)
    raw = payload("Zoo::Wait", "never", jid="job")
    push(own_redis, raw)
    zoo.wait_for_runs(1)
    own_server.kill()
    work.send(signal.SIGTERM)
    work.wait_for_event("stop: waiting for running jobs")

    with Stopwatch() as watch:
        work.send(signal.SIGTERM)
        work.wait()

    assert watch.seconds < 1.5
    assert work.status == 1
    own_server.start()
    assert places(own_redis) == {raw: [f"pyqik:in-flight:{work.identities[0]}"]}


def test_a_process_that_starts_before_redis_runs_jobs_as_soon_as_it_is_there(
    start_work: StartWork, own_server: RedisServer, own_redis: redis_py.Redis, zoo: Zoo
) -> None:
    own_server.kill()
    work = start_work(url=own_server.url)
    work.wait_for_event(LOST)

    own_server.start()
    push(own_redis, payload("Zoo::Pass", jid="job"))

    work.wait_for_event("done", jid="job")
    wait_until(lambda: own_redis.smembers("processes") == {work.identities[0].encode()}, timeout=12)


def test_a_process_whose_slots_are_all_busy_notices_an_outage_too(
    start_work: StartWork, own_server: RedisServer, own_redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("-c", "1", "--async-concurrency", "1", url=own_server.url, environment={"PYQIK_LEASE": "3"})
    push(own_redis, payload("Zoo::Wait", "gate", jid="job"))
    zoo.wait_for_runs(1)

    own_server.kill()
    work.wait_for_event(LOST)
    own_server.start()

    work.wait_for_event("Redis is back")
    zoo.open_gate("gate")
    work.wait_for_event("done")
    wait_until(lambda: not places(own_redis))
    assert zoo.begun() == ["job"]
