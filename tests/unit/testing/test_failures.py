"""What becomes of a job that raises, and what it leaves behind."""

from __future__ import annotations

import weakref
from typing import Any

import pytest

import pyqik
from pyqik import testing
from pyqik.core.errors import PyqikError
from tests.unit.testing.styles import ITEMS, Style, array, async_array, each_style


@each_style
def test_a_failed_job_is_retried_from_the_item_that_failed(style: Style, done: list[Any]) -> None:
    failing = [4]

    def do(item: int) -> None:
        if item in failing:
            raise ValueError(failing.pop())
        done.append(item)

    run = testing.perform(style(do), 6)

    assert run.failed
    assert isinstance(run.error, ValueError)
    assert (run.place, run.cursor, run.payload["retry_count"], run.payload["error_class"]) == (
        *("retry", 4, 0),
        "ValueError",
    )
    assert run.delay is not None
    assert 15 <= run.delay < 25
    with pytest.raises(ValueError, match="4"):
        run.or_raise()

    run = run.again()

    assert run.or_raise() is run
    assert (run.completed, done) == (True, ITEMS)
    assert run.story == "failed with ValueError"
    assert "enqueued_at" in run.payload


def test_a_job_dies_when_its_retries_are_used_up(done: list[Any]) -> None:
    class Fails(pyqik.Job, retry=1):
        def perform(self) -> None:
            raise ValueError

        def retry_in(self, count: int, error: Exception) -> float:
            done.append(("retry_in", count))
            return 100.0

        def retries_exhausted(self, error: Exception) -> None:
            done.append("exhausted")

    config = pyqik.Config(
        error_handlers=[lambda error, payload: done.append(type(error))],
        death_handlers=[lambda payload, error: done.append("dead")],
    )

    run = testing.perform(Fails, config=config)
    assert run.delay is not None
    assert 100 <= run.delay < 110
    run = run.again()

    assert (run.failed, run.place, run.delay, run.payload["retry_count"]) == (True, "dead", None, 1)
    assert done == [("retry_in", 0), ValueError, "exhausted", "dead", ValueError]

    # As the Web UI's button retries it.
    assert run.again().payload["retry_count"] == 1


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (pyqik.Discard("closed"), ("discarded", "gone", None)),
        (pyqik.Kill("a person"), ("failed", "dead", None)),
        (pyqik.RetryIn(30), ("failed", "retry", 30.0)),
        (SystemExit(1), ("failed", "retry", ...)),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_a_job_raises_says_how_it_ends(error: BaseException, ending: tuple[Any, ...]) -> None:
    @pyqik.job
    def raises() -> None:
        raise error

    run = testing.perform(raises)

    how, place, delay = ending
    assert (getattr(run, how), run.place, run.error) == (True, place, error)
    assert delay in (run.delay, ...)


def test_a_job_without_retries_is_gone(done: list[Any]) -> None:
    run = testing.perform(array(lambda item: [][item]).set(retry=False), 1)  # type: ignore[union-attr]

    assert (run.failed, run.place, run.state) == (True, "gone", {})
    with pytest.raises(PyqikError, match="dropped, as it is not retried: there is nothing left to run"):
        run.again()


@pytest.mark.parametrize("verb", ["again", "cancel"])
def test_a_job_that_is_done_cannot_go_on(verb: str) -> None:
    run = testing.perform(array(lambda item: None), 1)

    with pytest.raises(PyqikError, match=r"Long was completed.*call pyqik.testing.perform for a new job"):
        getattr(run, verb)()


@pytest.mark.parametrize("style", [array, async_array])
def test_a_failed_job_lets_go_of_what_it_had_in_its_hands(style: Style) -> None:
    """A file that it has open is closed, as a worker would close it; the error is kept all the same."""
    held: list[weakref.ref[Any]] = []

    def do(item: int) -> None:
        in_hand = {item}
        held.append(weakref.ref(in_hand))
        try:
            raise KeyError(item)
        except KeyError as error:
            raise ValueError from error

    run = testing.perform(style(do), 1)

    assert isinstance(run.error, ValueError)
    assert [reference() for reference in held] == [None]


@pytest.mark.parametrize("style", [array, async_array])
def test_what_ends_the_test_is_no_failure_of_the_job(style: Style) -> None:
    def interrupt(item: int) -> None:
        raise KeyboardInterrupt

    def fail(item: int) -> None:
        pytest.fail("the double was called twice")

    with pytest.raises(KeyboardInterrupt):
        testing.perform(style(interrupt), 1)
    with pytest.raises(pytest.fail.Exception):
        testing.perform(style(fail), 1)
