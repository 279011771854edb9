"""Hooks in the children of a real `pyqik work`: when they run, and that a slow or broken one harms nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import redis as redis_py

from tests.process.conftest import StartWork
from tests.process.state import everything, next_in_queue, payload, places, push, traces
from tests.process.stopwatch import Stopwatch
from tests.support.jobs import Zoo
from tests.support.process import WorkProcess, is_alive
from tests.support.wait import wait_until

#: A module whose hooks write their moment into the zoo's book, and wait there for a gate if one is named after them.
HOOKED = """
import os, threading
from pathlib import Path
import pyqik
from tests.support.jobs import Zoo

zoo = Zoo(Path(os.environ["ZOO"]))
slow = os.environ.get("SLOW", "")

def hook(moment):
    def run():
        zoo.write(moment, "-")
        while moment == slow and not zoo.is_open(moment):
            threading.Event().wait(0.005)
        zoo.write(moment + "-over", "-")
    pyqik.on(moment)(run)

for moment in ("startup", "quiet", "shutdown", "heartbeat"):
    hook(moment)
"""

StartHooked = Callable[..., WorkProcess]


@pytest.fixture
def start_hooked(start_work: StartWork, tmp_path: Path) -> StartHooked:
    """`start_hooked(slow="quiet")`: a `pyqik work` with the zoo's jobs and hooks; `slow` waits for its gate."""

    def start(*options: str, slow: str = "", text: str = HOOKED, ready: bool = True) -> WorkProcess:
        (tmp_path / "hooked.py").write_text(text, encoding="utf-8")
        environment = {"SLOW": slow, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
        modules = ["tests.support.jobs", "hooked"]
        return start_work(*options, modules=modules, environment=environment, ready=ready)

    return start


def wait_for(zoo: Zoo, moment: str) -> None:
    """Wait until a hook of this moment has been called, on a machine however busy."""
    wait_until(lambda: zoo.notes(moment), 30, f"a {moment} hook is called")


def hooks_called(zoo: Zoo) -> list[str]:
    """The moments and runs in the book, in order, without the heartbeat, which comes at any time."""
    lines = (zoo.directory / "book").read_text("ascii").splitlines()
    return [
        said for said, *_ in map(str.split, lines) if not said.startswith("heartbeat") and not said.endswith("-over")
    ]


def test_hooks_run_around_the_jobs_in_each_child_and_never_in_the_supervisor(
    start_hooked: StartHooked, redis: redis_py.Redis, zoo: Zoo
) -> None:
    push(redis, *[payload("Zoo::Pass", jid=f"{number}") for number in range(10)])
    work = start_hooked("--processes", "2", "-t", "20")
    work.wait_for_event("child ready", count=2)
    children = set(work.children)
    wait_until(lambda: len(zoo.ended()) == 10, 30, "all jobs have run")
    wait_until(lambda: len(zoo.notes("heartbeat")) == 2, 30, "both hearts have beaten")

    work.end()

    for moment in ("startup", "heartbeat", "quiet", "shutdown"):
        assert {note.pid for note in zoo.notes(moment)} == children
        assert len(zoo.notes(moment)) == 2
    called = hooks_called(zoo)
    assert called.index("startup") < called.index("begun")
    assert set(called[-4:]) == {"quiet", "shutdown"}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("FileNotFoundError('model.bin')", "FileNotFoundError: model.bin"),
        ("asyncio.CancelledError()", "asyncio.exceptions.CancelledError"),
    ],
)
def test_a_startup_hook_that_raises_ends_the_command_with_status_2_before_any_job_is_taken(
    start_hooked: StartHooked, redis: redis_py.Redis, error: str, told: str
) -> None:
    waiting = payload("Zoo::Pass", jid="waiting")
    push(redis, waiting)
    text = f"import pyqik, asyncio\n\n@pyqik.on('startup')\ndef load_model():\n    raise {error}\n"

    work = start_hooked(text=text, ready=False)

    assert work.wait() == 2
    [line] = work.lines("a startup hook raised; the process does not start")
    assert (line["hook"], line["level"]) == ("load_model", "error")
    assert told in line["exception"]
    assert next_in_queue(redis) == [waiting]
    assert traces(redis) == {}


def test_a_startup_hook_may_take_its_time(start_hooked: StartHooked, redis: redis_py.Redis, zoo: Zoo) -> None:
    push(redis, payload("Zoo::Pass", jid="job"))
    work = start_hooked(slow="startup", ready=False)
    wait_for(zoo, "startup")
    # Longer than every limit that a child has otherwise: the stop's, the report's, the tick's.
    with pytest.raises(AssertionError):
        wait_until(lambda: work.lines("child ended") or work.lines("child ready") or zoo.begun(), timeout=4)

    zoo.open_gate("startup")

    work.wait_for_event("done")
    assert len(work.started_children) == 1
    work.end()


