"""A process that is frozen past its lease and wakes: others run its jobs; its own must end and count for nothing."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import redis as redis_py

from pyqik.worker.processes.child_process import KILL_AFTER
from pyqik.worker.processes.supervisor import LAST_WORDS
from tests.process.conftest import StartWork
from tests.process.state import count_processed, payload, places, push, traces
from tests.process.test_host_death import GONE, SHORT, TOOK_OVER
from tests.support.jobs import Zoo
from tests.support.process import WorkProcess
from tests.support.wait import wait_until


def heirs_of(start_work: StartWork, zoo: Zoo, redis: redis_py.Redis, raw: bytes) -> tuple[WorkProcess, WorkProcess]:
    """One that runs the job, and one that could."""
    frozen = start_work("-c", "1", "--async-concurrency", "1", environment=SHORT)
    push(redis, raw)
    zoo.wait_for_runs(1)
    return frozen, start_work("-c", "1", "--async-concurrency", "1", environment=SHORT)


@pytest.mark.parametrize("job_class", ["Zoo::Wait", "Zoo::WaitInLoop"], ids=["thread", "asyncio"])
def test_jobs_of_a_frozen_host_hear_shutdown_when_it_wakes_and_are_settled_once(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo, job_class: str
) -> None:
    raw = payload(job_class, "gate", jid="job")
    frozen, heir = heirs_of(start_work, zoo, redis, raw)
    [first_child] = frozen.children

    frozen.send_to_everybody(signal.SIGSTOP)
    [_, again] = zoo.wait_for_runs(2)
    frozen.send_to_everybody(signal.SIGCONT)

    assert again.pid == heir.children[0]
    frozen.wait_for_event(GONE, pid=first_child)
    frozen.wait_for_event("interrupted; goes back to its queue", pid=first_child)
    ended = frozen.wait_for_event("child ended", child=first_child)
    assert (ended["how"], ended["killed"]) == ("exit status 4", False)
    # Another child at once, and no back-off for the next crash.
    frozen.wait_for_event("child ready", count=2)
    assert frozen.lines("starting another child") == []
    wait_until(lambda: redis.smembers("processes") == {w.identities[-1].encode() for w in (frozen, heir)})
    assert places(redis) == {raw: [f"pyqik:in-flight:{heir.identities[0]}"]}
    zoo.open_gate("gate")
    heir.wait_for_event("done")
    wait_until(lambda: not places(redis))
    assert (zoo.begun(), zoo.ended()) == (["job", "job"], ["job"])
    for work in (frozen, heir):
        work.send(signal.SIGTERM)
    assert [frozen.wait(), heir.wait()] == [0, 0]
    assert count_processed(redis) == 1


def test_the_outcome_of_a_job_that_ends_as_its_host_wakes_is_refused(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    """Its last line is executed before anybody could tell it; it fails here, so a second outcome would be seen."""
    raw = payload("Zoo::FailAfter", "first", "gate", jid="job")
    frozen, heir = heirs_of(start_work, zoo, redis, raw)

    frozen.send_to_everybody(signal.SIGSTOP)
    zoo.wait_for_runs(2)
    zoo.open_gate("first")
    for pid in frozen.children:
        os.kill(pid, signal.SIGCONT)
    frozen.wait_for_event(GONE)
    frozen.send_to_everybody(signal.SIGCONT)
    frozen.wait_for_event("child ready", count=2)

    assert redis.zcard("retry") == 0
    assert places(redis) == {raw: [f"pyqik:in-flight:{heir.identities[0]}"]}
    zoo.open_gate("gate")
    heir.wait_for_event("fail")
    wait_until(lambda: redis.zcard("retry") == 1)
    assert [sorted(found) for found in places(redis).values()] == [["retry"]]


def test_children_of_a_frozen_supervisor_learn_that_they_were_taken_for_dead_although_they_take_nothing(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    raw = payload("Zoo::Wait", "gate", jid="job")
    frozen, heir = heirs_of(start_work, zoo, redis, raw)
    [child] = frozen.children

    frozen.send(signal.SIGSTOP)
    zoo.wait_for_runs(2)
    frozen.wait_for_event(GONE, pid=child)
    wait_until(lambda: not frozen.children)
    frozen.send(signal.SIGCONT)

    frozen.wait_for_event("child ready", count=2)
    assert heir.lines(TOOK_OVER, count=1)
    zoo.open_gate("gate")
    heir.wait_for_event("done")
    wait_until(lambda: not places(redis))
    assert zoo.ended() == ["job"]


def test_a_supervisor_that_is_frozen_while_nobody_else_is_there_goes_on_when_it_wakes(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("-c", "1", environment=SHORT)
    push(redis, payload("Zoo::Wait", "gate", jid="job"))
    zoo.wait_for_runs(1)
    identity = work.identities[0]
    wait_until(lambda: redis.zscore("pyqik:leases", identity))

    work.send(signal.SIGSTOP)
    wait_until(lambda: lease_is_over(redis, identity), 30)
    work.send(signal.SIGCONT)

    wait_until(lambda: not lease_is_over(redis, identity), 30)
    zoo.open_gate("gate")
    work.wait_for_event("done")
    assert zoo.begun() == ["job"]
    work.end()
    assert traces(redis) == {}


#: A module that a child imports: it reports so often that what a frozen supervisor has not read soon fills the socket,
#: which opens the gate `full`.
REPORT_OFTEN = """
import os, pathlib, sys
from pyqik.worker.processes.channel import Channel
sys.modules["__main__"].REPORT_INTERVAL = 0.0005
flush = Channel.flush
def noted(self, timeout=0.0):
    done = flush(self, timeout)
    if not done:
        pathlib.Path(os.environ["ZOO"], "gate-full").touch()
    return done
