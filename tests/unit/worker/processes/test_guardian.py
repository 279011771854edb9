"""The guardian's parts: whom it takes for alive, whom it kills, and what it hears."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pyqik.worker.processes import guardian

HEARD = "settings {}\nchild 5 100 host:5:a\nchild 6 101 host:6:b b\ngone 5\n"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits for the end of its input."""
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def said(text: str) -> int:
    """A descriptor on which `text` is to be read, and then the end."""
    reading, writing = os.pipe()
    os.write(writing, text.encode())
    os.close(writing)
    return reading


def test_it_knows_the_children_that_are_left(request: pytest.FixtureRequest) -> None:
    reading = said(HEARD + 'settings {"redis": "x y"}\n')
    request.addfinalizer(lambda: os.close(reading))

    assert guardian.listen(reading) == ('{"redis": "x y"}', [(6, "101", "host:6:b b")])


def test_it_hears_that_everything_is_in_order(request: pytest.FixtureRequest) -> None:
    reading = said(HEARD + "end\n")
    request.addfinalizer(lambda: os.close(reading))

    assert guardian.listen(reading) is None


def test_a_process_that_runs_is_alive_and_one_that_nobody_has_waited_for_is_not(
    sleeper: subprocess.Popen[bytes],
) -> None:
    child = (sleeper.pid, guardian.birth(sleeper.pid), "host:1:a")
    alive = guardian.is_alive(child)

    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)

    assert alive
    assert not guardian.is_alive(child)


def test_another_process_that_has_got_the_same_id_is_neither_taken_for_the_child_nor_killed(
    sleeper: subprocess.Popen[bytes],
) -> None:
    child = (sleeper.pid, "12345", "host:1:a")

    guardian.kill(child)

    assert not guardian.is_alive(child)
    assert guardian.birth(sleeper.pid)
    assert sleeper.poll() is None


@pytest.mark.parametrize("handles", [True, False], ids=["pidfd", "without pidfd"])
def test_it_kills(sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, handles: bool) -> None:
    if not handles:
        monkeypatch.delattr(os, "pidfd_open")

    guardian.kill((sleeper.pid, guardian.birth(sleeper.pid), "host:1:a"))

    assert sleeper.wait(10) == -signal.SIGKILL


def test_a_process_that_has_ended_can_be_killed_once_more(sleeper: subprocess.Popen[bytes]) -> None:
    child = (sleeper.pid, guardian.birth(sleeper.pid), "host:1:a")
    sleeper.kill()
    sleeper.wait()

    guardian.kill(child)

    assert guardian.birth(sleeper.pid) == ""
