"""kill -9 of a child: its jobs are back at once, and run again; another child takes its place."""

from __future__ import annotations

import os
import signal
from datetime import datetime
from pathlib import Path

import redis as redis_py

from tests.process.conftest import StartWork
from tests.process.state import count_processed, in_custody, jids, next_in_queue, payload, places, push, traces
from tests.process.stopwatch import Stopwatch
from tests.support.jobs import Zoo
from tests.support.process import Line
from tests.support.wait import wait_until

#: Seconds within which the jobs of a dead child are back in their queues.
AT_ONCE = 0.2


CONFIGURED_JOBS = """
import threading
import pyqik, redis, structlog

def around(payload):
    structlog.get_logger().info("around")
    yield

pyqik.configure(pyqik.Config(queues=["shop"], server_middleware=[around]))

@pyqik.job("Shop::Wait")
def wait():
    from pyqik.jobs.process import configured
    client = redis.Redis.from_url(configured().redis)
    while not client.exists("open"):
        threading.Event().wait(0.005)
    client.close()
"""


def kill(pid: int) -> None:
    """kill -9."""
    os.kill(pid, signal.SIGKILL)


def test_the_jobs_of_a_killed_child_are_safe_at_once_and_stand_before_what_waits(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("-c", "25")
    running = [payload("Zoo::Wait", "gate", jid=jid) for jid in jids(25, "a")]
    waiting = [payload("Zoo::Pass", jid=jid) for jid in jids(10, "b")]
    push(redis, *running)
    zoo.wait_for_runs(25)
    redis.sadd("paused", "default")
    push(redis, *waiting)

    with Stopwatch() as watch:
        kill(work.children[0])
        wait_until(lambda: len(in_custody(redis)) == 25)

    # What ran runs alone next; this process gives it back when it takes no more jobs.
    assert watch.seconds < AT_ONCE
    assert in_custody(redis) == running
    assert {len(where) for where in places(redis).values()} == {1}
    work.end()
    assert next_in_queue(redis) == [*running, *waiting]


def test_the_jobs_of_a_killed_child_run_again_one_at_a_time_and_are_counted_once(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("-c", "5")
    push(redis, *[payload("Zoo::Wait", "gate", jid=jid) for jid in jids(5)])
    zoo.wait_for_runs(5)

    kill(work.children[0])

    [*_, again] = zoo.wait_for_runs(6)
    solo = work.wait_for_event("child started", solo=True)["child"]
    assert again.pid == solo
    zoo.open_gate("gate")
    work.wait_for_event("done", count=5)
    work.send(signal.SIGTERM)
    assert work.wait() == 0
    assert [note.pid for note in zoo.notes("begun")[5:]] == [solo] * 5
    assert (sorted(zoo.ended()), zoo.overlaps()) == (jids(5), [])
    assert (count_processed(redis), int(redis.get("stat:failed") or 0)) == (5, 0)
    assert places(redis) == {}


def test_jobs_that_merely_waited_in_a_killed_child_go_back_to_their_queue(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("--processes", "2", "-c", "1")
    work.wait_for_event("child ready", count=2)
    push(redis, payload("Zoo::Wait", "gate", jid="job"))
    [first] = zoo.wait_for_runs(1)

    kill(first.pid)
    push(redis, *[payload("Zoo::Pass", jid=jid) for jid in jids(20)])

    wait_until(lambda: set(zoo.ended()) >= set(jids(20)))
    zoo.open_gate("gate")
    wait_until(lambda: "job" in zoo.ended())
    assert zoo.overlaps() == []


def test_a_killed_child_leaves_the_list_of_processes_and_another_joins_it(
    start_work: StartWork, redis: redis_py.Redis
) -> None:
    work = start_work()
    wait_until(lambda: redis.smembers("processes") == {work.identities[0].encode()})

    kill(work.children[0])

    wait_until(lambda: len(work.identities) == 2)
    wait_until(lambda: redis.smembers("processes") == {work.identities[1].encode()})
    first = work.identities[0]
    assert not [key for key in traces(redis) if key.startswith(first)]
    assert redis.zscore("pyqik:leases", first) is None


def test_the_log_says_how_a_child_ended_and_how_many_jobs_it_ran(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("-c", "3")
    push(redis, *[payload("Zoo::Wait", "gate", jid=jid) for jid in jids(3)])
    zoo.wait_for_runs(3)
    pid = work.children[0]

    kill(pid)

    ended = work.wait_for_event("child ended", child=pid)
    assert (ended["how"], ended["killed"], ended["level"]) == ("SIGKILL", False, "error")
    alone = work.wait_for_event("what ran in a child that crashed runs alone next")
    assert (alone["identity"], alone["count"]) == (work.identities[0], 3)


def test_the_first_restart_comes_at_once_and_the_second_after_a_second(start_work: StartWork) -> None:
    work = start_work()
    kill(work.children[0])
    work.wait_for_event("child ready", count=2)

    kill(work.children[0])
    work.wait_for_event("child ready", count=3)

    ends, starts = work.lines("child ended"), work.lines("child started", solo=False)
    assert [line["delay"] for line in work.lines("starting another child")] == [0.0, 1.0]
    assert seconds_between(ends[0], starts[1]) < 1.0 <= seconds_between(ends[1], starts[2])


def test_no_job_that_is_pushed_around_the_death_of_an_idle_child_is_lost(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work()
    names = jids(20)
    pid = work.children[0]
    push(redis, *[payload("Zoo::Pass", jid=jid) for jid in names[:10]])

    kill(pid)
    push(redis, *[payload("Zoo::Pass", jid=jid) for jid in names[10:]])

    wait_until(lambda: set(zoo.ended()) == set(names))
    wait_until(lambda: not places(redis))
    assert zoo.overlaps() == []


def test_a_process_that_a_job_started_and_that_outlives_the_child_holds_up_nothing(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work()
    push(redis, payload("Zoo::LeaveProcess", "gate", jid="job"))
    zoo.wait_for_runs(1)
    # The book is written first, the process is started then.
    wait_until(lambda: zoo.notes("forked"))

    kill(work.children[0])

    try:
        zoo.wait_for_runs(2)
    finally:
        zoo.open_gate("gate")
    work.wait_for_event("done", jid="job")


def test_a_child_that_is_killed_while_quiet_is_not_started_anew(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("--processes", "2", "-c", "1")
    work.wait_for_event("child ready", count=2)
    raw = payload("Zoo::Wait", "never", jid="job")
    push(redis, raw)
    [begun] = zoo.wait_for_runs(1)
    work.send(signal.SIGTSTP)
    work.wait_for_event("quiet: no new jobs; those that run go on", count=2)

    kill(begun.pid)
    wait_until(lambda: next_in_queue(redis) == [raw])
    work.send(signal.SIGTERM)

    assert work.wait() == 0
    assert len(work.started_children) == 2
    assert places(redis) == {raw: ["queue:default"]}
    assert traces(redis) == {}


def seconds_between(earlier: Line, later: Line) -> float:
    """Seconds between two log lines."""
    moments = [datetime.fromisoformat(line["timestamp"]) for line in (earlier, later)]
    return (moments[1] - moments[0]).total_seconds()


def test_what_modules_configure_holds_in_every_child(
    start_work: StartWork, redis: redis_py.Redis, tmp_path: Path
) -> None:
    (tmp_path / "shop_jobs.py").write_text(CONFIGURED_JOBS, encoding="utf-8")
    work = start_work("--processes", "2", "-c", "1", cwd=tmp_path, modules=["shop_jobs"])
    work.wait_for_event("child ready", count=2)
    kill(work.children[0])
    work.wait_for_event("child ready", count=3)

    push(redis, *[payload("Shop::Wait", jid=jid, queue="shop") for jid in jids(2)], queue="shop")

    # Each of the two has one thread: one that was started second, and one that was started anew.
    work.wait_for_event("start", count=2)
    redis.set("open", "1")
    work.wait_for_event("done", count=2)
    assert {line["pid"] for line in work.lines("around")} == set(work.children)
