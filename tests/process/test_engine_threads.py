"""A bug, or a job, ends a thread of the engine: the jobs are given back, nobody is charged, and work goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis as redis_py

from tests.process.conftest import StartWork
from tests.process.state import jids, next_in_queue, payload, push, traces
from tests.process.stopwatch import Stopwatch
from tests.support.jobs import Zoo
from tests.support.process import WorkProcess
from tests.support.wait import wait_until

CRASHING = ("tests.support.jobs", "tests.support.crashing_jobs")
CANNOT_GO_ON = "ending in the middle of jobs"

#: Modules that a child imports, each of which makes one thread of its die of a bug when a file is there.
KILL_FETCHER = """
import os, pathlib
from pyqik.worker.engine.fetcher import Fetcher
collect = Fetcher._collect
def broken(self):
    if pathlib.Path(os.environ["ZOO"], "gate-bug").exists():
        raise ZeroDivisionError("a bug")
    return collect(self)
Fetcher._collect = broken
"""
KILL_MAIN_THREAD = """
import os, pathlib
from pyqik.worker.engine.capsules import Capsules
drain = Capsules.drain_executions
def broken(self):
    if pathlib.Path(os.environ["ZOO"], "gate-bug").exists():
        raise ZeroDivisionError("a bug")
    return drain(self)
Capsules.drain_executions = broken
"""


def start_with(start_work: StartWork, bug: str, tmp_path: Path, *options: str) -> WorkProcess:
    """A `pyqik work` whose children have a bug, which shows when the gate `bug` opens."""
    (tmp_path / "bug.py").write_text(bug, encoding="utf-8")
    root = str(Path(__file__).parents[2])
    return start_work(*options, modules=["bug", *CRASHING], cwd=tmp_path, environment={"PYTHONPATH": root})


@pytest.mark.parametrize(
    ("job_class", "args"),
    [
        pytest.param("Zoo::Wait", ["never"], id="interruptible"),
        pytest.param("Zoo::WaitInLoop", ["never"], id="asyncio"),
        pytest.param("Zoo::Block", [60], id="blocking in C"),
        pytest.param("Zoo::Stubborn", ["never"], id="swallowing every exception"),
    ],
)
@pytest.mark.parametrize(
    "bug",
    [
        pytest.param(KILL_FETCHER, id="fetcher"),
        pytest.param(KILL_MAIN_THREAD, id="main thread"),
    ],
)
def test_a_child_whose_engine_died_gives_its_jobs_back_soon_and_nobody_is_charged(
    start_work: StartWork,
    redis: redis_py.Redis,
    zoo: Zoo,
    tmp_path: Path,
    bug: str,
    job_class: str,
    args: list[object],
) -> None:
    work = start_with(start_work, bug, tmp_path, "-c", "2", "--async-concurrency", "2")
    jobs = [payload(job_class, *args, jid=jid) for jid in jids(2)]
    push(redis, *jobs)
    zoo.wait_for_runs(2)
    redis.sadd("paused", "default")

    with Stopwatch() as watch:
        zoo.open_gate("bug")
        # It is asleep until something happens.
        push(redis, payload("Zoo::Pass", jid="other"), queue="elsewhere")
        wait_until(lambda: sorted(next_in_queue(redis)) == sorted(jobs), 30)

    assert watch.seconds < 15
    ended = work.wait_for_event("child ended")
    assert ended["how"] == "exit status 3"
    assert redis.keys("pyqik:crashes:*") == []
    (zoo.directory / "gate-bug").unlink()
    work.end()
    assert traces(redis) == {}


#: The same in a child that has left a thread behind which keeps Python from ending; a second capsule is in order.
KILL_FETCHER_OF_ONE_CAPSULE = """
import os, pathlib, threading
from pyqik.worker.engine.fetcher import Fetcher
collect = Fetcher._collect
def broken(self):
    if self._broker._part.number == 0 and pathlib.Path(os.environ["ZOO"], "gate-bug").exists():
        raise ZeroDivisionError("a bug")
    return collect(self)
