"""kill -9 of the supervisor: its children give their jobs back and end, or are ended by its guardian."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import redis as redis_py

from tests.process.conftest import StartWork
from tests.process.state import jids, next_in_queue, payload, places, push, traces
from tests.process.stopwatch import Stopwatch
from tests.support.jobs import Zoo
from tests.support.redis_server import RedisServer
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
    waiting = [payload(job_class, *arguments, jid=jid) for jid in jids(3, "b")]
    push(redis, *unfinished)
    zoo.wait_for_runs(4)
    push(redis, *waiting)

    with Stopwatch() as watch:
        work.send(signal.SIGKILL)
        work.wait()
        wait_until(lambda: not work.children, timeout=30)

    assert watch.seconds < 5
    wait_until(lambda: traces(redis) == {})
    # In no certain order: one child may hold, for a moment, what stands behind the jobs that the other one gives back.
    assert sorted(next_in_queue(redis)) == sorted([*unfinished, *waiting])
    assert set(map(len, places(redis).values())) == {1}
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


def test_children_that_hold_the_gil_are_ended_and_their_jobs_given_back_within_five_seconds(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("--processes", "2", "-c", "1", "-t", "60")
    work.wait_for_event("child ready", count=2)
    unfinished = [payload("Zoo::HoldTheGil", 60, jid=jid) for jid in jids(2)]
    push(redis, *unfinished)
    zoo.wait_for_runs(2)

    with Stopwatch() as watch:
        work.send(signal.SIGKILL)
        work.wait()
        wait_until(lambda: len(next_in_queue(redis)) == 2, timeout=30)

    assert watch.seconds < 5
    wait_until(lambda: not work.everybody, timeout=30)
    assert {raw: ["queue:default"] for raw in unfinished} == places(redis)
    assert traces(redis) == {}


def test_the_guardian_says_whom_it_had_to_kill(start_work: StartWork, redis: redis_py.Redis, zoo: Zoo) -> None:
    work = start_work("--processes", "2", "-c", "1")
    work.wait_for_event("child ready", count=2)
    push(redis, payload("Zoo::HoldTheGil", 60, jid="held"))
    [held] = zoo.wait_for_runs(1)

    work.send(signal.SIGKILL)
    work.wait()
    wait_until(lambda: not work.everybody, timeout=30)

    [line] = work.lines("the supervisor was killed; giving back what its children held")
    named = work.identities[work.started_children.index(held.pid)]
    assert (sorted(line["identities"]), line["killed"]) == (sorted(work.identities), [named])
    assert line["pid"] == work.guardians[0]


def test_a_guardian_that_dies_is_replaced_and_the_new_one_knows_everybody(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("-c", "1")
    raw = payload("Zoo::HoldTheGil", 60, jid="held")
    push(redis, raw)
    zoo.wait_for_runs(1)
    wait_until(lambda: traces(redis).get("processes"))

    os.kill(work.guardians[0], signal.SIGKILL)
    work.wait_for_event("guardian started", count=2)
    work.send(signal.SIGKILL)
    work.wait()

    wait_until(lambda: not work.everybody, timeout=30)
    assert next_in_queue(redis) == [raw]
    assert traces(redis) == {}


def test_a_guardian_that_is_frozen_holds_up_neither_the_work_nor_the_end(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work()
    os.kill(work.guardians[0], signal.SIGSTOP)
    push(redis, payload("Zoo::Pass", jid="job"))
    work.wait_for_event("done")

    with Stopwatch() as watch:
        work.end()

    assert watch.seconds < 5
    assert work.everybody == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTSTP])
def test_signals_for_everybody_leave_the_guardian_alone(start_work: StartWork, number: signal.Signals) -> None:
    work = start_work()
    [guardian] = work.guardians

    os.kill(guardian, number)
    work.end()

    assert work.lines("the guardian has died; starting another one") == []
    assert work.everybody == []


def test_a_guardian_does_not_act_when_the_supervisor_ends_in_order(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("-t", "0")
    push(redis, payload("Zoo::Wait", "never", jid="job"))
    zoo.wait_for_runs(1)

    work.end()

    assert work.everybody == []
    assert work.lines("the supervisor was killed; giving back what its children held") == []


def test_the_guardian_gives_up_while_redis_is_away_and_leaves_the_rest_to_the_leases(start_work: StartWork) -> None:
    with RedisServer("--appendonly", "yes", "--appendfsync", "always") as server:
        work = start_work(url=server.url, environment={"PYQIK_LEASE": "5"})
        with redis_py.Redis.from_url(server.url) as client:
            push(client, payload("Zoo::HoldTheGil", 60, jid="held"))
            work.wait_for_event("start")
            wait_until(lambda: client.zscore("pyqik:leases", work.identities[0]))
            server.kill()

            work.send(signal.SIGKILL)
            work.wait()
            wait_until(lambda: not work.everybody, timeout=40)

            server.start()
            assert work.lines("not everything could be given back; others do it when the leases end")
            # Once it holds the GIL, nobody takes it from the landing list to the record.
            [[place]] = places(client).values()
            assert place.startswith(("pyqik:in-flight:", "pyqik:landing:"))
            assert work.identities[0] in place
            start_work("-q", "elsewhere", url=server.url, environment={"PYQIK_LEASE": "5"})
            wait_until(lambda: list(places(client).values()) == [["queue:default"]], 30)


def test_when_supervisor_and_guardian_are_killed_together_the_children_still_end_and_give_back_what_listens(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("-c", "2", "-t", "60")
    listens = payload("Zoo::Wait", "never", jid="listens")
    blocks = payload("Zoo::Block", 60, jid="blocks")
    push(redis, listens, blocks)
    zoo.wait_for_runs(2)

    for pid in (work.guardians[0], work.pid):
        os.kill(pid, signal.SIGKILL)
    work.wait()
    wait_until(lambda: not work.everybody, timeout=30)

    assert places(redis) == {listens: ["queue:default"], blocks: [f"pyqik:in-flight:{work.identities[0]}"]}
    assert redis.zscore("pyqik:leases", work.identities[0]) is not None


def test_the_password_of_redis_is_on_no_command_line(start_work: StartWork, redis_url: str, zoo: Zoo) -> None:
    with RedisServer("--requirepass", "open sesame") as server:
        work = start_work(url=None, environment={"REDIS_URL": server.url.replace("://", "://:open%20sesame@")})

        lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in work.everybody]

        assert len(lines) == 3
        assert not [line for line in lines if "sesame" in line]
