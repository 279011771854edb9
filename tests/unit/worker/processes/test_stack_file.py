"""Stacks of another process, without its help."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from pyqik.worker.processes.stack_file import StackFile
from tests.support.wait import wait_until

HOLD_THE_GIL = """
import ctypes, sys, threading
from pyqik.worker.processes.stack_file import write_stacks_to
write_stacks_to(int(sys.argv[1]))
def hold():
    print("ready", flush=True)
    ctypes.PyDLL(None).sleep(60)
threading.Thread(target=hold).start()
"""
CRASH = """
import ctypes, sys
from pyqik.worker.processes.stack_file import write_stacks_to
write_stacks_to(int(sys.argv[1]))
def fall(): ctypes.string_at(0)
fall()
"""
INNOCENT = """
import sys
print("ready", flush=True)
sys.stdin.read()
"""

Start = Callable[[str], "subprocess.Popen[bytes]"]


@pytest.fixture
def stacks() -> Iterator[StackFile]:
    stacks = StackFile()
    yield stacks
    stacks.close()


@pytest.fixture
def start(stacks: StackFile) -> Iterator[Start]:
    """Starts a process with the stack file, and ends it after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(program: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(stacks.fileno())],
            pass_fds=[stacks.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_stacks_of_a_process_that_holds_the_gil_are_had(stacks: StackFile, start: Start) -> None:
    process = start(HOLD_THE_GIL)
    assert process.stdout is not None
    process.stdout.readline()

    asked = stacks.ask(process.pid)

    assert asked
    wait_until(lambda: "in hold" in stacks.read())


def test_each_asking_brings_only_the_newest_stacks(stacks: StackFile, start: Start) -> None:
    process = start(HOLD_THE_GIL)
    assert process.stdout is not None
    process.stdout.readline()
    stacks.ask(process.pid)
    first = wait_until(lambda: "in hold" in stacks.read() and stacks.read())

    stacks.ask(process.pid)

    second = wait_until(lambda: "in hold" in stacks.read() and stacks.read())
    assert abs(len(second) - len(first)) < 200
    assert "\0" not in second


def test_a_process_that_crashes_leaves_its_stacks(stacks: StackFile, start: Start) -> None:
    process = start(CRASH)

    assert process.wait(30) == -signal.SIGSEGV
    assert "in fall" in stacks.read()


def test_a_process_that_is_not_ready_to_be_asked_is_left_alone(stacks: StackFile, start: Start) -> None:
    process = start(INNOCENT)
    assert process.stdout is not None
    process.stdout.readline()

    asked = stacks.ask(process.pid)

    assert (asked, stacks.read(), process.poll()) == (False, "", None)


def test_a_process_that_is_gone_is_not_asked(stacks: StackFile, start: Start) -> None:
    process = start(CRASH)
    process.wait(30)

    assert not stacks.ask(process.pid)


def test_what_was_read_can_be_forgotten(stacks: StackFile) -> None:
    os.write(stacks.fileno(), b"something")

    stacks.clear()

    assert stacks.read() == ""