Fetcher._collect = broken
threading.Thread(target=threading.Event().wait, daemon=False).start()
"""


def test_the_engine_of_one_capsule_that_died_ends_the_child_although_another_ends_in_order(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo, tmp_path: Path
) -> None:
    work = start_with(start_work, KILL_FETCHER_OF_ONE_CAPSULE, tmp_path, "-c", "1", "--capsule", "other=1:elsewhere")
    job = payload("Zoo::Stubborn", "never", jid="job")
    push(redis, job)
    zoo.wait_for_runs(1)
    redis.sadd("paused", "default")

    with Stopwatch() as watch:
        zoo.open_gate("bug")
        wait_until(lambda: next_in_queue(redis) == [job], 60)

    assert watch.seconds < 15
    assert work.wait_for_event("child ended")["how"] == "exit status 3"


def test_a_system_exit_in_a_task_of_a_job_harms_no_other_job_on_the_loop(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work(modules=CRASHING)
    push(redis, payload("Zoo::WaitInLoop", "gate", jid="other"))
    zoo.wait_for_runs(1)

    push(redis, payload("Crash::ExitInTask", jid="exits"))

    work.wait_for_event("the event loop was interrupted; it goes on")
    wait_until(lambda: zoo.ended() == ["exits"])
    zoo.open_gate("gate")
    wait_until(lambda: zoo.ended() == ["exits", "other"])
    work.end()


def test_a_job_that_stops_the_loop_harms_nobody_on_it(start_work: StartWork, redis: redis_py.Redis, zoo: Zoo) -> None:
    work = start_work(modules=CRASHING)
    push(redis, payload("Zoo::WaitInLoop", "gate", jid="other"))
    zoo.wait_for_runs(1)

    push(redis, payload("Crash::StopLoop", jid="stops"))

    work.wait_for_event("a job has stopped the event loop; it goes on")
    wait_until(lambda: zoo.ended() == ["stops"])
    zoo.open_gate("gate")
    wait_until(lambda: zoo.ended() == ["stops", "other"])
    work.end()
    assert len(work.started_children) == 1


@pytest.mark.parametrize(
    ("job_class", "args", "other"),
    [
        pytest.param("Crash::When", ["thread", "crash"], "Zoo::Wait", id="thread"),
        pytest.param("Crash::InLoop", ["crash", "thread"], "Zoo::WaitInLoop", id="asyncio"),
    ],
)
def test_a_job_that_ends_its_thread_behind_pythons_back_ends_the_child(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo, job_class: str, args: list[object], other: str
) -> None:
    work = start_work("-c", "2", modules=CRASHING)
    push(redis, payload(other, "after", jid="other"), payload(job_class, *args, jid="bad"))
    zoo.wait_for_runs(2)
    zoo.open_gate("crash")

    work.wait_for_event("a thread that runs jobs has died; this process cannot go on")

    zoo.open_gate("after")
    wait_until(lambda: "other" in zoo.ended(), 30)
    work.wait_for_event("poison pill: the job goes to the dead set", jid="bad", timeout=60)
    work.end()


#: Imported by the supervisor, too: the heartbeat dies of a bug.
SITE = """
import os, pathlib
from pyqik.wire import presence
beat = presence.beat
def broken(*args, **kwargs):
    if pathlib.Path(os.environ["ZOO"], "gate-bug").exists():
        raise ZeroDivisionError("a bug")
    return beat(*args, **kwargs)
presence.beat = broken
"""


def test_a_supervisor_that_lost_a_part_stops_in_order_with_a_status_that_says_so(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SITE, encoding="utf-8")
    work = start_work(environment={"PYTHONPATH": str(tmp_path)})
    raw = payload("Zoo::Wait", "never", jid="job")
    push(redis, raw)
    zoo.wait_for_runs(1)

    zoo.open_gate("bug")

    died = work.wait_for_event("a thread of pyqik died; stopping")
    assert died["thread"] == "pyqik-heartbeat"
    assert work.wait() == 3
    assert next_in_queue(redis) == [raw]
    assert work.lines("child ended", how="exit status 0")
