"""A real `pyqik work` for tests: started, signalled, killed, and read through its log. It leaves no process behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.wait import wait_until

ROOT = Path(__file__).parents[2]
#: A line of the log: `event`, `level`, `pid` and the event's own fields.
Line = dict[str, Any]


class WorkProcess:
    """`python -m pyqik work`, with its log (JSON) in a file below `directory`. `close` it.

    `through` is a command that runs it, such as `["nice"]`. With `own_process_ids` that command gives it a namespace of
    its own: the log's process ids then mean nothing here, and above all they must not be signalled.
    """

    def __init__(
        self,
        *options: str,
        directory: Path,
        environment: Mapping[str, str],
        cwd: Path = ROOT,
        through: Sequence[str] = (),
        own_process_ids: bool = False,
    ) -> None:
        self._own_process_ids = own_process_ids
        number = len(list(directory.glob("log-*")))
        self.log_file = directory / f"log-{number}"
        self._read = 0
        self._lines: list[Line] = []
        #: What stands in the log and is not a line of pyqik's own: tracebacks, warnings.
        self.other_output: list[str] = []
        with self.log_file.open("ab") as log:
            self._popen = subprocess.Popen(
                [*through, sys.executable, "-m", "pyqik", "work", "--log-format", "json", *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                cwd=cwd,
                # A group of its own: a test of Ctrl-C must not reach pytest.
                process_group=0,
            )

    # Signals and the end.

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        return self._popen.pid

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor."""
        self._popen.send_signal(number)

    def send_to_group(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor's process group, as Ctrl-C on a terminal does."""
        os.killpg(self.pid, number)

    def send_to_child(self, number: signal.Signals) -> None:
        """Send a signal to the only child."""
        [pid] = self.children
        os.kill(pid, number)

    def end(self) -> None:
        """TERM, and wait for an end with status 0."""
        self.send(signal.SIGTERM)
        assert self.wait() == 0, self._tail()

    def wait(self, timeout: float = 20) -> int:
        """Wait for the supervisor's end; its exit status, negative for a signal."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"pyqik work did not end within {timeout:g} seconds; {self._tail()}") from None

    @property
    def status(self) -> int | None:
        """The exit status, None while it runs."""
        return self._popen.poll()

    # Children.

    @property
    def started_children(self) -> list[int]:
        """The process id of every child that was ever started, in order."""
        return [line["child"] for line in self.lines("child started")]

    @property
    def children(self) -> list[int]:
        """The process ids of the children that live, in the order of their start; none if they mean nothing here."""
        if self._own_process_ids:
            return []
        return [pid for pid in self.started_children if is_alive(pid)]

    @property
    def guardians(self) -> list[int]:
        """The process id of every guardian that was ever started, in order."""
        return [line["guardian"] for line in self.lines("guardian started")]

    @property
    def everybody(self) -> list[int]:
        """The process ids of all that live: guardian, children, supervisor; of those that mean something here."""
        others = [] if self._own_process_ids else [*self.guardians, *self.started_children]
        return [pid for pid in (*others, self.pid) if is_alive(pid)]

    def send_to_everybody(self, number: signal.Signals) -> None:
        """Send a signal to all of them, the guardian first and the supervisor last."""
        for pid in self.everybody:
            os.kill(pid, number)

    @property
    def identities(self) -> list[str]:
        """The name in the Web UI of every child that was ever started, in order."""
        return [line["identity"] for line in self.lines("child started")]

    # The log.

    def lines(self, event: str | None = None, **fields: object) -> list[Line]:
        """The log lines so far that say `event` and have `fields`."""
        self._read_on()
        return [
            line
            for line in self._lines
            if event in (None, line["event"]) and all(line.get(name) == value for name, value in fields.items())
        ]

    def wait_for_event(self, event: str, count: int = 1, timeout: float = 30, **fields: object) -> Line:
        """Wait until the log has `count` lines that say `event` and have `fields`; the last of these.

        Raises: AssertionError with the end of the log after `timeout` seconds, or when the process ends without.
        """

        def found_or_over() -> bool:
            over = self.status is not None
            return len(self.lines(event, **fields)) >= count or over

        with contextlib.suppress(AssertionError):
            wait_until(found_or_over, timeout)
        found = self.lines(event, **fields)
        assert len(found) >= count, f"{len(found)} of {count} lines {event!r} {fields}; {self._tail()}"
        return found[count - 1]

    def log_text(self) -> str:
        """The whole log as it stands in the file."""
        return self.log_file.read_text("utf-8")

    def dump(self, pid: int) -> None:
        """TTIN, and wait for the dump of the child `pid`, which has then obeyed every earlier order."""
        dumps = len(self.lines("thread", thread="MainThread", pid=pid))
        self.send(signal.SIGTTIN)
        self.wait_for_event("thread", thread="MainThread", pid=pid, count=dumps + 1)

    def supervisor_threads(self) -> set[str]:
        """The names of the supervisor's threads, from its dump: it makes its own before it asks its children."""
        seen = len(self.lines("thread", pid=self.pid))
        self.dump(self.children[0])
        return {line["thread"] for line in self.lines("thread", pid=self.pid)[seen:]}

    def close(self) -> None:
        """End what still runs. Raises: AssertionError if a child or the guardian outlived the supervisor."""
        if self.status is None:
            self._end_at_once()
        with contextlib.suppress(AssertionError):
            # A guardian may be at work, and Redis is the next test's after this.
            wait_until(lambda: not self.everybody, 15)
        left = self.everybody
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert not left, f"processes {left} outlived their supervisor; {self._tail()}"

    def _end_at_once(self) -> None:
        # A test may have frozen it.
        self.send_to_everybody(signal.SIGCONT)
        self.send(signal.SIGTERM)
        with contextlib.suppress(AssertionError):
            self.wait_for_event("signal", meaning="stop", timeout=2)
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.send(number)
                self._popen.wait(5)
                return

    def _read_on(self) -> None:
        with self.log_file.open("rb") as log:
            log.seek(self._read)
            whole_lines, newline, _ = log.read().rpartition(b"\n")
        self._read += len(whole_lines + newline)
        for text in whole_lines.decode().splitlines():
            try:
                line = json.loads(text)
                self._lines.append({"event": "", **line})
            except (ValueError, TypeError):
                self.other_output.append(text)

    def _tail(self) -> str:
        return f"the end of its log:\n{self.log_text()[-4000:]}"


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
