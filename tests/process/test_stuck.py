"""A child that does not answer is not dead: it is logged and measured, and its stacks are had."""

from __future__ import annotations

import signal
import socket
import urllib.request
from pathlib import Path

import redis as redis_py

from tests.process.conftest import StartWork
from tests.process.state import payload, push
from tests.support.jobs import Zoo
from tests.support.wait import wait_until

STACKS = "stacks, as C code sees them"


def test_a_child_in_which_c_code_holds_the_gil_for_long_is_reported_and_left_alone(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    work = start_work("--host", "127.0.0.1", "--port", str(port))
    [child] = work.children
    push(redis, payload("Zoo::HoldTheGil", 36, jid="job"))
    zoo.wait_for_runs(1)

    silent = work.wait_for_event("the child does not answer", timeout=60)

    assert (silent["child"], silent["running"]) == (child, 1)
    named = work.wait_for_event("runs in that child")
    assert (named["jid"], named["class"], named["queue"]) == ("job", "Zoo::HoldTheGil", "default")
    assert "in hold_the_gil" in work.wait_for_event(STACKS)["stack"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
        metrics = response.read().decode()
    assert "\npyqik_stuck_children 1.0\n" in metrics
    again = work.wait_for_event("the child answers again", timeout=60)
    assert 30 <= again["silence"] < 60
    wait_until(lambda: zoo.ended() == ["job"])
    assert work.children == [child]
    work.end()


#: A module that a child imports: a subscriber of its author's stops the thread that takes jobs, and the child says so
#: sooner than it would.
STOP_THE_FETCHER = """
import os, pathlib, sys, threading
import pyqik
sys.modules["__main__"].SILENT = 3.0
@pyqik.events.on("job.settled")
def stop(units):
    while not pathlib.Path(os.environ["ZOO"], "gate-on").exists():
        threading.Event().wait(0.01)
"""


def test_a_child_that_takes_no_jobs_as_its_fetcher_hangs_is_reported(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo, tmp_path: Path
) -> None:
    (tmp_path / "stop.py").write_text(STOP_THE_FETCHER, encoding="utf-8")
    work = start_work(modules=["stop", "tests.support.jobs"], environment={"PYTHONPATH": str(tmp_path)})
    push(redis, payload("Zoo::Pass", jid="job"))

    work.wait_for_event("the child does not answer", timeout=60)

    assert "in stop\n" in work.wait_for_event("thread", thread="pyqik-fetcher")["stack"]
    assert work.lines(STACKS) == []
    zoo.open_gate("on")
    work.wait_for_event("the child answers again")
    work.end()


def test_ttin_brings_the_stacks_of_a_child_that_cannot_write_them_itself(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work()
    push(redis, payload("Zoo::HoldTheGil", 12, jid="job"))
    zoo.wait_for_runs(1)

    def asked() -> bool:
        work.send(signal.SIGTTIN)
        return bool(work.lines(STACKS))

    wait_until(asked, 20)

    assert "in hold_the_gil" in work.lines(STACKS)[0]["stack"]
    wait_until(lambda: zoo.ended() == ["job"], 30)
    work.end()
