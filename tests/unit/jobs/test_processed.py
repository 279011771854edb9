"""`pyqik.processed`: which ids are done, whatever interrupts the job."""

from __future__ import annotations

from typing import Any

import pytest

import pyqik
from pyqik import testing
from pyqik.core.errors import InvalidCursor, PyqikError
from tests.unit.jobs.kept import Kept

IDS: list[list[Any]] = [[3, 1, 10**12, -4], ["a", "", "ü", "b c"]]


@pytest.fixture
def effects() -> list[Any]:
    return []


def purge(effects: list[Any], *, durable: bool = False) -> testing.Performable:
    @pyqik.job("Items::Purge")
    def purge(ids: list[Any]) -> None:
        done = pyqik.processed("item_id", durable=durable)
        for item_id in ids:
            pyqik.raise_if_stopping()
            if item_id not in done:
                effects.append(item_id)
                done.add(item_id)

    return purge


@pytest.mark.parametrize("ids", IDS)
def test_each_id_is_done_once_however_the_job_is_stopped(ids: list[Any], effects: list[Any]) -> None:
    run = testing.perform(purge(effects), ids, interrupt_after=2)
    assert run.interrupted
    assert run.processed("item_id") == set(effects)

    run = run.again()

    assert run.completed
    assert effects == ids
    assert run.processed("item_id") == set()
    assert run.state == {}


@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize("durable", [False, True])
def test_wherever_it_is_interrupted_everything_is_done(ids: list[Any], effects: list[Any], durable: bool) -> None:
    stories = 0
    for run in testing.every_interruption(purge(effects, durable=durable), ids, before=effects.clear):
        stories += 1
        assert set(effects) == set(ids), run.story
        if "killed" not in run.story:
            assert effects == ids, run.story
    assert stories > 8


def test_a_durable_id_is_written_before_anything_else_happens(effects: list[Any]) -> None:
    @pyqik.job("Items::Purge")
    def job() -> None:
        pyqik.processed("id", durable=True).add(1)
        raise ConnectionError

    kept = Kept()
    kept.run(lambda: pyqik.processed("id", durable=True).add(1))

    assert kept.state.beside == {f"{'a' * 24}/id": {b"0": b"a\x01\x00"}}


def test_ids_added_in_an_item_that_fails_are_done_all_the_same() -> None:
    @pyqik.job("Items::Purge")
    def job() -> None:
        done = pyqik.processed("id")
        for item in pyqik.each(pyqik.enumerators.array([1, 2])):
            done.add(item)
            pyqik.counters["seen"] += 1
            raise ConnectionError

    run = testing.perform(job)

    assert run.failed
    assert run.processed("id") == {1}
    assert run.counters == {}


def test_kinds_are_apart_and_outlive_runs_that_do_not_ask() -> None:
    @pyqik.job("Kinds")
    def job() -> None:
        with pyqik.step("first"):
            pyqik.processed("a").update([1, 2])
            pyqik.processed("b").add("x")
        with pyqik.step("second"):
            pyqik.raise_if_stopping()
            pyqik.raise_if_stopping()
        assert set(pyqik.processed("a")) == {1, 2}
        assert list(pyqik.processed("b")) == ["x"]

    run = testing.perform(job, interrupt_after=1)
    assert run.interrupted
    run = run.again(interrupt_after=1)

    assert run.processed("a") == {1, 2}
    assert run.again().completed


def test_a_run_does_an_id_that_is_new_before_it_obeys(effects: list[Any]) -> None:
    job = purge(effects)
    run = testing.perform(job, [1, 2, 3], interrupt_after=0)
    assert run.items == 1

    run = run.again(interrupt_after=0)

    assert effects == [1, 2]
    assert (run.items, run.state["items"]) == (1, "2")


def test_clearing_forgets_those_of_earlier_runs_too() -> None:
    @pyqik.job("Clears")
    def job() -> None:
        done = pyqik.processed("id")
        with pyqik.step("fill"):
            done.update(["a", "b"])
        pyqik.raise_if_stopping()
        with pyqik.step("empty"):
            done.clear()
            assert "a" not in done
            done.add("c")
        pyqik.raise_if_stopping()
        assert set(done) == {"c"}
        assert len(done) == 1

    run = testing.perform(job, interrupt_after=1)
    assert run.processed("id") == {"a", "b"}
    run = run.again(interrupt_after=2)
    assert run.processed("id") == {"c"}
    assert run.again().completed


def test_what_an_earlier_job_of_that_jid_has_left_does_not_count() -> None:
    kept = Kept()
    kept.state.beside[f"{'a' * 24}/id"] = {b"old": b"1"}

    def job() -> None:
        done = pyqik.processed("id")
        assert "old" not in done
        done.add("new")
        pyqik.checkpoint(1, flush=True)

    assert kept.run(job) is None
    assert kept.state.beside == {f"{'a' * 24}/id": {b"new": b"1"}}


@pytest.mark.parametrize("item_id", [None, True, 1.5, b"x", (1,), "\ud800"])
def test_what_is_no_id_is_refused(item_id: Any) -> None:
    done: Any = pyqik.processed("id")
    with pytest.raises(TypeError, match="was given"):
        done.add(item_id)
    assert item_id not in done or item_id == 1


@pytest.mark.parametrize(("first", "second"), [(1, "1"), ("1", 1)])
def test_ids_of_one_kind_are_of_one_type(first: Any, second: Any) -> None:
    done: Any = pyqik.processed("id")
    done.add(first)
    with pytest.raises(TypeError, match="its ids are"):
        done.add(second)
    assert second not in done


@pytest.mark.parametrize("kind", ["", "a/b", "a b", "x" * 101, 1])
def test_a_kind_that_cannot_be_is_refused(kind: Any) -> None:
    with pytest.raises(PyqikError, match="write a name"):
        pyqik.processed(kind)


def test_what_somebody_else_has_written_there_is_named() -> None:
    key = f"{'a' * 24}/id"
    kept = Kept(beside=f'{{"{key}":0}}', ex="1", c="null", rt="0")
    kept.state.beside[key] = {b"0": b"rubbish"}

    error = kept.run(lambda: pyqik.processed("id"))

    assert isinstance(error, InvalidCursor)
    assert key in str(error)


def test_outside_of_a_job_it_is_a_set() -> None:
    done = pyqik.processed("id")
    done.update([1, 2, 2])
    assert (len(done), 2 in done, repr(done)) == (2, True, "<2 processed ids of the kind 'id'>")


def test_many_are_written_without_waiting_for_the_next_boundary() -> None:
    kept = Kept()

    def job() -> None:
        done = pyqik.processed("id")
        done.update(range(2500))
        assert len(kept.state.beside[f"{'a' * 24}/id"]) == 1
        for number in range(2500, 3500):
            done.add(number)
        assert len(kept.writes) == 3

    assert kept.run(job) is None


def test_async_jobs_await_it() -> None:
    @pyqik.job("Async::Purge")
    async def job() -> None:
        done: pyqik.Processed[int] = await pyqik.aprocessed("id", durable=True)
        await done.aadd(1)
        await done.aupdate([2, 3])
        raise pyqik.RetryIn(1)

    assert testing.perform(job).processed("id") == {1, 2, 3}


def test_the_form_that_blocks_warns_in_async_code() -> None:
    @pyqik.job("Async::Purge")
    async def job() -> None:
        with pytest.warns(RuntimeWarning, match=r"processed blocks the event loop .* `await aprocessed"):
            pyqik.processed("id")
        pyqik.processed("id").add(1)  # It is there now: nothing blocks.

    testing.perform(job).or_raise()
