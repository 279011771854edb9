"""Calling error handlers and death handlers: in order, one's error harming no other, interruptions passing through."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from structlog.testing import capture_logs

import pyqik
from pyqik.worker.engine.handlers import WAITING_LIMIT, Handlers
from tests.support.wait import wait_until

PAYLOAD = pyqik.Payload({"class": "Foo", "jid": "a" * 24, "args": []})
ERROR = ValueError("no")


def broken(*args: Any) -> None:
    raise LookupError("the handler's own")


def quitting(*args: Any) -> None:
    raise SystemExit(1)


def test_error_handlers_are_called_in_order_with_error_and_payload() -> None:
    calls: list[Any] = []
    handlers = Handlers([lambda *args: calls.append((1, *args)), lambda *args: calls.append((2, *args))])

    handlers.failed(ERROR, PAYLOAD)

    assert calls == [(1, ERROR, PAYLOAD), (2, ERROR, PAYLOAD)]


def test_death_handlers_are_called_in_order_with_payload_and_error() -> None:
    calls: list[Any] = []
    handlers = Handlers((), [lambda *args: calls.append((1, *args)), lambda *args: calls.append((2, *args))])

    handlers.died(PAYLOAD, ERROR)

    assert calls == [(1, PAYLOAD, ERROR), (2, PAYLOAD, ERROR)]


@pytest.mark.parametrize("bad", [broken, quitting])
def test_an_error_in_a_handler_is_logged_and_the_next_one_runs(bad: Any) -> None:
    calls: list[str] = []
    handlers = Handlers([bad, lambda *args: calls.append("failed")], [bad, lambda *args: calls.append("died")])

    with capture_logs() as lines:
        handlers.failed(ERROR, PAYLOAD)
        handlers.died(PAYLOAD, ERROR)

    assert calls == ["failed", "died"]
    assert [(line["event"], line["handler"]) for line in lines] == [
        ("an error handler raised", bad.__name__),
        ("a death handler raised", bad.__name__),
    ]


def test_an_interruption_passes_through_a_handler() -> None:
    def interrupted(*args: Any) -> None:
        raise pyqik.Shutdown

    handlers = Handlers([interrupted], [interrupted])

    with pytest.raises(pyqik.Shutdown):
        handlers.failed(ERROR, PAYLOAD)
    with pytest.raises(pyqik.Shutdown):
        handlers.died(PAYLOAD, ERROR)


def test_what_is_no_payload_is_told_in_another_thread() -> None:
    calls: list[Any] = []
    handlers = Handlers([lambda error, payload: calls.append((error, payload, threading.current_thread()))])
    error = pyqik.InvalidPayload("no JSON")

    handlers.invalid(error)

    wait_until(lambda: calls)
    told, payload, thread = calls[0]
    assert (told, payload) == (error, None)
    assert thread is not threading.current_thread()


def test_a_slow_handler_holds_up_nobody_and_only_the_newest_wait_for_it() -> None:
    gate = threading.Event()
    calls: list[int] = []
    handlers = Handlers()
    handlers.aside(lambda: calls.append(-1) if gate.wait(10) else None)
    wait_until(lambda: not handlers._waiting, message="the first is being called")

    for number in range(WAITING_LIMIT + 50):
        handlers.aside(lambda number=number: calls.append(number))  # type: ignore[misc]  # a default, not a parameter
    gate.set()

    wait_until(lambda: len(calls) == WAITING_LIMIT + 1)
    assert calls == [-1, *range(50, WAITING_LIMIT + 50)]


def test_a_call_aside_that_raises_harms_none_after_it() -> None:
    calls: list[int] = []
    handlers = Handlers()

    def interrupted() -> None:
        raise pyqik.Shutdown

    with capture_logs() as lines:
        handlers.aside(interrupted)
        handlers.aside(lambda: calls.append(1))
        wait_until(lambda: calls)

    assert [line["log_level"] for line in lines] == ["error"]


def test_without_error_handlers_no_thread_is_started() -> None:
    before = threading.active_count()

    Handlers().invalid(pyqik.InvalidPayload("no JSON"))

    assert threading.active_count() == before
