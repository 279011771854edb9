"""`IterableJob`: the order of its callbacks, its accessors, its ends, in plain and async classes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

import pyqik
from pyqik import enumerators
from pyqik.core.errors import ContinueIn, Interrupted, InvalidCursor, InvalidJob
from pyqik.jobs.registry import registry
from tests.unit.jobs.kept import PAYLOAD, Kept

ITEMS = ["a", "b", "c"]


class Told(pyqik.IterableJob, abstract=True):
    """Writes down what is called; `raises` says where it raises what, once."""

    calls: list[str]
    raises: dict[str, BaseException]

    def note(self, call: str) -> None:
        self.calls.append(call)
        if (error := self.raises.pop(call, None)) is not None:
            raise error

    def on_start(self) -> None:
        self.note("on_start")

    def on_resume(self) -> None:
        self.note("on_resume")

    def on_stop(self) -> None:
        self.note("on_stop")

    def on_cancel(self) -> None:
        self.note("on_cancel")

    def on_complete(self) -> None:
        self.note("on_complete")


def declare(asynchronous: bool) -> type[Told]:
    class Plain(Told, name="Plain"):
        def build_enumerator(self, *args: Any, cursor: int | None) -> Any:
            return enumerators.array(ITEMS)

        def each_iteration(self, item: str, *args: Any) -> None:
            self.note(item)

        def around_iteration(self) -> Iterator[None]:
            self.calls.append("(")
            yield
            self.calls.append(")")

    class Async(Told, name="Async"):
        async def build_enumerator(self, *args: Any, cursor: int | None) -> Any:
            return enumerators.array(ITEMS)

        async def each_iteration(self, item: str, *args: Any) -> None:
            self.note(item)

        async def around_iteration(self) -> AsyncIterator[None]:
            self.calls.append("(")
            yield
            self.calls.append(")")

        async def on_stop(self) -> None:
            self.note("on_stop")

        async def on_cancel(self) -> None:
            self.note("on_cancel")

    return Async if asynchronous else Plain


class Runs:
    """A job of one kind, run again and again over its state."""

    def __init__(self, asynchronous: bool) -> None:
        self.asynchronous = asynchronous
        self.job = declare(asynchronous)
        self.kept = Kept()
        self.calls: list[str] = []
        self.last: Any = None

    def __call__(self, stop_after: int | None = None, **raises: BaseException) -> BaseException | None:
        """Run it once; what ended it."""
        self.calls.clear()
        instance = self.last = self.job.definition.create(PAYLOAD)
        instance.calls, instance.raises = self.calls, dict(raises)
        run = self.kept.run_async if self.asynchronous else self.kept.run
        return run(lambda: instance.perform(7, "x"), stop_after=stop_after)

    @property
    def said(self) -> str:
        """The calls, the parentheses of `around_iteration` close to what they are around."""
        return " ".join(self.calls).replace("( ", "(").replace(" )", ")")


@pytest.fixture(params=[False, True], ids=["plain", "async"])
def run(request: pytest.FixtureRequest) -> Iterator[Runs]:
    with registry.restored():
        yield Runs(request.param)


def test_a_run_to_the_end(run: Runs) -> None:
    assert run() is None
    assert run.said == "on_start (a) (b) (c) on_stop on_complete"


def test_an_interrupted_run_and_the_next(run: Runs) -> None:
    assert isinstance(run(stop_after=2), Interrupted)
    assert run.said == "on_start (a) (b) on_stop"
    assert run.kept.texts["c"] == "2"

    assert run() is None
    assert run.said == "on_resume (c) on_stop on_complete"


def test_an_item_that_fails(run: Runs) -> None:
    assert isinstance(run(b=ValueError()), ValueError)
    assert run.said == "on_start (a) (b"
    assert run.kept.texts["c"] == "1"

    assert run() is None
    assert run.said == "on_resume (b) (c) on_stop on_complete"


def test_an_on_start_that_fails_is_called_again(run: Runs) -> None:
    assert isinstance(run(on_start=ValueError()), ValueError)
    assert run.kept.writes == []

    run()
    assert run.said == "on_start (a) (b) (c) on_stop on_complete"


@pytest.mark.parametrize("callback", ["on_stop", "on_complete"])
def test_after_the_last_item_a_callback_that_fails_costs_no_item(run: Runs, callback: str) -> None:
    assert isinstance(run(**{callback: ValueError()}), ValueError)

    assert run() is None
    assert run.said == "on_resume on_stop on_complete"


def test_an_on_stop_that_fails_in_an_interrupted_run_is_logged(run: Runs) -> None:
    with capture_logs() as lines:
        assert isinstance(run(stop_after=1, on_stop=ValueError()), Interrupted)

    assert [line["event"] for line in lines] == [
        "on_stop raised in an interrupted run; the job goes on later all the same"
    ]


@pytest.mark.parametrize(("first", "lines"), [(0, 0), (1, 1)], ids=["at the cursor", "after it"])
def test_a_generator_that_leaves_out_the_item_at_its_cursor_is_warned_of(run: Runs, first: int, lines: int) -> None:
    def after(self: Any, *args: Any, cursor: int | None) -> Iterator[tuple[str, int]]:
        begin = 0 if cursor is None else cursor + first
        return zip(ITEMS[begin:], range(begin, 3), strict=True)

    async def after_async(self: Any, *args: Any, cursor: int | None) -> Iterator[tuple[str, int]]:
        return after(self, *args, cursor=cursor)

    run.job.build_enumerator = after_async if run.asynchronous else after  # type: ignore[method-assign]
    run(stop_after=1)

    with capture_logs() as logged:
        assert run() is None

    assert [line["event"].split(":")[0] for line in logged] == [
        "resumed, a generator did not begin at the cursor that was saved"
    ] * lines


def test_a_cancelled_job(run: Runs) -> None:
    run(stop_after=1)
    run.kept.hash[b"cancelled"] = b"1795320000"

    assert run() is None
    assert run.said == "on_resume on_cancel on_stop on_complete"
    assert run.last.cancelled


def test_complete_ends_the_iteration(run: Runs) -> None:
    assert run(b=pyqik.Complete()) is None
    assert run.said == "on_start (a) (b on_stop on_complete"


def test_continue_in_interrupts_it(run: Runs) -> None:
    ended = run(b=ContinueIn(30))

    assert isinstance(ended, ContinueIn)
    assert run.said == "on_start (a) (b on_stop"
    assert run.kept.texts["c"] == "1"


def test_the_accessors(run: Runs) -> None:
    seen: list[Any] = []
    note = Told.note

    def look(self: Told, call: str) -> None:
        seen.append((call, self.current_object, self.cursor, self.arguments, self.executions, self.cancelled))
        note(self, call)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Told, "note", look)
        run(stop_after=1)

    assert seen == [
        ("on_start", None, None, (7, "x"), 1, False),
        ("a", "a", 0, (7, "x"), 1, False),
        ("on_stop", "a", 1, (7, "x"), 1, False),
    ]


def test_no_enumerator_means_nothing_to_do(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run.job, "build_enumerator", lambda self, *args, cursor: None)

    assert run() is None
    assert run.said == ""


@pytest.mark.parametrize("wrong", [[1, 2], 7, "text"], ids=str)
def test_what_is_no_enumerator_is_refused(run: Runs, monkeypatch: pytest.MonkeyPatch, wrong: Any) -> None:
    monkeypatch.setattr(run.job, "build_enumerator", lambda self, *args, cursor: wrong)
    ended = run()

    assert isinstance(ended, InvalidJob)
    assert type(wrong).__name__ in str(ended)
    assert run.said == ""


def test_a_generator_gets_the_cursor(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        run.job,
        "build_enumerator",
        lambda self, *args, cursor: ((ITEMS[index], index) for index in range(cursor or 0, 3)),
    )
    run(stop_after=1)
    run()

    assert run.said == "on_resume (b) (c) on_stop on_complete"


def test_a_cursor_of_another_version(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    run(stop_after=1)
    monkeypatch.setattr(run.job, "cursor_version", 3)

    assert isinstance(run(), InvalidCursor)
    assert run.said == ""

    monkeypatch.setattr(run.job, "migrate_cursor", lambda self, cursor, version: cursor + 1)
    assert run() is None
    assert run.said == "on_resume (c) on_stop on_complete"


def test_outside_of_a_worker_it_runs_to_its_end() -> None:
    with registry.restored():
        job = declare(False)()
        job.calls, job.raises = [], {}
        job.perform(1)

    assert job.calls[-1] == "on_complete"


# What cannot be declared.


def test_what_is_missing_is_named() -> None:
    with pytest.raises(InvalidJob, match="has no `build_enumerator`"):
        type("Empty", (pyqik.IterableJob,), {})
    with pytest.raises(InvalidJob, match="has no `each_iteration`"):
        type("Half", (pyqik.IterableJob,), {"build_enumerator": lambda self, *, cursor: None})


def test_perform_is_the_engines() -> None:
    methods = {
        "build_enumerator": lambda self, *, cursor: None,
        "each_iteration": lambda self, item: None,
        "perform": lambda self: None,
    }
    with pytest.raises(InvalidJob, match="has a `perform`"):
        type("Own", (pyqik.IterableJob,), methods)


def test_build_enumerator_takes_a_cursor() -> None:
    methods = {"build_enumerator": lambda self: None, "each_iteration": lambda self, item: None}
    with pytest.raises(InvalidJob, match="takes no cursor"):
        type("NoCursor", (pyqik.IterableJob,), methods)


def test_a_plain_job_has_plain_callbacks() -> None:
    async def on_start(self: Any) -> None: ...

    methods = {
        "build_enumerator": lambda self, *, cursor: None,
        "each_iteration": lambda self, item: None,
        "on_start": on_start,
    }
    with pytest.raises(InvalidJob, match="on_start is awaited"):
        type("Mixed", (pyqik.IterableJob,), methods)


def test_the_arguments_are_those_of_build_enumerator() -> None:
    with registry.restored():

        class Takes(pyqik.IterableJob):
            def build_enumerator(self, ids: list[int], on: str = "", *, cursor: int | None) -> Any:
                return None

            def each_iteration(self, item: int, ids: list[int], on: str = "") -> None: ...

        Takes.definition.check_arguments([[1]])
        with pytest.raises(pyqik.WrongArguments, match="takes 1 to 2 arguments"):
            Takes.definition.check_arguments([])
