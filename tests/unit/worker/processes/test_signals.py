"""What signals mean, and that they arrive as bytes in a pipe."""

from __future__ import annotations

import select
import signal
from collections.abc import Iterator

import pytest

from pyqik.worker.engine.wakeup import Wakeup
from pyqik.worker.processes.signals import MEANINGS, SignalInbox


@pytest.fixture
def inbox() -> Iterator[SignalInbox]:
    inbox = SignalInbox(signal.SIGUSR1)
    yield inbox
    inbox.close()


def test_the_signals_mean_what_they_mean_to_sidekiq() -> None:
    assert MEANINGS == {"TSTP": "quiet", "TERM": "stop", "INT": "stop", "TTIN": "dump"}


@pytest.mark.parametrize("name", ["TSTP", "TERM", "INT", "TTIN", "USR1"])
def test_a_signal_is_received_by_name(inbox: SignalInbox, name: str) -> None:
    signal.raise_signal(signal.Signals[f"SIG{name}"])

    ready, _, _ = select.select([inbox], [], [], 5)
    assert ready
    assert inbox.receive() == [name]


def test_signals_are_received_in_order(inbox: SignalInbox) -> None:
    for number in (signal.SIGTSTP, signal.SIGTERM, signal.SIGTERM):
        signal.raise_signal(number)

    assert inbox.receive() == ["TSTP", "TERM", "TERM"]


def test_a_wake_is_no_signal(inbox: SignalInbox) -> None:
    inbox.wake()

    ready, _, _ = select.select([inbox], [], [], 5)
    assert ready
    assert inbox.receive() == []


def test_closing_puts_the_old_handlers_back() -> None:
    before = {name: signal.getsignal(signal.Signals[f"SIG{name}"]) for name in MEANINGS}
    wakeup_fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup_fd)

    SignalInbox().close()

    assert {name: signal.getsignal(signal.Signals[f"SIG{name}"]) for name in MEANINGS} == before
    assert signal.set_wakeup_fd(wakeup_fd) == wakeup_fd


def test_a_full_pipe_loses_no_wake_and_raises_nothing() -> None:
    wakeup = Wakeup()

    for _ in range(100_000):
        wakeup.wake()

    assert wakeup.drain()
    wakeup.close()


def test_a_wake_after_the_close_writes_into_no_other_file() -> None:
    wakeup = Wakeup()
    wakeup.close()
    # The system gives the lowest free numbers: these pipes get those that the closed one had.
    others = [Wakeup() for _ in range(3)]

    wakeup.wake()

    assert [other.drain() for other in others] == [b""] * 3
    for other in others:
        other.close()