def test_a_stop_during_a_startup_hook_is_obeyed_when_it_ends_and_no_job_is_taken(
    start_hooked: StartHooked, redis: redis_py.Redis, zoo: Zoo
) -> None:
    waiting = payload("Zoo::Pass", jid="waiting")
    push(redis, waiting)
    work = start_hooked("-t", "20", slow="startup", ready=False)
    wait_for(zoo, "startup")

    work.send(signal.SIGTERM)
    work.wait_for_event("signal")
    zoo.open_gate("startup")

    assert work.wait() == 0
    assert hooks_called(zoo) == ["startup", "quiet", "shutdown"]
    assert next_in_queue(redis) == [waiting]
    assert traces(redis) == {}


def test_a_startup_hook_that_never_ends_does_not_hold_up_the_stop(
    start_hooked: StartHooked, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_hooked(slow="startup", ready=False)
    wait_for(zoo, "startup")

    with Stopwatch() as watch:
        work.send(signal.SIGTERM)
        work.wait()

    assert watch.seconds < 1 + 3
    assert work.status == 0
    assert everything(redis) == {}


def test_shutdown_hooks_run_at_a_deadline_too_after_the_job_was_interrupted(
    start_hooked: StartHooked, redis: redis_py.Redis, zoo: Zoo
) -> None:
    unfinished = payload("Zoo::Wait", "never", jid="unfinished")
    push(redis, unfinished)
    work = start_hooked()
    zoo.wait_for_runs(1)

    work.end()

    assert hooks_called(zoo) == ["startup", "begun", "quiet", "shutdown"]
    assert len(zoo.notes("shutdown-over")) == 1
    assert places(redis) == {unfinished: ["queue:default"]}


@pytest.mark.parametrize("slow", ["quiet", "shutdown"])
def test_a_hook_on_the_way_out_that_never_ends_is_killed_and_no_job_is_lost(
    start_hooked: StartHooked, redis: redis_py.Redis, zoo: Zoo, slow: str
) -> None:
    unfinished = payload("Zoo::Wait", "never", jid="unfinished")
    push(redis, unfinished)
    work = start_hooked(slow=slow)
    zoo.wait_for_runs(1)

    with Stopwatch() as watch:
        work.send(signal.SIGTERM)
        work.wait()

    assert watch.seconds < 1 + 3
    assert work.status == 0
    # It was interrupted at the deadline by its own process, before that was killed.
    assert work.lines("interrupted; goes back to its queue", jid="unfinished")
    assert places(redis) == {unfinished: ["queue:default"]}
    assert traces(redis) == {}


def test_a_slow_quiet_hook_delays_neither_reports_nor_signals(
    start_hooked: StartHooked, redis: redis_py.Redis, zoo: Zoo
) -> None:
    push(redis, payload("Zoo::Wait", "gate", jid="job"))
    work = start_hooked(slow="quiet")
    identity = work.identities[0]
    zoo.wait_for_runs(1)

    work.send(signal.SIGTSTP)
    wait_for(zoo, "quiet")

    work.dump(work.children[0])
    wait_until(lambda: redis.hget(identity, "quiet") == b"true", timeout=5)
    zoo.open_gate("gate")
    work.wait_for_event("done", jid="job")
    zoo.open_gate("quiet")
    work.end()


def test_a_heartbeat_hook_that_hangs_delays_nothing(start_hooked: StartHooked, redis: redis_py.Redis, zoo: Zoo) -> None:
    push(redis, payload("Zoo::Pass", jid="job"))
    work = start_hooked("-t", "20", slow="heartbeat")
    wait_for(zoo, "heartbeat")

    work.wait_for_event("done", jid="job")
    work.dump(work.children[0])
    work.end()

    assert len(zoo.notes("shutdown-over")) == 1
    assert traces(redis) == {}


@pytest.mark.parametrize("guarded", [True, False])
def test_a_child_whose_supervisor_is_gone_ends_although_its_shutdown_hook_hangs(
    start_hooked: StartHooked, zoo: Zoo, guarded: bool
) -> None:
    work = start_hooked(slow="shutdown")
    [child], [guardian] = work.children, work.guardians

    work.send(signal.SIGSTOP)
    if not guarded:
        os.kill(guardian, signal.SIGKILL)
    work.send(signal.SIGKILL)
    work.wait()

    wait_for(zoo, "shutdown")
    wait_until(lambda: not is_alive(child), timeout=10 if guarded else 15)


KILLS_ENGINE = """
from pyqik.worker.engine.runners import raise_in_thread

@pyqik.job("KillEngine")
def kill_engine():
    for thread in threading.enumerate():
        if thread.name.startswith("pyqik-fetcher"):
            raise_in_thread(thread.ident, SystemExit())
"""


def test_a_child_whose_engine_died_and_whose_shutdown_hook_hangs_is_replaced(
    start_hooked: StartHooked, redis: redis_py.Redis, zoo: Zoo
) -> None:
    push(redis, payload("KillEngine", jid="job"))

    work = start_hooked(slow="shutdown", text=HOOKED + KILLS_ENGINE)

    wait_for(zoo, "shutdown")
    work.wait_for_event("child ended", how="SIGKILL")
    work.wait_for_event("child started", count=2)
    zoo.open_gate("shutdown")
    work.send(signal.SIGTERM)
    work.wait()
