"""A small zoo of jobs for process tests, and the zoo's book: which job began and ended, and in which process.

The jobs run in the children of a real `pyqik work`; the tests read the book and open gates. Both sides meet in the
directory that the environment variable `ZOO` names, so that they need no Redis, which a test may take away.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyqik
from tests.support.wait import wait_until

#: Names the zoo's directory, for the children of `pyqik work`.
ZOO_VARIABLE = "ZOO"
#: Seconds between two looks at a gate.
GLANCE = 0.005


@dataclass(frozen=True)
class Note:
    """A line in the zoo's book: `what` is begun, ended, overlap, or forked."""

    what: str
    jid: str
    pid: int


class Zoo:
    """The directory in which jobs and tests meet."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._book = directory / "book"

    def open_gate(self, name: str) -> None:
        """Let the jobs go on that wait for the gate `name`."""
        (self.directory / f"gate-{name}").touch()

    def is_open(self, name: str) -> bool:
        """Whether the gate `name` has been opened."""
        return (self.directory / f"gate-{name}").exists()

    def write(self, what: str, jid: str) -> None:
        """Add a line to the book; atomic, from any thread and process."""
        with open(self._book, "ab", buffering=0) as book:
            book.write(f"{what} {jid} {os.getpid()}\n".encode())

    def notes(self, what: str) -> list[Note]:
        """The lines of the book that say `what`, in order."""
        if not self._book.exists():
            return []
        lines = [line.split() for line in self._book.read_text("ascii").splitlines()]
        return [Note(said, jid, int(pid)) for said, jid, pid in lines if said == what]

    def wait_for_runs(self, count: int) -> list[Note]:
        """Wait until `count` runs have begun; what the book says of these."""
        wait_until(lambda: len(self.notes("begun")) >= count, 30, f"{count} runs in the zoo's book")
        return self.notes("begun")

    def begun(self) -> list[str]:
        """The jid of every run that has begun, in order."""
        return [note.jid for note in self.notes("begun")]

    def ended(self) -> list[str]:
        """The jid of every run that has come to its end by itself, in order."""
        return [note.jid for note in self.notes("ended")]

    def overlaps(self) -> list[str]:
        """The jid of every run that began while another run of the same job went on, in whatever process."""
        return [note.jid for note in self.notes("overlap")]

    @contextmanager
    def attended(self, jid: str) -> Iterator[None]:
        """Write a run into the book."""
        with open(self.directory / f"run-{jid}", "wb") as lock:
            try:
                # The kernel holds it for as long as the run lives, and not longer than the process.
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.write("overlap", jid)
            self.write("begun", jid)
            yield
            self.write("ended", jid)


def _zoo() -> Zoo:
    return Zoo(Path(os.environ[ZOO_VARIABLE]))


@contextmanager
def _attended() -> Iterator[Zoo]:
    zoo = _zoo()
    with zoo.attended(pyqik.current().jid):
        yield zoo


def _glance() -> None:
    threading.Event().wait(GLANCE)


@pyqik.job("Zoo::Pass")
def pass_by(*args: object) -> None:
    """Ends at once."""
    with _attended():
        pass


@pyqik.job("Zoo::Wait")
def wait(gate: str) -> None:
    """Waits for a gate, and can be interrupted at any time."""
    with _attended() as zoo:
        while not zoo.is_open(gate):
            _glance()


@pyqik.job("Zoo::WaitInLoop")
async def wait_in_loop(gate: str) -> None:
    """Waits for a gate on the event loop."""
    with _attended() as zoo:
        while not zoo.is_open(gate):
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), GLANCE)


@pyqik.job("Zoo::BlockLoop")
async def block_loop(seconds: float) -> None:
    """One long call on the event loop, which then does nothing else."""
    with _attended():
        threading.Event().wait(seconds)


@pyqik.job("Zoo::Block")
def block(seconds: float) -> None:
    """One long call in C without the GIL: what is raised into the thread surfaces only afterwards."""
    with _attended():
        threading.Event().wait(seconds)


@pyqik.job("Zoo::Stubborn")
def be_stubborn(gate: str) -> None:
    """Waits for a gate, and swallows everything that is raised into it."""
    with _attended() as zoo:
        while True:
            try:
                while not zoo.is_open(gate):
                    _glance()
                return
            except BaseException:
                continue


@pyqik.job("Zoo::Spin")
def spin() -> None:
    """Turns round and round in pure Python."""
    with _attended():
        turns = 0
        while True:
            turns += 1


@pyqik.job("Zoo::HoldTheGil")
def hold_the_gil(seconds: int) -> None:
    """One long call in C with the GIL: no other thread of the process runs meanwhile."""
    hold = ctypes.PyDLL(None).sleep
    with _attended():
        hold(seconds)


@pyqik.job("Zoo::Fail")
def fail(message: str) -> None:
    """Raises."""
    with _attended():
        raise ValueError(message)


@pyqik.job("Zoo::FailOddly")
def fail_oddly() -> None:
    """Raises with a text that is no UTF-8, as os.fsdecode makes of the name of an old file."""
    with _attended():
        raise ValueError("caf\udce9.csv")


@pyqik.job("Zoo::FailOddlyInLoop")
async def fail_oddly_in_loop() -> None:
    """The same, as an async job."""
    with _attended():
        raise ValueError("caf\udce9.csv")


@pyqik.job("Zoo::FailAfter")
def fail_after(first_gate: str, other_gate: str) -> None:
    """Waits for a gate, another one if the job has run before, in one call that nothing interrupts; and raises."""
    with _attended() as zoo:
        gate = first_gate if len(zoo.notes("begun")) == 1 else other_gate
        wait_until(lambda: zoo.is_open(gate), 60)
        raise ValueError(f"the gate {gate} is open")


@pyqik.job("Zoo::LeaveProcess")
def leave_process(gate: str) -> None:
    """Forks a process that holds every descriptor, outlives its parent, and ends when the gate opens."""
    with _attended() as zoo:
        pid = os.fork()
        while not zoo.is_open(gate):
            if pid:
                zoo.write("forked", pyqik.current().jid)
                os.waitpid(pid, 0)
            else:
                _glance()
        if not pid:
            os._exit(0)


@pyqik.job("Zoo::LeaveThread")
def leave_thread(gate: str) -> None:
    """Ends, and leaves a thread behind that keeps the interpreter from ending."""
    with _attended() as zoo:

        def linger() -> None:
            while not zoo.is_open(gate):
                _glance()

        threading.Thread(target=linger, name="left-behind", daemon=False).start()
