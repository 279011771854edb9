"""Ruby enqueues, Python runs: every way of Sidekiq's client, and what Sidekiq's API then says of the Python process."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from compat.conftest import StartPyqik, any_version, web_versions
from compat.evidence import runs_of, wait_for_runs
from compat.real_sidekiq import RealSidekiq
from tests.support.wait import wait_until

#: What survives the way only if nobody on it reads numbers or text carelessly.
AWKWARD: list[Any] = [
    *(None, True, False, 0, -1, 2**53 + 1, 2**64 + 1, -(10**30), 0.1, 1e20, 5e-324, -0.0, 1.0),
    *("", "ü €  𝄞", 'a\u0000\u2028"\\/', [], {}, [[1, [2]], {"a": {"b": None}}]),
]

WAYS = [
    pytest.param({"how": "push", "item": {"class": "Py::Record", "queue": "python", "args": [1]}}, [[1]], id="push"),
    pytest.param(
        {"how": "push_bulk", "item": {"class": "Py::Record", "queue": "python", "args": [[1], [2], [3]]}},
        [[1], [2], [3]],
        id="push_bulk",
    ),
    pytest.param({"how": "perform_async", "class": "Py::Record", "args": [1, "b"]}, [[1, "b"]], id="perform_async"),
    pytest.param({"how": "perform_bulk", "class": "Py::Record", "args": [[1], [2]]}, [[1], [2]], id="perform_bulk"),
    pytest.param({"how": "perform_in", "class": "Py::Record", "args": [1], "seconds": 0.3}, [[1]], id="perform_in"),
    pytest.param(
        {"how": "perform_at", "class": "Py::Record", "args": [1], "at": 1.5e9}, [[1]], id="perform_at the past"
    ),
    pytest.param(
        {"how": "perform_async", "class": "Py::Record", "args": [], "set": {"tags": ["a"], "retry": False}},
        [[]],
        id="set",
    ),
    pytest.param(
        {"how": "push", "item": {"class": "Py::RecordAsync", "queue": "python", "args": [1], "retry_for": 60}},
        [[1]],
        id="an async job",
    ),
]


@pytest.mark.parametrize(("push", "expected"), WAYS)
def test_what_ruby_pushes_runs_once_in_python(
    sidekiq: RealSidekiq, pyqik_worker: StartPyqik, push: dict[str, Any], expected: list[Any]
) -> None:
    job_class = push.get("class") or push["item"]["class"]
    # One thread, as the order of runs is checked.
    pyqik_worker(options=("-c", "1"))

    pushed = sidekiq.push_all([push])[0]

    jids = pushed if isinstance(pushed, list) else [pushed]
    runs = wait_for_runs(sidekiq.redis, job_class, len(expected))
    assert runs == [{"jid": jid, "args": args} for jid, args in zip(jids, expected, strict=True)]


def test_arguments_arrive_as_they_were(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    pyqik_worker()

    sidekiq.push_job("Py::Record", *AWKWARD)

    [run] = wait_for_runs(sidekiq.redis, "Py::Record")
    # repr tells 1 from 1.0, and -0.0 from 0.0
    assert repr(run["args"]) == repr(AWKWARD)


@any_version
def test_jobs_of_one_queue_run_in_the_order_of_their_pushes(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    jids = [sidekiq.push_job("Py::Record", number) for number in range(20)]

    pyqik_worker(options=("-c", "1"))

    assert [run["jid"] for run in wait_for_runs(sidekiq.redis, "Py::Record", 20)] == jids


def test_nothing_is_left_of_a_job_that_ran(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    worker = pyqik_worker()
    sidekiq.push_job("Py::Record", 1)
    wait_for_runs(sidekiq.redis, "Py::Record")

    worker.stop()

    stats = sidekiq.read("stats")
    left = ("enqueued", "retry_size", "dead_size", "scheduled_size", "processes_size", "workers_size", "failed")
    assert {name: stats[name] for name in left} == dict.fromkeys(left, 0)
    assert (stats["processed"], stats["processed_today"]) == (1, 1)


def test_a_python_process_is_listed_like_a_sidekiq_process(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    worker = pyqik_worker(queue="python", options=("-c", "3", "-g", "shop", "--label", "blue"))

    [process] = sidekiq.read("processes")

    assert process["identity"] == worker.identity
    assert process["queues"] == ["python"]
    assert (process["concurrency"], process["busy"], process["stopping"]) == (3, 0, False)
    assert (process["tag"], process["labels"]) == ("shop", ["blue"])
    assert process["rss"] > 1000
    assert abs(process["beat"] - time.time()) < 20
    assert abs(process["started_at"] - time.time()) < 60


def test_a_running_python_job_is_listed_like_a_ruby_job(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    worker = pyqik_worker()
    jid = sidekiq.push_job("Py::Slow", 7)
    wait_for_runs(sidekiq.redis, "Py::Slow")

    [work] = wait_until(lambda: sidekiq.read("work"), 15)

    sidekiq.redis.rpush(f"release:{jid}", "go")
    assert (work["identity"], work["queue"]) == (worker.identity, "python")
    assert (work["payload"]["jid"], work["payload"]["args"]) == (jid, [7])
    assert abs(work["run_at"] - time.time()) < 30


@any_version
def test_quiet_from_ruby_stops_the_taking_of_jobs(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    worker = pyqik_worker()

    sidekiq.act("process", identity=worker.identity, action="quiet!")

    wait_until(lambda: sidekiq.read("processes")[0]["stopping"], 20)
    # Enough, and long enough, for a process that still takes jobs to take one.
    sidekiq.push("push_bulk", item={"class": "Py::Record", "queue": "python", "args": [[]] * 500})
    # One may be on its way back to the front: that of a blocking move which was under way when quiet came.
    wait_until(lambda: len(sidekiq.read("queue", "python")) == 500, 20)
    worker.stop()
    assert len(sidekiq.read("queue", "python")) == 500
    assert runs_of(sidekiq.redis, "Py::Record") == []


@any_version
def test_stop_from_ruby_ends_the_python_process(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    worker = pyqik_worker()

    sidekiq.act("process", identity=worker.identity, action="stop!")

    assert worker.program.wait(25) == 0
    assert sidekiq.read("processes") == []


@any_version
def test_thread_dumps_asked_for_by_ruby_are_logged(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    worker = pyqik_worker()
    jid = sidekiq.push_job("Py::Slow")
    wait_for_runs(sidekiq.redis, "Py::Slow")

    sidekiq.act("process", identity=worker.identity, action="dump_threads")

    worker.program.wait_for_line(r"compat/jobs\.py.*slow", timeout=15)
    sidekiq.redis.rpush(f"release:{jid}", "go")


@any_version
def test_a_job_longer_than_the_timeout_is_given_back_unchanged(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    worker = pyqik_worker(timeout=1)
    jid = sidekiq.push_job("Py::Slow", 2**70, tags=["kept"])
    wait_for_runs(sidekiq.redis, "Py::Slow")

    worker.stop()

    [job] = sidekiq.read("queue", "python")
    assert (job["jid"], job["args"], job["tags"]) == (jid, [2**70], ["kept"])
    assert "retry_count" not in job["item"]


@any_version
def test_a_killed_child_is_replaced_and_its_job_runs_again(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    worker = pyqik_worker()
    jid = sidekiq.push_job("Py::Slow")
    wait_for_runs(sidekiq.redis, "Py::Slow")

    os.kill(int(worker.identity.split(":")[1]), signal.SIGKILL)

    runs = wait_for_runs(sidekiq.redis, "Py::Slow", 2)
    [process] = wait_until(lambda: [p for p in sidekiq.read("processes") if p["busy"] == 1], 15)
    sidekiq.redis.rpush(f"release:{jid}", "go")
    assert [run["jid"] for run in runs] == [jid, jid]
    # Where it runs alone, and the one that replaces the dead one.
    assert worker.identity not in {each["identity"] for each in sidekiq.read("processes")} | {process["identity"]}


@web_versions
def test_executions_are_counted_where_sidekiq_reads_its_metrics(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    worker = pyqik_worker()
    sidekiq.push_all([{"how": "push_bulk", "item": {"class": "Py::Record", "queue": "python", "args": [[1]] * 3}}])
    sidekiq.push_job("Py::Failing", "no")
    wait_for_runs(sidekiq.redis, "Py::Record", 3)
    wait_for_runs(sidekiq.redis, "Py::Failing")

    worker.stop()

    recorded, failed = sidekiq.read("metrics", "Py::Record"), sidekiq.read("metrics", "Py::Failing")
    assert (recorded["totals"]["p"], recorded["totals"].get("f", 0), recorded["timed"]) == (3, 0, 3)
    assert (failed["totals"]["p"], failed["totals"]["f"]) == (1, 1)
