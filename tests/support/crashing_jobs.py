"""Jobs that end their process in every way there is, when a test opens a gate. See `tests.support.jobs` for the zoo."""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pyqik
from tests.support.jobs import GLANCE, _attended, _glance, _zoo

WAYS: dict[str, Callable[[], object]] = {
    "segfault": lambda: ctypes.string_at(0),
    "exit": lambda: os._exit(3),
    "success": lambda: os._exit(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "abort": os.abort,
    "thread": lambda: ctypes.CDLL(None).pthread_exit(None),
}


@pyqik.job("Crash::When")
def crash_when(way: str, gate: str) -> None:
    """Ends its process in a way, when a gate opens."""
    with _attended() as zoo:
        while not zoo.is_open(gate):
            _glance()
        WAYS[way]()


@pyqik.job("Crash::EachTime")
def crash_each_time(gate: str) -> None:
    """At its n-th run it waits for the gate `<gate>-<n>`, and crashes then."""
    with _attended() as zoo:
        number = zoo.begun().count(pyqik.current().jid)
        while not zoo.is_open(f"{gate}-{number}"):
            _glance()
        ctypes.string_at(0)


@pyqik.job("Crash::InLoop")
async def crash_in_loop(gate: str, way: str = "segfault") -> None:
    """The same as `Crash::When` on the event loop."""
    with _attended() as zoo:
        while not zoo.is_open(gate):
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), GLANCE)
        WAYS[way]()


@pyqik.job("Fork::Terminate")
def fork_and_terminate() -> None:
    """Starts a process as multiprocessing does on Linux, ends it by SIGTERM, and counts on that."""
    with _attended():
        process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        process.start()
        process.terminate()
        process.join(30)
        assert process.exitcode == -signal.SIGTERM


@pyqik.job("Fork::ComeBack")
def fork_and_come_back(way: str, status: int) -> None:
    """Forks; the forked side comes back out of the job in a way, and should end with a status."""
    with _attended():
        pid = os.fork()
        if pid:
            _, ended = os.waitpid(pid, 0)
            assert os.waitstatus_to_exitcode(ended) == status
        elif way == "raise":
            raise ValueError
        elif way == "exit":
            sys.exit(status)


@pyqik.job("Crash::StopLoop")
async def stop_loop() -> None:
    """Ends the loop that it runs on, and goes on."""
    with _attended():
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.01)


@pyqik.job("Crash::Hang", stuck_after=1.5)
def hang() -> None:
    """Sits in C code for ever."""
    with _attended():
        threading.Event().wait(600)


@pyqik.job("Crash::ExitInTask")
async def exit_in_task() -> None:
    """A task of its own raises SystemExit, which asyncio lets through to whoever runs the loop."""
    with _attended():
        task = asyncio.create_task(_exit())
        with suppress(BaseException):
            await task


async def _exit() -> None:
    sys.exit(7)


@pyqik.job("Crash::Eat")
def eat(megabytes: int) -> None:
    """Needs much memory."""
    with _attended():
        meal = bytearray(megabytes << 20)
        for page in range(0, len(meal), 4096):
            meal[page] = 1


@pyqik.job("Crash::LeaveOrphan")
def leave_orphan() -> None:
    """Starts a process that starts another one, and ends: the second has lost its parent, and ends soon, too."""
    with _attended():
        pid = os.spawnlp(os.P_WAIT, "sh", "sh", "-c", "sleep 0.2 & exit 0")
        assert pid == 0


def note_the_death(payload: pyqik.Payload, error: BaseException) -> None:
    """Writes into the zoo's book that a death handler was called."""
    _zoo().write(f"died-{type(error).__name__}", payload.jid)


pyqik.configure(pyqik.Config(death_handlers=[note_the_death]))
