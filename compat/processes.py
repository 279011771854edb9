"""A program that a test starts: its output in a file, its end by its own pid. Which program it is, callers say."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from tests.support.wait import wait_until


class RunningProgram:
    """A child process. `with RunningProgram("sidekiq", command, env) as program: ...` kills what still runs at the end.

    Standard output and error go to a file: a pipe that nobody reads would stop the program once it is full. With
    `own_group`, a process group of its own, Ctrl-C does not reach it, and whoever started it ends it in order.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        directory: Path | None = None,
        *,
        own_group: bool = False,
    ) -> None:
        self.name = name
        self._log = tempfile.NamedTemporaryFile(prefix=f"pyqik-{name}-", suffix=".log")  # noqa: SIM115 # closed in close()
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            process_group=0 if own_group else None,
        )

    @property
    def pid(self) -> int:
        """The process id; `compat/ruby/run` replaces itself by the program, so it is the program's own."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status (negative: the signal that ended it), None while it runs."""
        return self._process.poll()

    def log(self) -> str:
        """Everything that it has written so far."""
        return Path(self._log.name).read_text(errors="replace")

    def wait_for_line(self, pattern: str, timeout: float = 20) -> re.Match[str]:
        """The first match of `pattern` in the log. Raises: AssertionError if the program ends or `timeout` passes."""

        def found_or_ended() -> bool:
            return bool(re.search(pattern, self.log())) or self.returncode is not None

        wait_until(found_or_ended, timeout, f"{pattern!r} in the log of {self.name}")
        match = re.search(pattern, self.log())
        assert match, f"{self.name} ended with status {self.returncode} before {pattern!r}:\n{self.log()[-3000:]}"
        return match

    def send(self, signal_number: signal.Signals) -> None:
        """Send a signal to the process."""
        self._process.send_signal(signal_number)

    def quiet(self) -> None:
        """TSTP: take no more jobs."""
        self.send(signal.SIGTSTP)

    def terminate(self) -> None:
        """TERM: stop."""
        self.send(signal.SIGTERM)

    def kill(self) -> None:
        """KILL: a crash."""
        self._process.kill()
        self._process.wait()

    def wait(self, timeout: float) -> int:
        """The exit status. Raises: AssertionError, with the log, if it still runs after `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {timeout:g} seconds:\n{self.log()[-5000:]}") from None

    def close(self) -> None:
        """Kill it if it runs, and remove its log."""
        if self.returncode is None:
            self.kill()
        self._log.close()

    def __enter__(self) -> RunningProgram:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
