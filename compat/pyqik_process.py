"""A real `python -m pyqik work` process beside real Sidekiq."""

from __future__ import annotations

import sys
from pathlib import Path

import redis

from compat.evidence import registered
from compat.processes import RunningProgram
from tests.support.wait import wait_until

ROOT = Path(__file__).parent.parent


class PyqikWorker:
    """A worker process that has announced itself in Redis."""

    def __init__(self, client: redis.Redis, redis_url: str, queue: str, timeout: int, options: tuple[str, ...]) -> None:
        before = registered(client)
        command = (sys.executable, "-m", "pyqik", "work", "-r", "compat.jobs", "-q", queue, "-t", str(timeout))
        # Due jobs move as soon as they do on the Ruby side; the port of the metrics is any that is free.
        environment = {"REDIS_URL": redis_url, "PYQIK_POLL_INTERVAL_AVERAGE": "0.5"}
        self.timeout = timeout
        self.program = RunningProgram("pyqik", [*command, *options], environment, ROOT)
        try:
            #: `host:pid:random` as the Web UI shows it: that of the child that runs jobs.
            self.identity = self._announced(client, before)
        except BaseException:
            self.program.close()
            raise

    def _announced(self, client: redis.Redis, before: set[str]) -> str:
        def new_or_ended() -> set[str] | bool:
            return registered(client) - before or self.program.returncode is not None

        wait_until(new_or_ended, 30, "a new member of `processes`")
        new = registered(client) - before
        assert new, f"pyqik ended with status {self.program.returncode}:\n{self.program.log()[-5000:]}"
        return sorted(new)[0]

    def stop(self) -> None:
        """TERM it, if it still runs. Raises: AssertionError unless it exits 0 within its timeout and 5 seconds more."""
        if self.program.returncode is None:
            self.program.terminate()
        status = self.program.wait(self.timeout + 5)
        assert status == 0, f"pyqik ended with status {status}:\n{self.program.log()[-5000:]}"
