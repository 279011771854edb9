"""Jobs that crash their process: the others run alone and lose nothing; the culprit ends in the dead set."""

from __future__ import annotations

import json
import os
import signal
import socket
import urllib.request

import pytest
import redis as redis_py

from tests.process.conftest import StartWork
from tests.process.state import dead, in_custody, jids, next_in_queue, payload, places, push, traces
from tests.process.stopwatch import Stopwatch
from tests.support.jobs import Zoo
from tests.support.process import WorkProcess
from tests.support.redis_server import RedisServer
from tests.support.wait import wait_until

CRASHING = ("tests.support.jobs", "tests.support.crashing_jobs")
POISON = "poison pill: the job goes to the dead set"
CHARGED = "a crash is charged to a job"


def kill_everything(work: WorkProcess) -> None:
    """What the death of its host is to a `pyqik work`: nobody gets to do anything about it."""
    work.send(signal.SIGSTOP)
    for pid in (*work.guardians, *work.children, work.pid):
        os.kill(pid, signal.SIGKILL)
    work.wait()


def push_suspects(redis: redis_py.Redis, zoo: Zoo, gate: str) -> list[bytes]:
    """Four jobs that wait at `gate`, and one that crashes their process when the gate `crash` opens; all of them run.
    Returns their payloads.
    """
    suspects = [payload("Zoo::Wait", gate, jid=jid) for jid in jids(4)]
    suspects.append(payload("Crash::When", "segfault", "crash", jid="bad"))
    push(redis, *suspects)
    zoo.wait_for_runs(5)
    return suspects


@pytest.mark.parametrize(
    ("job_class", "args", "cause"),
    [
        pytest.param("Crash::When", ["segfault", "crash"], "SIGSEGV", id="segmentation fault"),
        pytest.param("Crash::When", ["exit", "crash"], "exit status 3", id="os._exit"),
        pytest.param("Crash::When", ["success", "crash"], "exit status 0", id="os._exit(0)"),
        pytest.param("Crash::When", ["kill", "crash"], "SIGKILL", id="SIGKILL by itself"),
        pytest.param("Crash::When", ["abort", "crash"], "SIGABRT", id="abort"),
        pytest.param("Crash::InLoop", ["crash"], "SIGSEGV", id="async"),
    ],
)
def test_of_ten_jobs_in_flight_together_only_the_one_that_crashes_its_process_dies(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo, job_class: str, args: list[object], cause: str
) -> None:
    work = start_work("-c", "10", modules=CRASHING)
    good = jids(9, "a")
    bad = jids(1, "b")[0]
    push(redis, *[payload("Zoo::Wait", "after", jid=jid) for jid in good], payload(job_class, *args, jid=bad))
    zoo.wait_for_runs(10)

    zoo.open_gate("crash")
    work.wait_for_event("child ended")
    zoo.open_gate("after")

    work.wait_for_event(POISON, jid=bad)
    wait_until(lambda: len(zoo.ended()) == 9)
    work.end()
    [entry] = dead(redis)
    assert (entry["jid"], entry["error_class"]) == (bad, "pyqik.PoisonPill")
    assert entry["error_message"] == f"this job crashed its process 3 times; the last time: {cause}"
    assert (entry["retry_count"], entry["class"], entry["args"]) == (0, job_class, args)
    assert sorted(zoo.ended()) == good
    assert zoo.begun().count(bad) == 4
    assert zoo.overlaps() == []
    assert (redis.zcard("retry"), redis.llen("queue:default"), traces(redis)) == (0, 0, {})


