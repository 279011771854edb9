"""What the demo plays on: a private server, a real `pyqik work`, and what both of them say."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final

import redis

#: Seconds that `pyqik work` gives its jobs when it is told to stop, and that the demo waits for anything at most.
TIMEOUT: Final = 2
PATIENCE: Final = 30.0
COMMAND: Final = f"work -r demo_jobs -q imports -q receipts -q reports --processes 2 -c 5 -t {TIMEOUT}"


class Stage:
    """A worker at a time, with its Redis, its log, and the counts that were not as promised."""

    def __init__(self, client: redis.Redis, url: str, database: Path, log: IO[bytes]) -> None:
        self.redis = client
        self.wrong: list[str] = []
        self._url = url
        self._database = database
        self._log = log
        self._worker: subprocess.Popen[bytes] | None = None

    def start_worker(self) -> int:
        """Start a real `pyqik work`, without settings of the surroundings that are meant for another; its pid."""
        mine = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYQIK_", "REDIS_", "RAILS_"))
        }
        self._worker = subprocess.Popen(
            [sys.executable, "-m", "pyqik", *COMMAND.split(), "--port", "0", "--log-format", "json"],
            cwd=Path(__file__).parent,
            env={**mine, "REDIS_URL": self._url, "DEMO_DATABASE": str(self._database)},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        return self._worker.pid

    def stop_worker(self) -> float:
        """Stop it as a deploy does; seconds until it was gone. Nothing if there is none."""
        if self._worker is None or self._worker.poll() is not None:
            return 0.0
        began = time.monotonic()
        self._worker.terminate()
        status = self._worker.wait(PATIENCE)
        took = time.monotonic() - began
        self.expect(status == 0, f"the exit status of the worker is {status}")
        self.expect(took <= TIMEOUT + 5, f"the stop took {took:.1f} seconds")
        return took

    def wait_for(self, condition: Callable[[], Any], what: str) -> Any:
        """The first truthy value of `condition()`. Raises: RuntimeError if the worker ends or time runs out before."""
        deadline = time.monotonic() + PATIENCE
        while not (value := condition()):
            if self._worker is not None and self._worker.poll() is not None:
                raise RuntimeError(f"pyqik work ended with status {self._worker.returncode} before there was {what}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"waited {PATIENCE:g} seconds in vain for {what}")
            time.sleep(0.01)
        return value

    def processes(self) -> list[int]:
        """The pids in Sidekiq's list of processes."""
        return [int(str(identity).split(":")[-2]) for identity in self.redis.smembers("processes")]

    def log_lines(self) -> list[str]:
        """What the workers have logged, as JSON."""
        # Without what follows the last newline: it may be the first half of a line.
        return os.pread(self._log.fileno(), 10_000_000, 0).decode(errors="replace").split("\n")[:-1]

    def expect(self, fits: bool, wrong: str) -> None:
        """Note that something is `wrong`, unless it fits."""
        if not fits:
            self.wrong.append(wrong)


def sidekiq_7(job_class: str, queue: str, args: list[Any], retry: bool | int = True) -> str:
    """The text that Sidekiq 7's client pushes: times are seconds."""
    return payload(job_class, queue, args, retry, time.time())


def sidekiq_8(job_class: str, queue: str, args: list[Any], retry: bool | int = True) -> str:
    """The text that Sidekiq 8's client pushes: times are milliseconds."""
    return payload(job_class, queue, args, retry, int(time.time() * 1000))


def payload(job_class: str, queue: str, args: list[Any], retry: bool | int, now: float) -> str:
    """A job's hash, in the order of Sidekiq's fields and as compact as Ruby writes JSON."""
    fields = {"retry": retry, "queue": queue, "args": args, "class": job_class, "jid": secrets.token_hex(12)}
    return json.dumps({**fields, "created_at": now, "enqueued_at": now}, separators=(",", ":"))


def headline(text: str) -> None:
    """Begin a step."""
    say(f"\n{text}")


def say(*lines: str) -> None:
    """Write lines at once, also into a pipe."""
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
