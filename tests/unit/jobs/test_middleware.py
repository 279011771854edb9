"""Generators with one yield, folded around a block."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from pyqik.core.errors import PyqikError, Shutdown
from pyqik.jobs.middleware import ServerMiddleware, around
from pyqik.wire.payload import Payload

PAYLOAD = Payload({"class": "Foo", "args": [1]})


class Recorder:
    """Makes middleware that notes what happens to it."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def named(self, name: str) -> ServerMiddleware:
        def middleware(payload: Payload) -> Iterator[None]:
            self.seen.append(f"{name} in")
            try:
                yield
            except BaseException as error:
                self.seen.append(f"{name} {type(error).__name__}")
                raise
            self.seen.append(f"{name} out")

        return middleware


def stopping(payload: Payload) -> Iterator[None]:
    if payload.args == ["never"]:
        yield


def swallowing(payload: Payload) -> Iterator[None]:
    try:
        yield
    except Exception:
        pass


def replacing(payload: Payload) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise LookupError("replaced") from error


def failing(payload: Payload) -> Iterator[None]:
    if payload.args != ["never"]:
        raise LookupError("before the yield")
    yield


def yielding_twice(payload: Payload) -> Iterator[None]:
    yield
    yield


def fail() -> None:
    raise ValueError


@pytest.fixture
def recorder() -> Recorder:
    """What the test's middleware noted."""
    return Recorder()


def test_the_first_one_is_the_outermost(recorder: Recorder) -> None:
    with around([recorder.named("outer"), recorder.named("inner")], PAYLOAD) as proceed:
        recorder.seen.append(f"block {proceed}")

    assert recorder.seen == ["outer in", "inner in", "block True", "inner out", "outer out"]


def test_none_at_all_lets_the_block_run() -> None:
    with around([], PAYLOAD) as proceed:
        assert proceed


def test_each_sees_the_payload() -> None:
    seen: list[Payload] = []

    def middleware(payload: Payload) -> Iterator[None]:
        seen.append(payload)
        yield

    with around([middleware], PAYLOAD):
        pass

    assert seen == [PAYLOAD]


def test_one_that_does_not_yield_stops_the_block_and_ends_the_outer_ones(recorder: Recorder) -> None:
    with around([recorder.named("outer"), stopping, recorder.named("inner")], PAYLOAD) as proceed:
        recorder.seen.append(f"block {proceed}")

    assert recorder.seen == ["outer in", "block False", "outer out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, Shutdown, asyncio.CancelledError, SystemExit])
def test_what_the_block_raises_reaches_each_of_them_and_then_the_caller(
    recorder: Recorder, error: type[BaseException]
) -> None:
    raised = error("from the block")

    with pytest.raises(error) as caught, around([recorder.named("outer"), recorder.named("inner")], PAYLOAD):
        raise raised

    assert caught.value is raised
    assert recorder.seen == [
        "outer in",
        "inner in",
        f"inner {error.__name__}",
        f"outer {error.__name__}",
    ]


def test_one_may_swallow_what_the_block_raised(recorder: Recorder) -> None:
    with around([recorder.named("outer"), swallowing, recorder.named("inner")], PAYLOAD):
        fail()

    assert recorder.seen == ["outer in", "inner in", "inner ValueError", "outer out"]


def test_swallowing_exceptions_does_not_swallow_an_interruption() -> None:
    with pytest.raises(Shutdown), around([swallowing], PAYLOAD):
        raise Shutdown


def test_one_may_raise_something_else_in_its_place(recorder: Recorder) -> None:
    original = ValueError("original")

    with pytest.raises(LookupError) as caught, around([recorder.named("outer"), replacing], PAYLOAD):
        raise original

    assert caught.value.__cause__ is original
    assert caught.value.__context__ is original
    assert recorder.seen == ["outer in", "outer LookupError"]


def test_one_that_fails_before_its_yield_ends_the_outer_ones(recorder: Recorder) -> None:
    with pytest.raises(LookupError, match="before the yield"), around([recorder.named("outer"), failing], PAYLOAD):
        recorder.seen.append("block")

    assert recorder.seen == ["outer in", "outer LookupError"]


def test_an_outer_one_may_swallow_what_an_inner_one_raised_before_its_yield(recorder: Recorder) -> None:
    with around([recorder.named("outer"), swallowing, failing], PAYLOAD) as proceed:
        recorder.seen.append(f"block {proceed}")

    assert recorder.seen == ["outer in", "outer out", "block False"]


def test_one_that_yields_twice_is_named() -> None:
    with pytest.raises(PyqikError, match="yielding_twice yielded twice"), around([yielding_twice], PAYLOAD):
        pass


def test_one_that_is_no_generator_is_named() -> None:
    def plain(payload: Payload) -> Any:
        return None

    with pytest.raises(PyqikError, match=r"plain returned NoneType; write it as a generator"), around([plain], PAYLOAD):
        pass


def test_a_stop_iteration_of_the_block_is_an_error_like_any_other(recorder: Recorder) -> None:
    raised = StopIteration("from the block")

    with pytest.raises(StopIteration) as caught, around([recorder.named("outer")], PAYLOAD):
        raise raised

    assert caught.value is raised
    assert recorder.seen == ["outer in", "outer StopIteration"]


def test_it_goes_around_awaiting_code(recorder: Recorder) -> None:
    async def block() -> None:
        recorder.seen.append("block")

    async def run() -> None:
        with around([recorder.named("outer")], PAYLOAD):
            await asyncio.wait([asyncio.ensure_future(block())])

    asyncio.run(run())

    assert recorder.seen == ["outer in", "block", "outer out"]