def test_suspects_are_in_custody_at_once_unchanged_and_run_one_at_a_time(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("-c", "10", modules=CRASHING)
    suspects = [payload("Zoo::Wait", "after", jid=jid) for jid in jids(9)]
    suspects.append(payload("Crash::When", "segfault", "crash", jid="bad"))
    push(redis, *suspects)
    zoo.wait_for_runs(10)

    with Stopwatch() as watch:
        zoo.open_gate("crash")
        wait_until(lambda: len(in_custody(redis)) == 10)

    first = zoo.wait_for_runs(11)[-1]
    assert watch.seconds < 1.0
    assert len(in_custody(redis)) == 9
    assert sorted(places(redis)) == sorted(suspects)
    assert {len(where) for where in places(redis).values()} == {1}
    ready = work.lines("child ready")
    assert [line["child"] for line in work.lines("child started", solo=True)] == [first.pid]
    assert len(ready) >= 2
    zoo.open_gate("after")
    work.wait_for_event(POISON)
    work.end()


def test_the_only_running_job_is_charged_with_the_first_crash_too(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    zoo.open_gate("crash")
    work = start_work(modules=CRASHING)

    push(redis, payload("Crash::When", "segfault", "crash", jid="bad"))

    work.wait_for_event(POISON, jid="bad")
    assert zoo.begun() == ["bad"] * 3
    assert [line["crashes"] for line in work.lines(CHARGED)] == [1, 2]
    ended = work.lines("child ended", how="SIGSEGV")[0]
    assert "crashing_jobs.py" in ended["stack"]
    work.end()


def test_the_other_jobs_of_the_queue_go_on_meanwhile(start_work: StartWork, redis: redis_py.Redis, zoo: Zoo) -> None:
    work = start_work("-c", "2", modules=CRASHING)
    push(redis, payload("Crash::EachTime", "never", jid="bad"))
    zoo.wait_for_runs(1)
    zoo.open_gate("never-1")
    zoo.wait_for_runs(2)

    push(redis, *[payload("Zoo::Pass", jid=jid) for jid in jids(20)])

    wait_until(lambda: sorted(zoo.ended()) == jids(20))
    assert zoo.notes("begun")[1].pid in work.children
    work.end()


def test_the_death_handlers_hear_of_it_in_a_child(start_work: StartWork, redis: redis_py.Redis, zoo: Zoo) -> None:
    zoo.open_gate("crash")
    work = start_work(modules=CRASHING)
    # Long enough not to fit into a message between processes.
    push(redis, payload("Crash::When", "segfault", "crash", jid="bad", note="x" * 1_000_000))

    wait_until(lambda: zoo.notes("died-PoisonPill"), 30)

    [note] = zoo.notes("died-PoisonPill")
    assert (note.jid, note.pid) == ("bad", work.children[0])
    work.end()


def test_crashes_are_counted_across_supervisors_and_the_death_of_a_host_is_none(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    raw = payload("Crash::EachTime", "crash", jid="bad")
    first = start_work(modules=CRASHING)
    push(redis, raw)
    zoo.wait_for_runs(1)
    zoo.open_gate("crash-1")
    zoo.wait_for_runs(2)
    kill_everything(first)
    for identity in [*first.identities, *custodies(redis)]:
        recover(redis, identity)
    assert next_in_queue(redis) == [raw]

    second = start_work(modules=CRASHING)
    zoo.wait_for_runs(3)
    zoo.open_gate("crash-3")
    zoo.wait_for_runs(4)
    assert redis.hget("pyqik:crashes:bad", "times").count(b" ") == 1  # type: ignore[union-attr]
    zoo.open_gate("crash-4")

    second.wait_for_event(POISON, jid="bad")
    assert not redis.exists("pyqik:crashes:bad")
    second.end()


def test_progress_in_between_starts_the_count_anew(start_work: StartWork, redis: redis_py.Redis, zoo: Zoo) -> None:
    work = start_work(modules=CRASHING)
    push(redis, payload("Crash::EachTime", "crash", jid="slow"))

    for number in range(1, 6):
        zoo.wait_for_runs(number)
        redis.hset("it-slow", mapping={"ex": number, "c": number // 2, "rt": number})
        zoo.open_gate(f"crash-{number}")

    zoo.wait_for_runs(6)
    assert [line["crashes"] for line in work.lines(CHARGED)] == [1, 1, 2, 1, 2]
    assert redis.zcard("dead") == 0


@pytest.mark.parametrize("way", [signal.SIGTSTP, signal.SIGTERM])
def test_a_crash_on_the_way_out_is_charged_to_nobody(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo, way: signal.Signals
) -> None:
    work = start_work("-t", "20", modules=CRASHING)
    raw = payload("Crash::When", "exit", "crash", jid="bad")
    push(redis, raw)
    zoo.wait_for_runs(1)
    work.send(way)
    work.wait_for_event("quiet: no new jobs; those that run go on")

    zoo.open_gate("crash")

    # A process that takes no more, and whose last child has ended, has nothing left to do.
    assert work.wait() == 0
    assert next_in_queue(redis) == [raw]
    assert (work.lines(CHARGED), redis.keys("pyqik:crashes:*"), redis.zcard("dead")) == ([], [], 0)


def test_what_waits_to_run_alone_survives_the_death_of_the_host(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("-c", "5", modules=CRASHING)
    suspects = push_suspects(redis, zoo, "after")
    zoo.open_gate("crash")
    zoo.wait_for_runs(6)

    kill_everything(work)
    [custody] = custodies(redis)
    for identity in [*work.identities, custody]:
        recover(redis, identity)

    assert redis.zscore("pyqik:leases", custody) is not None
    assert sorted(next_in_queue(redis)) == sorted(suspects)


def test_what_waits_to_run_alone_is_taken_over_by_others_when_its_lease_ends(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("-c", "5", modules=CRASHING, environment={"PYQIK_LEASE": "2"})
    push_suspects(redis, zoo, "after")
    zoo.open_gate("crash")
    zoo.wait_for_runs(6)
    kill_everything(work)
    zoo.open_gate("after")

    other = start_work("-c", "5", modules=CRASHING, environment={"PYQIK_LEASE": "2"})

    other.wait_for_event(POISON, jid="bad", timeout=60)
    # One that has just ended runs again if its end was not written yet when another crashed.
    wait_until(lambda: set(zoo.ended()) == set(jids(4)), 30)
    assert zoo.overlaps() == []
    other.end()


def test_what_waits_to_run_alone_goes_back_when_the_supervisor_is_killed(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("-c", "5", modules=CRASHING)
    suspects = push_suspects(redis, zoo, "never")
    zoo.open_gate("crash")
    zoo.wait_for_runs(6)

    work.send(signal.SIGKILL)
    work.wait()

    wait_until(lambda: sorted(next_in_queue(redis)) == sorted(suspects), 30)
    wait_until(lambda: not traces(redis), 30)


@pytest.mark.parametrize("way", [signal.SIGTERM, signal.SIGTSTP])
def test_what_waits_to_run_alone_goes_back_to_the_front_when_no_more_jobs_are_taken(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo, way: signal.Signals
) -> None:
    work = start_work("-c", "5", modules=CRASHING)
    suspects = push_suspects(redis, zoo, "never")
    push(redis, payload("Elsewhere", jid="last"), queue="other")
    zoo.open_gate("crash")
    solo = zoo.wait_for_runs(6)[-1]

    work.send(way)

    wait_until(lambda: redis.llen("queue:default") >= 4)
    work.end()
    assert solo.jid in {json.loads(raw)["jid"] for raw in next_in_queue(redis)}
    assert sorted(next_in_queue(redis)) == sorted(suspects)
    assert traces(redis) == {}


def test_suspects_of_a_paused_queue_wait_until_it_goes_on(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("-c", "3", modules=CRASHING)
    push(redis, *[payload("Zoo::Wait", "after", jid=jid) for jid in jids(2)])
    push(redis, payload("Crash::When", "segfault", "crash", jid="bad"))
    zoo.wait_for_runs(3)
    redis.sadd("paused", "default")
    zoo.open_gate("crash")
    work.wait_for_event("child ended")
    zoo.open_gate("after")
    work.wait_for_event("child ready", count=3)
    work.dump(work.lines("child started", solo=True)[0]["child"])
    assert (len(in_custody(redis)), len(zoo.begun())) == (3, 3)

    redis.srem("paused", "default")

    work.wait_for_event(POISON)
    wait_until(lambda: sorted(zoo.ended()) == jids(2))
    work.end()


def test_a_solo_child_that_is_killed_while_it_starts_is_replaced(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("-c", "2", modules=CRASHING)
    push(redis, payload("Zoo::Wait", "after", jid="good"), payload("Crash::When", "segfault", "crash", jid="bad"))
    zoo.wait_for_runs(2)
    zoo.open_gate("crash")
    work.wait_for_event("child ended")
    zoo.open_gate("after")

    os.kill(work.wait_for_event("child started", solo=True)["child"], signal.SIGKILL)

    work.wait_for_event(POISON, jid="bad")
    wait_until(lambda: zoo.ended() == ["good"])
    work.end()


def test_a_crash_that_redis_could_not_be_told_of_is_charged_when_it_is_back(start_work: StartWork, zoo: Zoo) -> None:
    with RedisServer("--appendonly", "yes", "--appendfsync", "always") as server:
        work = start_work(url=server.url, modules=CRASHING)
        client = redis_py.Redis.from_url(server.url)
        push(client, payload("Crash::EachTime", "crash", jid="bad"))
        zoo.wait_for_runs(1)
        server.kill()
        zoo.open_gate("crash-1")
        work.wait_for_event("could not give back the jobs of an ended process yet")

        server.start()

        zoo.wait_for_runs(2)
        assert [line["crashes"] for line in work.lines(CHARGED)] == [1]
        assert client.hget("pyqik:crashes:bad", "times").count(b" ") == 0  # type: ignore[union-attr]
        work.end()
        client.close()


def test_a_kill_at_the_deadline_is_no_crash(start_work: StartWork, redis: redis_py.Redis, zoo: Zoo) -> None:
    work = start_work("-t", "0", modules=CRASHING)
    raw = payload("Zoo::Block", 60, jid="job")
    push(redis, raw)
    zoo.wait_for_runs(1)

    work.end()

    assert next_in_queue(redis) == [raw]
    assert not redis.exists("pyqik:crashes:job")


def test_a_job_that_outlives_its_stuck_after_costs_its_process_the_life_and_is_charged_alone(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("-c", "2", modules=CRASHING)
    push(redis, payload("Zoo::Wait", "after", jid="good"), payload("Crash::Hang", jid="bad"))

    first = work.wait_for_event(CHARGED, jid="bad")

    zoo.open_gate("after")
    assert first["cause"] == "killed, as the job ran longer than its stuck_after of 1.5 seconds"
    assert "in hang" in work.wait_for_event("thread", jid="bad")["stack"]
    work.wait_for_event(POISON, jid="bad")
    wait_until(lambda: zoo.ended() == ["good"])
    assert work.lines(CHARGED, jid="good") == []
    assert not redis.exists("pyqik:crashes:good")
    work.end()


def test_crashes_and_poison_pills_are_counted(start_work: StartWork, redis: redis_py.Redis, zoo: Zoo) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    work = start_work("-c", "1", "--host", "127.0.0.1", "--port", str(port), modules=CRASHING)
    zoo.open_gate("crash")

    push(redis, payload("Crash::When", "segfault", "crash", jid="bad"))
    work.wait_for_event(POISON, jid="bad", timeout=60)

    def metrics() -> list[str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
            return str(response.read().decode()).splitlines()

    wait_until(lambda: "pyqik_poison_pills_total 1.0" in metrics())
    assert 'pyqik_child_crashes_total{cause="signal"} 3.0' in metrics()
    work.end()


def custodies(redis: redis_py.Redis) -> list[str]:
    """The identity of every custody."""
    leases: list[bytes] = redis.execute_command("ZRANGE", "pyqik:leases", 0, -1)
    return [name.decode() for name in leases if redis.hexists(f"pyqik:in-flight:{name.decode()}", "queues.solo")]


def recover(redis: redis_py.Redis, identity: str) -> None:
    """What another `pyqik work` does for a process whose lease has run out. Redis has noticed its end long ago, and
    moves nothing to its landing lists any more.
    """
    from pyqik.wire import broker

    wait_until(lambda: redis.info("clients")["blocked_clients"] == 0)  # type: ignore[index]
    broker.recover(redis, identity)
