"""`testing.perform`: a job is pushed and run as in production, in plain tests and in async ones."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

import pyqik
from pyqik import testing
from pyqik.core.errors import PyqikError
from tests.unit.testing.styles import ITEMS, Style, array, async_array, each_style


@each_style
def test_a_job_runs_to_its_end(style: Style, done: list[Any]) -> None:
    run = testing.perform(style(done.append), 6)

    assert run.completed
    assert not any((run.interrupted, run.failed, run.crashed, run.discarded, run.cancelled))
    assert done == ITEMS
    assert (run.items, run.executions, run.place, run.delay) == (6, 1, "gone", None)
    assert (run.state, run.cursor, run.reason, run.error) == ({}, None, None, None)
    assert run.story == "not interrupted"


def test_a_short_job_runs_too(done: list[Any]) -> None:
    @pyqik.job
    def short(item: int) -> None:
        done.append((item, pyqik.current().jid, pyqik.current().stopping()))

    run = testing.perform(short, 7, jid="a" * 24, interrupt_after=1, crash_after=None)

    assert done == [(7, "a" * 24, False)]
    assert (run.completed, run.items, run.executions, run.state) == (True, 0, 0, {})


def test_a_class_has_an_instance_of_its_own_in_each_run(done: list[Any]) -> None:
    class Short(pyqik.Job, queue="low"):
        def perform(self, item: int) -> None:
            done.append((item, self.jid, self.payload.queue))

    run = testing.perform(Short, 7)

    assert done == [(7, run.payload.jid, "low")]


def test_arguments_go_through_json(done: list[Any]) -> None:
    @pyqik.job
    def short(item: dict[str, Any]) -> None:
        done.append(item)

    given = {"ids": [1, 2.5], "none": None}
    testing.perform(short, given)

    assert done == [given]
    assert done[0] is not given


@pytest.mark.parametrize("args", [(date(2027, 1, 1),), ((1, 2),), ({1: 2},), (float("nan"),)], ids=str)
def test_an_argument_that_json_does_not_hold_is_refused_as_by_a_push(args: tuple[Any, ...], done: list[Any]) -> None:
    @pyqik.job
    def short(item: Any) -> None:
        done.append(item)

    with pytest.raises(pyqik.InvalidJob, match="short: args"):
        testing.perform(short, *args)

    assert done == []


def test_wrong_arguments_are_refused_as_by_a_push() -> None:
    with pytest.raises(pyqik.WrongArguments, match="takes 1 argument"):
        testing.perform(array(print), 1, 2)


def test_options_are_those_of_the_job_of_set_and_of_the_configuration() -> None:
    job = array(lambda item: None)
    config = pyqik.Config(default_job_options={"retry": 7, "tags": ["a"]})

    run = testing.perform(job, 0, config=config)
    other = testing.perform(job.set(queue="high", retry=2), 0, config=config)  # type: ignore[union-attr]

    assert (run.payload.queue, run.payload["retry"], run.payload["tags"]) == ("low", 7, ["a"])
    assert (other.payload.queue, other.payload["retry"]) == ("high", 2)


def test_what_is_no_job_is_refused() -> None:
    class Abstract(pyqik.Job, abstract=True):
        pass

    with pytest.raises(PyqikError, match=r"is no job; give a function that @pyqik\.job declares"):
        testing.perform(len, 1)  # type: ignore[arg-type]
    with pytest.raises(pyqik.InvalidJob, match="abstract"):
        testing.perform(Abstract)


def test_the_middleware_of_the_configuration_is_around_the_push_and_the_run(done: list[Any]) -> None:
    def around_push(payload: pyqik.Payload) -> Iterator[None]:
        payload["tenant"] = "acme"
        yield

    def around_run(payload: pyqik.Payload) -> Iterator[None]:
        done.append(payload["tenant"])
        yield
        done.append("left")

    config = pyqik.Config(client_middleware=[around_push], server_middleware=[around_run])

    testing.perform(array(done.append), 1, config=config)
    pyqik.configure(config)
    testing.perform(array(done.append), 1)

    assert done == ["acme", 0, "left"] * 2


def test_a_push_that_is_stopped_leaves_nothing_to_run() -> None:
    def stop(payload: pyqik.Payload) -> Iterator[None]:
        yield from ()

    with pytest.raises(PyqikError, match="client middleware stopped the push of Long"):
        testing.perform(array(print), 1, config=pyqik.Config(client_middleware=[stop]))


def test_an_async_job_runs_on_the_loop_of_an_async_test(done: list[Any]) -> None:
    async def test() -> None:
        job = async_array(lambda item: done.append((item, asyncio.get_running_loop() is loop)))
        loop = asyncio.get_running_loop()
        run = await testing.aperform(job, 3, interrupt_after=1)
        assert (await run.aagain()).completed

    asyncio.run(test())

    assert done == [(0, True), (1, True), (2, True)]


def test_a_plain_job_runs_beside_the_loop_of_an_async_test(done: list[Any]) -> None:
    async def test() -> None:
        run = await testing.aperform(array(lambda item: done.append(threading.current_thread())), 2, interrupt_after=1)
        assert (await run.aagain()).completed

    asyncio.run(test())

    assert len(done) == 2
    assert threading.current_thread() not in done


def test_an_async_job_cannot_run_to_its_end_within_one_step_of_a_loop() -> None:
    async def test() -> None:
        testing.perform(async_array(print), 3)

    with pytest.raises(PyqikError, match=r"Long is an async job.*testing.aperform"):
        asyncio.run(test())


def test_a_time_limit_of_the_test_is_no_failure_of_the_job() -> None:
    @pyqik.job
    async def hangs() -> None:
        await asyncio.Event().wait()

    async def test() -> None:
        async with asyncio.timeout(0.01):
            await testing.aperform(hangs)

    with pytest.raises(TimeoutError):
        asyncio.run(test())


def test_a_job_that_is_cancelled_by_its_own_doing_has_failed() -> None:
    @pyqik.job
    async def cancels() -> None:
        raise asyncio.CancelledError

    run = testing.perform(cancels)

    assert (run.failed, run.place) == (True, "retry")
