"""`pyqik work` as process 1, as in a container: orphans are reaped, signals work, the exit status is right."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
import redis as redis_py

from tests.process.conftest import StartWork
from tests.process.state import jids, next_in_queue, payload, places, push, traces
from tests.support.jobs import Zoo
from tests.support.process import WorkProcess
from tests.support.wait import wait_until

CRASHING = ("tests.support.jobs", "tests.support.crashing_jobs")
#: Its own process ids, in which it is the first.
UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def problem() -> str:
    """Why this system does not let a process be the first; empty if it does."""
    try:
        done = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, timeout=20, check=False)
    except OSError as error:
        return str(error)
    return done.stderr if done.returncode else ""


PROBLEM = problem()
pytestmark = pytest.mark.skipif(bool(PROBLEM), reason=f"no process namespace can be made here: {PROBLEM.strip()}")


def children_of(pid: int) -> list[int]:
    """The process ids, as seen from here, of all children of a process, zombies included."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]


def first_process(work: WorkProcess) -> int:
    """The process id of the supervisor, as seen from here."""
    [pid] = children_of(work.pid)
    return pid


def start(start_work: StartWork, *options: str) -> WorkProcess:
    """A `pyqik work` as process 1."""
    work = start_work(*options, modules=CRASHING, through=UNSHARE, own_process_ids=True)
    assert work.lines("child ready")[0]["pid"] == 1
    return work


def test_term_stops_it_and_its_status_is_zero(start_work: StartWork, redis: redis_py.Redis, zoo: Zoo) -> None:
    work = start(start_work)
    raw = payload("Zoo::Wait", "never", jid="job")
    push(redis, raw)
    zoo.wait_for_runs(1)

    os.kill(first_process(work), signal.SIGTERM)

    assert work.wait() == 0
    assert (next_in_queue(redis), traces(redis)) == ([raw], {})


@pytest.mark.parametrize(
    ("number", "event"),
    [
        pytest.param(signal.SIGINT, "stop: waiting for running jobs", id="INT"),
        pytest.param(signal.SIGTSTP, "quiet: no new jobs; those that run go on", id="TSTP"),
        pytest.param(signal.SIGTTIN, "thread", id="TTIN"),
    ],
)
def test_every_signal_that_is_documented_works(start_work: StartWork, number: signal.Signals, event: str) -> None:
    work = start(start_work)

    os.kill(first_process(work), number)

    work.wait_for_event(event)
    os.kill(first_process(work), signal.SIGTERM)
    assert work.wait() == 0


def test_a_second_term_ends_it_at_once(start_work: StartWork, redis: redis_py.Redis, zoo: Zoo) -> None:
    work = start(start_work, "-t", "60")
    raw = payload("Zoo::Stubborn", "never", jid="job")
    push(redis, raw)
    zoo.wait_for_runs(1)
    os.kill(first_process(work), signal.SIGTERM)
    work.wait_for_event("stop: waiting for running jobs")

    os.kill(first_process(work), signal.SIGTERM)

    assert work.wait() == 0
    assert places(redis) == {raw: ["queue:default"]}


def test_orphans_of_jobs_are_reaped_and_the_end_of_a_child_is_still_noticed(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start(start_work)
    supervisor = first_process(work)
    push(redis, *[payload("Crash::LeaveOrphan", jid=jid) for jid in jids(5)])
    wait_until(lambda: len(zoo.ended()) == 5)
    [child] = [pid for pid in children_of(supervisor) if "child" in command_of(pid)]

    os.kill(child, signal.SIGSEGV)

    work.wait_for_event("child ended", how="SIGSEGV")
    work.wait_for_event("child ready", count=2)
    # The guardian, the new child, and the one in which what ran at the crash runs alone; that one ends.
    wait_until(lambda: len(children_of(supervisor)) == 2, 20, "no orphan and no zombie is left")
    os.kill(supervisor, signal.SIGTERM)
    assert work.wait() == 0


def test_its_status_says_when_it_could_not_start(start_work: StartWork) -> None:
    work = start_work("-r", "no_such_module", through=UNSHARE, own_process_ids=True, ready=False)

    assert work.wait() == 2


def command_of(pid: int) -> str:
    """The command line of a process; empty for a zombie."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
