"""`fake` and `inline`: what is pushed is collected, or run at once; nothing of it needs a Redis."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import pyqik
from pyqik import enumerators, testing
from pyqik.core.errors import InvalidJob, JobNotRegistered, PyqikError
from pyqik.wire.pushing import Batch, Pusher

NOWHERE = "redis://127.0.0.1:1/0"

#: What the jobs below have done.
done: list[Any] = []


@pyqik.job("Queues::Receipt", queue="mailers")
def send_receipt(order: int) -> None:
    done.append(order)
    if order < 0:
        raise ValueError(f"no order {order}")


@pyqik.job("Queues::Order", queue="low")
def place_order(order: int) -> None:
    done.append(f"order {order}")
    send_receipt.perform_async(order)


@pyqik.job("Queues::Poll", queue="feeds")
async def poll(feed: int) -> None:
    done.append(f"feed {feed}")
    await asyncio.sleep(0)


@pyqik.job("Queues::Wait", queue="low")
def wait_for(word: str) -> None:
    """Interrupts itself, until somebody has said it."""
    if word not in done:
        done.append("asked")
        if done.count("asked") == 3:
            done.append(word)
        raise pyqik.ContinueIn(60)


@pyqik.job("Queues::Long", queue="low")
def go_over(numbers: list[int]) -> None:
    for number in pyqik.each(enumerators.array(numbers)):
        done.append(number)


@pytest.fixture(autouse=True)
def application(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has been done, and whoever connects to Redis fails."""
    monkeypatch.setenv("REDIS_URL", NOWHERE)
    done.clear()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """What would go to Redis."""
    batches: list[Batch] = []
    monkeypatch.setattr(Pusher, "push", lambda pusher, batch: batches.append(batch))
    return batches


def test_what_is_pushed_is_collected_by_queue() -> None:
    with testing.fake() as queues:
        jid = send_receipt.perform_async(1)
        place_order.perform_async(2)
        send_receipt.set(queue="other", retry=0, tags=["a"]).perform_async(3)

    assert done == []
    assert [(job.name, job.args, job.jid, job.at) for job in queues["mailers"]] == [("Queues::Receipt", [1], jid, None)]
    assert (list(queues), len(queues)) == (["mailers", "low", "other"], 3)
    assert ("low" in queues, "none" in queues, queues["none"]) == (True, False, [])
    assert [job.args for job in queues.jobs] == [[1], [2], [3]]
    assert [job.args for job in queues.of(send_receipt)] == [[1], [3]]
    payload = queues["other"][0].payload
    assert (payload["retry"], payload["tags"], payload.queue) == (0, ["a"], "other")


def test_scheduled_jobs_are_collected_with_their_time() -> None:
    began = time.time()

    with testing.fake() as queues:
        send_receipt.perform_in(timedelta(minutes=5), 1)
        send_receipt.perform_async(2)

    [job] = queues.scheduled
    assert job.at is not None
    assert (job.args, 300 <= job.at - began < 310) == ([1], True)
    assert [job.args for job in queues["mailers"]] == [[1], [2]]


def test_bulk_pushes_and_clients_of_ones_own_are_collected() -> None:
    with testing.fake() as queues, pyqik.Client(NOWHERE) as client:
        jids = send_receipt.perform_bulk([number] for number in range(3))
        client.push("Ruby::Job", "x", queue="ruby")

    assert [job.jid for job in queues["mailers"]] == jids
    assert [(job.name, job.args) for job in queues["ruby"]] == [("Ruby::Job", ["x"])]


def test_pushes_of_async_code_are_collected() -> None:
    async def application() -> None:
        await send_receipt.aperform_async(1)
        async with pyqik.AsyncClient(NOWHERE) as client:
            await client.push("Ruby::Job", "x", queue="ruby")

    with testing.fake() as queues:
        asyncio.run(application())

    assert [job.name for job in queues.jobs] == ["Queues::Receipt", "Ruby::Job"]


def test_arguments_are_checked_as_in_production() -> None:
    with testing.fake() as queues, pytest.raises(InvalidJob):
        send_receipt.perform_async(object())  # type: ignore[arg-type]

    assert queues.jobs == []


@pytest.mark.parametrize("block", [testing.fake, testing.inline])
def test_outside_of_the_blocks_pushes_are_sent_again(block: Any, sent: list[Batch]) -> None:
    with block():
        send_receipt.perform_async(1)
    send_receipt.perform_async(2)

    assert [list(batch.queues) for batch in sent] == [["mailers"]]


def test_a_block_that_is_left_by_an_error_ends_too(sent: list[Batch]) -> None:
    with pytest.raises(KeyError), testing.fake():
        raise KeyError
    send_receipt.perform_async(2)

    assert len(sent) == 1


