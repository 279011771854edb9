"""A whole host dies, supervisor, guardian and children at once: other processes take over when the leases end."""

from __future__ import annotations

import signal
import time

import pytest
import redis as redis_py

from tests.process.conftest import StartWork
from tests.process.state import count_processed, jids, next_in_queue, payload, places, push, traces
from tests.support.jobs import Zoo
from tests.support.process import WorkProcess
from tests.support.redis_server import RedisServer
from tests.support.wait import wait_until

#: Seconds of a lease: short, but longer than a busy machine lets a process wait.
LEASE = 5
SHORT = {"PYQIK_LEASE": str(LEASE)}
TOOK_OVER = "took over the jobs of a process whose lease has ended"
GONE = "this process was taken for dead; its jobs must end"


def die(work: WorkProcess) -> None:
    """The end of the host: everybody at once, so that nobody sees another one die first."""
    work.send(signal.SIGSTOP)
    work.send_to_everybody(signal.SIGSTOP)
    work.send_to_everybody(signal.SIGKILL)
    work.wait()
    wait_until(lambda: not work.everybody)


def test_another_process_takes_over_when_the_lease_ends(start_work: StartWork, redis: redis_py.Redis, zoo: Zoo) -> None:
    doomed = start_work("--processes", "2", "-c", "2", environment=SHORT)
    doomed.wait_for_event("child ready", count=2)
    raws = [payload("Zoo::Wait", "gate", jid=jid) for jid in jids(4)]
    push(redis, *raws)
    zoo.wait_for_runs(4)
    wait_until(lambda: redis.scard("processes") == 2)
    heir = start_work("-c", "4", environment=SHORT)

    die(doomed)
    ends = [redis.zscore("pyqik:leases", identity) for identity in doomed.identities]
    again = zoo.wait_for_runs(8)[4:]
    [seconds, _] = redis.execute_command("TIME")

    assert seconds + 1 > min(ends)
    assert sorted(note.jid for note in again) == jids(4)
    assert {note.pid for note in again} == {heir.children[0]}
    lines = heir.lines(TOOK_OVER)
    assert (sum(line["count"] for line in lines), lines[0]["level"]) == (4, "warning")
    wait_until(lambda: redis.smembers("processes") == {heir.identities[0].encode()})
    zoo.open_gate("gate")
    heir.wait_for_event("done", count=4)
    wait_until(lambda: not places(redis))
    assert (sorted(zoo.ended()), zoo.overlaps()) == (jids(4), [])
    heir.end()
    assert (count_processed(redis), redis.zcard("retry"), redis.zcard("dead")) == (4, 0, 0)
    # Those of the dead stay for some seconds more: see `pyqik.worker.upkeep.rescue.AFTERMATH`.
    assert set(traces(redis)) <= {"pyqik:leases"}


def test_the_same_host_takes_over_after_it_was_started_again(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    doomed = start_work("-c", "2", environment=SHORT)
    raws = [payload("Zoo::Wait", "gate", jid=jid) for jid in jids(2)]
    push(redis, *raws)
    zoo.wait_for_runs(2)
    die(doomed)

    start_work("-c", "2", environment=SHORT)

    zoo.wait_for_runs(4)
    zoo.open_gate("gate")
    wait_until(lambda: not places(redis))
    assert zoo.overlaps() == []


def test_what_a_host_holds_that_dies_before_its_first_heartbeat_is_not_lost(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    push(redis, payload("Zoo::Wait", "gate", jid="job"))
    doomed = start_work(environment=SHORT, ready=False)
    zoo.wait_for_runs(1)
    die(doomed)
    for key in (b"processes", doomed.identities[0].encode()):
        redis.delete(key)

    start_work(environment=SHORT)

    zoo.wait_for_runs(2)
    zoo.open_gate("gate")
    wait_until(lambda: not places(redis))


def test_a_rescuer_that_was_frozen_steals_nothing_from_the_living(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    rescuer = start_work("-q", "elsewhere", environment=SHORT)
    living = start_work("-c", "1", environment=SHORT)
    push(redis, payload("Zoo::Wait", "gate", jid="job"))
    zoo.wait_for_runs(1)
    end = redis.zscore("pyqik:leases", living.identities[0])

    rescuer.send_to_everybody(signal.SIGSTOP)
    wait_until(lambda: redis.zscore("pyqik:leases", living.identities[0]) > end + LEASE + 1, 30)
    rescuer.send_to_everybody(signal.SIGCONT)
    seen = redis.zscore("pyqik:leases", living.identities[0])
    wait_until(lambda: redis.zscore("pyqik:leases", living.identities[0]) > seen + LEASE, 30)

    assert rescuer.lines(TOOK_OVER) == []
    zoo.open_gate("gate")
    living.wait_for_event("done")
    assert zoo.begun() == ["job"]


@pytest.mark.parametrize("outage", ["killed", "frozen"])
def test_after_redis_was_away_for_longer_than_the_lease_nobody_steals_and_nothing_is_repeated(
    start_work: StartWork, own_server: RedisServer, own_redis: redis_py.Redis, zoo: Zoo, outage: str
) -> None:
    works = [start_work("-c", "1", "-t", "20", url=own_server.url, environment=SHORT) for _ in range(5)]
    push(own_redis, *[payload("Zoo::Wait", "gate", jid=jid) for jid in jids(5)])
    zoo.wait_for_runs(5)
    leases: dict[bytes, float] = dict(own_redis.execute_command("ZRANGE", "pyqik:leases", 0, -1, "WITHSCORES"))
    assert len(leases) == 5

    own_server.freeze() if outage == "frozen" else own_server.kill()
    away_until = time.monotonic() + 2 * LEASE
    wait_until(lambda: time.monotonic() > away_until, 3 * LEASE)
    own_server.thaw() if outage == "frozen" else own_server.start()
    # Time enough for every rescuer to act.
    back_until = time.monotonic() + 2.5 * LEASE
    wait_until(lambda: time.monotonic() > back_until, 4 * LEASE)
    zoo.open_gate("gate")

    wait_until(lambda: not places(own_redis), 30)
    assert (sorted(zoo.begun()), sorted(zoo.ended()), zoo.overlaps()) == (jids(5), jids(5), [])
    assert [work.lines(TOOK_OVER) + work.lines(GONE) for work in works] == [[]] * 5
    for work in works:
        work.send(signal.SIGTERM)
    assert [work.wait(30) for work in works] == [0] * 5
    assert count_processed(own_redis) == 5
    assert traces(own_redis) == {}
    assert next_in_queue(own_redis) == []