Channel.flush = noted
"""


def test_a_supervisor_that_is_frozen_for_long_is_not_taken_for_gone(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo, tmp_path: Path
) -> None:
    (tmp_path / "often.py").write_text(REPORT_OFTEN, encoding="utf-8")
    work = start_work("-c", "1", modules=["often", "tests.support.jobs"], environment={"PYTHONPATH": str(tmp_path)})
    push(redis, payload("Zoo::Pass", jid="before"), payload("Zoo::Wait", "gate", jid="job"))
    zoo.wait_for_runs(2)

    work.send(signal.SIGSTOP)
    wait_until(lambda: zoo.is_open("full"), 60)
    zoo.open_gate("gate")
    wait_until(lambda: zoo.ended() == ["before", "job"])
    work.send(signal.SIGCONT)
    push(redis, payload("Zoo::Pass", jid="after"))

    wait_until(lambda: zoo.ended() == ["before", "job", "after"])
    work.end()
    assert len(work.started_children) == 1
    assert (count_processed(redis), traces(redis)) == (3, {})


def test_a_supervisor_that_is_frozen_beyond_its_last_deadline_gives_everything_back(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("-c", "1")
    raw = payload("Zoo::Stubborn", "gate", jid="job")
    push(redis, raw)
    zoo.wait_for_runs(1)
    work.send(signal.SIGTERM)
    work.wait_for_event("stop: waiting for running jobs")

    work.send(signal.SIGSTOP)
    over = time.monotonic() + 1 + KILL_AFTER + LAST_WORDS + 0.5
    wait_until(lambda: time.monotonic() > over)
    work.send(signal.SIGCONT)

    assert work.wait() == 0
    assert (places(redis), traces(redis)) == ({raw: ["queue:default"]}, {})


DOES_NOT_READ_AT_ONCE = """
from pyqik.worker.processes.channel import Channel
flush = Channel.flush
Channel.flush = lambda self, timeout=0.0: timeout > 0.0 and flush(self, timeout)
"""


def test_what_was_executed_is_counted_although_the_supervisor_is_behind_when_its_child_ends(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo, tmp_path: Path
) -> None:
    (tmp_path / "behind.py").write_text(DOES_NOT_READ_AT_ONCE, encoding="utf-8")
    work = start_work("-c", "1", modules=["behind", "tests.support.jobs"], environment={"PYTHONPATH": str(tmp_path)})
    push(redis, payload("Zoo::Pass", jid="first"), payload("Zoo::Pass", jid="second"))

    wait_until(lambda: zoo.ended() == ["first", "second"])
    work.end()

    assert (count_processed(redis), traces(redis)) == (2, {})


def test_a_job_that_hears_nothing_is_ended_with_its_child(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    raw = payload("Zoo::Stubborn", "gate", jid="job")
    frozen, heir = heirs_of(start_work, zoo, redis, raw)
    [child] = frozen.children

    frozen.send_to_everybody(signal.SIGSTOP)
    zoo.wait_for_runs(2)
    frozen.send_to_everybody(signal.SIGCONT)

    assert frozen.wait_for_event("child ended", child=child)
    frozen.wait_for_event("child ready", count=2)
    zoo.open_gate("gate")
    heir.wait_for_event("done")
    wait_until(lambda: not places(redis))
    assert zoo.ended() == ["job"]


def test_a_child_that_holds_the_gil_when_it_was_taken_for_dead_is_killed(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    raw = payload("Zoo::HoldTheGil", 60, jid="job")
    frozen, _ = heirs_of(start_work, zoo, redis, raw)
    [child] = frozen.children

    frozen.send_to_everybody(signal.SIGSTOP)
    zoo.wait_for_runs(2)
    frozen.send_to_everybody(signal.SIGCONT)

    frozen.wait_for_event("the child was taken for dead; ending it", child=child)
    ended = frozen.wait_for_event("child ended", child=child)
    assert (ended["how"], ended["killed"]) == ("SIGKILL", True)
    frozen.wait_for_event("child ready", count=2)


def lease_is_over(redis: redis_py.Redis, identity: str) -> bool:
    """By Redis's own clock."""
    seconds, microseconds = redis.execute_command("TIME")
    end = redis.execute_command("ZSCORE", "pyqik:leases", identity)
    return float(end) < int(seconds) + int(microseconds) / 1_000_000