def test_an_inner_block_collects_for_itself() -> None:
    with testing.fake() as outer:
        send_receipt.perform_async(1)
        with testing.fake() as inner:
            send_receipt.perform_async(2)
        send_receipt.perform_async(3)

    assert [job.args for job in outer.jobs] == [[1], [3]]
    assert [job.args for job in inner.jobs] == [[2]]


def test_the_pushes_of_other_threads_are_collected_too() -> None:
    with testing.fake() as queues:
        in_a_thread(lambda: send_receipt.perform_async(1))

    assert [job.args for job in queues.jobs] == [[1]]


def test_two_threads_with_blocks_of_their_own_do_not_meet() -> None:
    both = threading.Barrier(2)
    collected: dict[int, list[list[Any]]] = {}

    def test(number: int) -> None:
        with testing.fake() as queues:
            both.wait(10)
            send_receipt.perform_async(number)
            both.wait(10)
        collected[number] = [job.args for job in queues.jobs]

    in_a_thread(lambda: test(1), lambda: test(2))

    assert collected == {1: [[1]], 2: [[2]]}


def test_draining_runs_what_is_there_and_what_that_pushes() -> None:
    with testing.fake() as queues:
        place_order.perform_async(1)
        send_receipt.perform_in(60, 2)
        runs = queues.drain()

    assert done == ["order 1", 2, 1]
    assert [run.completed for run in runs] == [True, True, True]
    assert queues.jobs == []


def test_the_jobs_of_one_class_can_be_drained() -> None:
    with testing.fake() as queues:
        place_order.perform_async(1)
        send_receipt.perform_async(2)
        queues.drain(place_order)

    assert done == ["order 1"]
    assert [job.args for job in queues.jobs] == [[2], [1]]


def test_queues_may_be_drained_after_their_block() -> None:
    with testing.fake() as queues:
        place_order.perform_async(1)

    queues.drain()

    assert done == ["order 1", 1]


def test_draining_ends_at_an_error() -> None:
    with testing.fake() as queues:
        send_receipt.perform_bulk([[1], [-2], [3]])
        with pytest.raises(ValueError, match="no order -2"):
            queues.drain()

    assert done == [1, -2]
    assert [job.args for job in queues.jobs] == [[3]]


def test_cleared_jobs_are_forgotten() -> None:
    with testing.fake() as queues:
        send_receipt.perform_async(1)
        queues.clear()

    assert (queues.jobs, queues.drain()) == ([], [])


def test_a_job_that_only_ruby_has_cannot_be_drained() -> None:
    with testing.fake() as queues, pyqik.Client(NOWHERE) as client:
        client.push("Ruby::Job")
        with pytest.raises(JobNotRegistered):
            queues.drain()


def test_a_job_that_interrupts_itself_is_run_on() -> None:
    with testing.fake() as queues:
        wait_for.perform_async("ready")
        [run] = queues.drain()

    assert (run.completed, done) == (True, ["asked", "asked", "asked", "ready"])


def test_async_jobs_are_drained_in_both_kinds_of_tests() -> None:
    async def test() -> None:
        await queues.adrain()

    with testing.fake() as queues:
        poll.perform_async(1)
        queues.drain()
        poll.perform_async(2)
        asyncio.run(test())

    assert done == ["feed 1", "feed 2"]


def test_an_async_job_cannot_be_drained_within_a_step_of_a_loop() -> None:
    async def test() -> None:
        with pytest.raises(PyqikError, match="adrain"):
            queues.drain()

    with testing.fake() as queues:
        poll.perform_async(1)
        asyncio.run(test())


def test_inline_jobs_run_where_they_are_pushed() -> None:
    with testing.inline() as runs:
        place_order.perform_async(1)
        done.append("pushed")

    assert done == ["order 1", 1, "pushed"]
    assert [run.payload.job_class for run in runs] == ["Queues::Receipt", "Queues::Order"]


def test_inline_scheduled_and_long_jobs_run_at_once() -> None:
    with testing.inline():
        send_receipt.perform_in(3600, 1)
        go_over.perform_async([7, 8])

    assert done == [1, 7, 8]


def test_what_an_inline_job_raises_is_raised_by_the_push() -> None:
    with testing.inline(), pytest.raises(ValueError, match="no order -1"):
        send_receipt.perform_async(-1)


def test_async_jobs_run_inline_in_both_kinds_of_tests() -> None:
    async def test() -> None:
        await poll.aperform_async(2)

    with testing.inline():
        poll.perform_async(1)
        asyncio.run(test())

    assert done == ["feed 1", "feed 2"]


def test_what_is_collected_can_be_printed() -> None:
    with testing.fake() as queues:
        send_receipt.perform_async(1)

    assert "Queues::Receipt" in repr(queues)


def in_a_thread(*calls: Callable[[], Any]) -> None:
    """Make each call in a thread of its own."""
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
