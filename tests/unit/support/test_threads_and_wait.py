"""The tests' own watchmen: leaked threads are found, and waiting in vain says what was seen last."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.support.threads import leaked_threads
from tests.support.wait import wait_until


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Opened after the test, so that the threads that wait for it end."""
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.mark.parametrize(
    ("name", "daemon", "leaks"),
    [("any", False, True), ("any", True, False), ("pyqik-fetcher", True, True), ("pyqik-fetcher", False, True)],
)
def test_a_leaked_thread_is_one_that_blocks_the_exit_or_is_pyqiks(
    gate: threading.Event, name: str, daemon: bool, leaks: bool
) -> None:
    before = set(threading.enumerate())
    thread = threading.Thread(target=gate.wait, name=name, daemon=daemon)
    thread.start()

    found = leaked_threads(before)

    assert found == ([thread] if leaks else [])


def test_waiting_gives_back_what_it_waited_for() -> None:
    values = iter([0, None, "there"])

    assert wait_until(lambda: next(values)) == "there"


def test_waiting_in_vain_says_what_was_seen_last() -> None:
    with pytest.raises(AssertionError, match=r"in vain: three jobs; the last value was \[\]"):
        wait_until(list, timeout=0.02, message="three jobs")
