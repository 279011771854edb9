"""TERM and INT: the end comes in time whatever the jobs do, and what they did not finish is back in its queue."""

from __future__ import annotations

import signal

import pytest
import redis as redis_py

from tests.process.conftest import StartWork
from tests.process.state import count_processed, jids, next_in_queue, payload, places, push, traces
from tests.process.stopwatch import Stopwatch
from tests.support.jobs import Zoo
from tests.support.wait import wait_until

#: Seconds after the stop's timeout by which the process has ended, whatever happens.
GRACE = 3.0
THREADS = 25


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_an_idle_process_stops_at_once(start_work: StartWork, redis: redis_py.Redis, number: signal.Signals) -> None:
    work = start_work("-t", "20", "-c", "5")

    with Stopwatch() as watch:
        work.send(number)
        work.wait()

    assert watch.seconds < 1.5
    assert work.status == 0
    assert work.lines("child ended") == work.lines("child ended", how="exit status 0", killed=False)
    assert traces(redis) == {}


def test_jobs_that_end_within_the_timeout_finish_and_what_waits_stays(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("-t", "20", "-c", str(THREADS))
    running, waiting = jids(THREADS, "a"), [payload("Zoo::Pass", jid=jid) for jid in jids(100, "b")]
    push(redis, *[payload("Zoo::Wait", "gate", jid=jid) for jid in running])
    zoo.wait_for_runs(THREADS)
    push(redis, *waiting)

    work.send(signal.SIGTERM)
    work.wait_for_event("stop: waiting for running jobs", running=THREADS)
    with Stopwatch() as watch:
        zoo.open_gate("gate")
        work.wait()

    assert watch.seconds < 2
    assert work.status == 0
    assert sorted(zoo.ended()) == running
    assert next_in_queue(redis) == waiting
    assert places(redis) == {raw: ["queue:default"] for raw in waiting}
    assert count_processed(redis) == THREADS
    assert traces(redis) == {}


@pytest.mark.parametrize(
    ("job_class", "arguments"),
    [
        pytest.param("Zoo::Wait", ["never"], id="waiting"),
        pytest.param("Zoo::WaitInLoop", ["never"], id="waiting on the event loop"),
        pytest.param("Zoo::Spin", [], id="spinning in pure Python"),
    ],
)
def test_interrupted_jobs_are_back_in_front_in_time(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo, job_class: str, arguments: list[object]
) -> None:
    work = start_work("-c", str(THREADS), "--async-concurrency", str(THREADS))
    unfinished = [payload(job_class, *arguments, jid=jid) for jid in jids(THREADS, "a")]
    # Of the same kind: what has room would run.
    waiting = [payload(job_class, *arguments, jid=jid) for jid in jids(100, "b")]
    push(redis, *unfinished)
    zoo.wait_for_runs(THREADS)
    push(redis, *waiting)

    with Stopwatch() as watch:
        work.send(signal.SIGTERM)
        work.wait()

    assert watch.seconds < 1 + GRACE
    assert work.status == 0
    # Each went back as it ended: only those that ended together keep their order.
    assert sorted(next_in_queue(redis)[:THREADS]) == unfinished
    assert next_in_queue(redis)[THREADS:] == waiting
    assert traces(redis) == {}
    assert (sorted(zoo.begun()), zoo.ended(), zoo.overlaps()) == (jids(THREADS, "a"), [], [])


@pytest.mark.parametrize(
    ("job_class", "arguments"),
    [
        pytest.param("Zoo::Block", [60], id="blocking in C"),
        pytest.param("Zoo::Stubborn", ["never"], id="swallowing every exception"),
    ],
)
def test_jobs_that_cannot_be_interrupted_are_back_in_front_in_their_order_in_time(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo, job_class: str, arguments: list[object]
) -> None:
    work = start_work("-c", str(THREADS))
    unfinished = [payload(job_class, *arguments, jid=jid) for jid in jids(THREADS, "a")]
    waiting = [payload("Zoo::Pass", jid=jid) for jid in jids(100, "b")]
    push(redis, *unfinished)
    zoo.wait_for_runs(THREADS)
    push(redis, *waiting)

    with Stopwatch() as watch:
        work.send(signal.SIGTERM)
        work.wait()

    assert watch.seconds < 1 + GRACE
    assert work.status == 0
    assert [line["how"] for line in work.lines("child ended")] == ["SIGKILL"]
    assert next_in_queue(redis) == [*unfinished, *waiting]
    assert places(redis) == {raw: ["queue:default"] for raw in [*unfinished, *waiting]}
    assert traces(redis) == {}
    assert (sorted(zoo.begun()), zoo.ended(), zoo.overlaps()) == (jids(THREADS, "a"), [], [])


def test_a_job_that_holds_the_gil_in_c_delays_the_end_of_nobody(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("-t", "1", "-c", str(THREADS))
    others = [payload("Zoo::Wait", "never", jid=jid) for jid in jids(THREADS - 1, "a")]
    holder = payload("Zoo::HoldTheGil", 60, jid="holder")
    waiting = [payload("Zoo::Pass", jid=jid) for jid in jids(100, "b")]
    push(redis, *others)
    zoo.wait_for_runs(THREADS - 1)
    push(redis, holder)
    zoo.wait_for_runs(THREADS)
    push(redis, *waiting)

    with Stopwatch() as watch:
        work.send(signal.SIGTERM)
        work.wait()

    assert watch.seconds < 1 + GRACE
    assert work.status == 0
    assert [line["how"] for line in work.lines("child ended")] == ["SIGKILL"]
    assert next_in_queue(redis) == [*others, holder, *waiting]
    assert places(redis) == {raw: ["queue:default"] for raw in [*others, holder, *waiting]}
    assert traces(redis) == {}
    assert (zoo.ended(), zoo.overlaps()) == ([], [])


def test_each_unfinished_job_goes_back_to_its_own_queue(start_work: StartWork, redis: redis_py.Redis, zoo: Zoo) -> None:
    work = start_work("-q", "high", "-q", "low", "-c", "2", "-t", "0")
    high = payload("Zoo::Wait", "never", jid="high", queue="high")
    # Its payload names another queue than the one from which it was taken, as after a move in Redis.
    low = payload("Zoo::Stubborn", "never", jid="low", queue="elsewhere")
    push(redis, high, queue="high")
    push(redis, low, queue="low")
    zoo.wait_for_runs(2)

    work.send(signal.SIGTERM)

    assert work.wait() == 0
    assert places(redis) == {high: ["queue:high"], low: ["queue:low"]}


def test_two_children_stop_as_one(start_work: StartWork, redis: redis_py.Redis, zoo: Zoo) -> None:
    work = start_work("--processes", "2", "-c", "3", "-t", "1")
    unfinished = [payload("Zoo::Stubborn", "never", jid=jid) for jid in jids(6, "a")]
    waiting = [payload("Zoo::Pass", jid=jid) for jid in jids(10, "b")]
    work.wait_for_event("child ready", count=2)
    push(redis, *unfinished)
    zoo.wait_for_runs(6)
    push(redis, *waiting)

    with Stopwatch() as watch:
        work.send(signal.SIGTERM)
        work.wait()

    assert watch.seconds < 1 + GRACE
    assert work.status == 0
    assert sorted(next_in_queue(redis)[:6]) == sorted(unfinished)
    # Each child looks among them for what its event loop could run, and puts them back: in no order between the two.
    assert sorted(next_in_queue(redis)[6:]) == waiting
    assert traces(redis) == {}
    assert work.children == []


def test_a_second_term_ends_it_at_once(start_work: StartWork, redis: redis_py.Redis, zoo: Zoo) -> None:
    work = start_work("-t", "30")
    raw = payload("Zoo::Wait", "never", jid="running")
    push(redis, raw)
    zoo.wait_for_runs(1)
    work.send(signal.SIGTERM)
    work.wait_for_event("stop: waiting for running jobs")

    with Stopwatch() as watch:
        work.send(signal.SIGTERM)
        work.wait()

    assert watch.seconds < 1.5
    assert work.status == 0
    assert places(redis) == {raw: ["queue:default"]}
    assert traces(redis) == {}


def test_ctrl_c_does_not_reach_the_children_which_finish_their_jobs(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("-t", "20")
    push(redis, payload("Zoo::Wait", "gate", jid="running"))
    zoo.wait_for_runs(1)

    work.send_to_group(signal.SIGINT)
    work.wait_for_event("stop: waiting for running jobs", running=1)
    zoo.open_gate("gate")

    assert work.wait() == 0
    assert zoo.ended() == ["running"]
    assert [line["how"] for line in work.lines("child ended")] == ["exit status 0"]
    assert places(redis) == {}


def test_a_thread_that_a_job_left_behind_does_not_hold_up_the_end(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("-t", "1")
    push(redis, payload("Zoo::LeaveThread", "never", jid="left"))
    work.wait_for_event("done")

    with Stopwatch() as watch:
        work.send(signal.SIGTERM)
        work.wait()

    assert watch.seconds < 1 + GRACE
    assert work.status == 0
    assert traces(redis) == {}


def test_a_stop_during_the_start_is_heard(start_work: StartWork, redis: redis_py.Redis, zoo: Zoo) -> None:
    raw = payload("Zoo::Pass", jid="waiting")
    push(redis, raw)
    work = start_work("-t", "20", "--processes", "2", modules=["tests.process.slow_jobs"], ready=False)
    work.wait_for_event("child started")

    work.send(signal.SIGTERM)
    work.wait_for_event("signal")
    zoo.open_gate("import")

    assert work.wait(10) == 0
    assert len(work.started_children) == 1
    assert (zoo.begun(), places(redis)) == ([], {raw: ["queue:default"]})
    assert traces(redis) == {}


def test_quiet_during_the_start_is_heard(start_work: StartWork, redis: redis_py.Redis, zoo: Zoo) -> None:
    raw = payload("Zoo::Pass", jid="waiting")
    push(redis, raw)
    work = start_work("--processes", "2", modules=["tests.process.slow_jobs"], ready=False)
    work.wait_for_event("child started")

    work.send(signal.SIGTSTP)
    work.wait_for_event("signal")
    zoo.open_gate("import")

    work.wait_for_event("child ready")
    wait_until(lambda: redis.hget(work.identities[0], "quiet") == b"true")
    work.end()
    assert len(work.started_children) == 1
    assert (zoo.begun(), places(redis)) == ([], {raw: ["queue:default"]})
