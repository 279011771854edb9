"""TTIN: the log says what every thread and every asyncio task does, and for which job."""

from __future__ import annotations

import signal

import redis as redis_py

from tests.process.conftest import StartWork
from tests.process.state import payload, push
from tests.support.jobs import Zoo


def test_ttin_logs_a_line_per_thread_with_its_stack_and_the_jid_of_its_job(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("-c", "3")
    child = work.children[0]
    push(redis, payload("Zoo::Wait", "gate", jid="in-thread"))
    zoo.wait_for_runs(1)

    work.send(signal.SIGTTIN)

    busy = work.wait_for_event("thread", pid=child, jid="in-thread")
    # The main thread writes the dump: when it is through, a later order is obeyed.
    work.send(signal.SIGTSTP)
    work.wait_for_event("quiet: no new jobs; those that run go on")
    lines = {line["thread"]: line for line in work.lines("thread", pid=child)}
    assert lines.keys() >= {"MainThread", "pyqik-fetcher", "pyqik-job-t0", "pyqik-job-t1", "pyqik-job-t2"}
    assert "in wait\n" in busy["stack"]
    assert [line["jid"] for line in lines.values() if line is not busy] == [None] * (len(lines) - 1)
    assert all(line["stack"] for line in lines.values())


def test_ttin_logs_a_line_per_asyncio_task_with_its_stack_and_the_jid_of_its_job(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work()
    push(redis, payload("Zoo::WaitInLoop", "gate", jid="in-loop"))
    zoo.wait_for_runs(1)

    work.send(signal.SIGTTIN)

    line = work.wait_for_event("asyncio task", jid="in-loop")
    assert "wait_in_loop" in line["stack"]


def test_the_stack_of_a_task_that_blocks_the_loop_ends_where_it_blocks(
    start_work: StartWork, redis: redis_py.Redis
) -> None:
    work = start_work()
    push(redis, payload("Zoo::BlockLoop", 30, jid="blocking"))
    work.wait_for_event("an async job blocks the event loop; await what it does, or hand it to asyncio.to_thread")

    work.send(signal.SIGTTIN)

    stack = work.wait_for_event("asyncio task", jid="blocking")["stack"]
    assert stack.index("in _run\n") < stack.index("in block_loop\n") < stack.index("in wait\n")


def test_ttin_dumps_the_supervisor_and_every_child(start_work: StartWork) -> None:
    work = start_work("--processes", "2")
    work.wait_for_event("child ready", count=2)

    work.send(signal.SIGTTIN)

    for pid in (work.pid, *work.children):
        work.wait_for_event("thread", pid=pid, thread="MainThread")
    assert work.status is None
