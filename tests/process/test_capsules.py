"""Two capsules in one child, and a death or a stop: each gives back what it holds into its own queues."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import redis as redis_py

from tests.process.conftest import StartWork
from tests.process.state import count_processed, in_custody, jids, next_in_queue, payload, places, push, traces
from tests.process.stopwatch import Stopwatch
from tests.process.test_host_death import SHORT, TOOK_OVER, die
from tests.support.jobs import Zoo
from tests.support.process import ROOT
from tests.support.wait import wait_until

#: The threads that serve each queue: the default capsule has the first one, the capsule `reports` the second.
THREADS = {"default": 2, "slow": 1}
CAPSULES = ("-c", "2", "--capsule", "reports=1:slow")
#: Payloads by queue.
ByQueue = dict[str, list[bytes]]
#: How many jobs `fill` makes run, and how many of them wait.
RUNNING, WAITING = 5, 6

#: A module that a child imports: it takes jobs ahead, and keeps them however long those before them take.
TAKE_AHEAD = """
from pyqik.worker.engine import fetcher, manager
manager.PREFETCH, manager.PREFETCH_LIMIT = 3600.0, 10
manager.PREFETCH_PATIENCE = fetcher.PREFETCH_PATIENCE = 3600.0
"""


def fill(client: redis_py.Redis, zoo: Zoo) -> tuple[ByQueue, ByQueue]:
    """Let both capsules run jobs that wait at the gate `gate`, in every thread and on the event loop, and push three
    more to each queue. Returns what runs and what waits.
    """
    running: ByQueue = {}
    waiting: ByQueue = {}
    for queue, first, second in (("default", "a", "b"), ("slow", "c", "d")):
        classes = [*["Zoo::Wait"] * THREADS[queue], "Zoo::WaitInLoop"]
        named = zip(classes, jids(len(classes), first), strict=True)
        running[queue] = [payload(job_class, "gate", jid=jid, queue=queue) for job_class, jid in named]
        waiting[queue] = [payload("Zoo::Wait", "gate", jid=jid, queue=queue) for jid in jids(3, second)]
        push(client, *running[queue], queue=queue)
    zoo.wait_for_runs(RUNNING)
    for queue, payloads in waiting.items():
        push(client, *payloads, queue=queue)
    return running, waiting


def in_queues(client: redis_py.Redis) -> ByQueue:
    """What waits in both queues, the first to be taken first."""
    return {queue: next_in_queue(client, queue) for queue in THREADS}


def in_order(*parts: ByQueue) -> ByQueue:
    """The payloads of `parts`, one part behind the other."""
    return {queue: [raw for part in parts for raw in part[queue]] for queue in THREADS}


def jids_of(*parts: ByQueue) -> list[str]:
    """The jids of all payloads of `parts`, sorted."""
    return sorted(json.loads(raw)["jid"] for part in parts for payloads in part.values() for raw in payloads)


def shown_as_running(client: redis_py.Redis, identity: str) -> list[tuple[str, bytes]]:
    """What Sidekiq's Web UI shows as running in a process: queues and payloads, sorted."""
    entries: list[bytes] = client.execute_command("HVALS", f"{identity}:work")
    return sorted((entry["queue"], entry["payload"].encode()) for entry in map(json.loads, entries))


def assert_are_back(client: redis_py.Redis, running: ByQueue, waiting: ByQueue) -> None:
    """Check that each job is in its own queue and nowhere else, what ran before what waited."""
    for queue, payloads in in_queues(client).items():
        # Each that was interrupted went back as it ended: only those that ended together keep their order.
        assert sorted(payloads[: len(running[queue])]) == sorted(running[queue])
        assert payloads[len(running[queue]) :] == waiting[queue]
    assert set(map(len, places(client).values())) == {1}


def test_what_both_capsules_run_and_have_taken_ahead_in_a_killed_child_runs_to_its_end(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo, tmp_path: Path
) -> None:
    (tmp_path / "take_ahead.py").write_text(TAKE_AHEAD, encoding="utf-8")
    modules = ["tests.support.jobs", "take_ahead"]
    work = start_work(*CAPSULES, modules=modules, cwd=tmp_path, environment={"PYTHONPATH": str(ROOT)})
    [identity] = work.identities
    running, waiting = fill(redis, zoo)
    wait_until(lambda: set(map(tuple, places(redis).values())) == {(f"pyqik:in-flight:{identity}",)})
    redis.sadd("paused", *THREADS)

    os.kill(work.children[0], signal.SIGKILL)

    back = work.wait_for_event("gave back the jobs of an ended process", identity=identity)
    assert back["count"] == WAITING
    wait_until(lambda: in_queues(redis) == waiting)
    assert in_custody(redis) == [*running["default"], *running["slow"]]
    solo = work.wait_for_event("child started", solo=True)["child"]
    redis.srem("paused", *THREADS)
    zoo.open_gate("gate")
    wait_until(lambda: len(zoo.ended()) == RUNNING + WAITING, 30)
    work.end()
    assert sorted(zoo.begun()) == sorted(jids_of(running, running, waiting))
    assert sorted(note.jid for note in zoo.notes("begun")[RUNNING:] if note.pid == solo) == jids_of(running)
    assert (sorted(zoo.ended()), zoo.overlaps()) == (jids_of(running, waiting), [])
    assert count_processed(redis) == RUNNING + WAITING
    assert (places(redis), traces(redis)) == ({}, {})


def test_what_both_capsules_ran_in_a_killed_child_goes_back_to_its_own_queue_if_the_process_stops(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work(*CAPSULES)
    running, waiting = fill(redis, zoo)
    redis.sadd("paused", *THREADS)

    os.kill(work.children[0], signal.SIGKILL)

    wait_until(lambda: len(in_custody(redis)) == RUNNING)
    work.end()
    assert in_queues(redis) == in_order(running, waiting)
    assert traces(redis) == {}


@pytest.mark.parametrize("with_child", [False, True], ids=["the supervisor alone", "the supervisor and its child"])
def test_when_the_supervisor_is_killed_the_jobs_of_both_capsules_are_in_front_of_their_own_queues_within_five_seconds(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo, with_child: bool
) -> None:
    work = start_work(*CAPSULES, "-t", "60")
    running, waiting = fill(redis, zoo)
    [child] = work.children

    with Stopwatch() as watch:
        work.send(signal.SIGKILL)
        if with_child:
            os.kill(child, signal.SIGKILL)
        work.wait()
        wait_until(lambda: traces(redis) == {}, 30)

    assert watch.seconds < 5
    assert_are_back(redis, running, waiting)
    assert (sorted(zoo.begun()), zoo.ended(), zoo.overlaps()) == (jids_of(running), [], [])


def test_when_a_host_dies_another_process_gives_the_jobs_of_both_capsules_back_to_queues_that_it_does_not_serve(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    doomed = start_work(*CAPSULES, environment=SHORT)
    running, waiting = fill(redis, zoo)
    heir = start_work("-q", "elsewhere", environment=SHORT)

    die(doomed)

    heir.wait_for_event(TOOK_OVER, identity=doomed.identities[0])
    assert in_queues(redis) == in_order(running, waiting)
    assert set(map(len, places(redis).values())) == {1}


def test_a_stop_gives_back_what_each_capsule_runs_to_its_own_queue(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work(*CAPSULES)
    running, waiting = fill(redis, zoo)

    work.end()

    assert_are_back(redis, running, waiting)
    assert traces(redis) == {}
    assert [line["how"] for line in work.lines("child ended")] == ["exit status 0"]
    assert (sorted(zoo.begun()), zoo.ended(), zoo.overlaps()) == (jids_of(running), [], [])


def test_the_web_ui_sees_both_capsules_and_what_each_of_them_runs(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work(*CAPSULES, environment=SHORT)
    [identity] = work.identities
    running, _ = fill(redis, zoo)
    expected = sorted((queue, raw) for queue, payloads in running.items() for raw in payloads)

    wait_until(lambda: shown_as_running(redis, identity) == expected, 30)

    raw_info, busy, concurrency = redis.execute_command("HMGET", identity, "info", "busy", "concurrency")
    info = json.loads(raw_info)
    assert info["capsules"] == {
        "default": {"concurrency": 2, "mode": "strict", "weights": {"default": 0}},
        "reports": {"concurrency": 1, "mode": "strict", "weights": {"slow": 0}},
    }
    assert info["queues"] == ["default", "slow"]
    assert (busy, concurrency, info["concurrency"]) == (b"5", b"3", 3)
