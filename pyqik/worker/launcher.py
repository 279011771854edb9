"""A worker inside a program: takes and runs jobs in this process, without a supervisor.

    with Launcher(Config(queues=["python"])):
        ...

It may be started in any thread and touches no signals. As nobody could kill this process for it, a job that does not
end when it is interrupted is given back while its thread still runs: such a job may run twice.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import structlog

from pyqik.core.clock import Clock, SystemClock
from pyqik.core.config import Config
from pyqik.jobs.registry import Registry, registry
from pyqik.wire.connection import open_redis
from pyqik.wire.presence import ProcessInfo, Running
from pyqik.wire.statistics import Executions
from pyqik.worker.capsules import Capsules
from pyqik.worker.heartbeat import Heartbeat, resident_kb
from pyqik.worker.hooks import Hooks
from pyqik.worker.identity import make_identity, process_info
from pyqik.worker.recovery import Recovery
from pyqik.worker.scheduled import Poller

log = structlog.get_logger("pyqik")

#: Seconds that interrupted jobs have to end before they are given back all the same.
UNWIND: Final = 3.0


class Launcher:
    """See the module's docstring. `start` and `stop` once each; a stopped launcher is not started again."""

    def __init__(self, config: Config, registry: Registry = registry, clock: Clock | None = None) -> None:
        self._config = config
        clock = clock or SystemClock()
        self._client = open_redis(config.redis)
        self._info = process_info(config, make_identity(os.getpid()), os.getpid(), clock.time(), embedded=True)
        self._capsules = Capsules(config, self._info.identity, registry, clock, lambda clean: None)
        self._heartbeat = Heartbeat(self._client, clock, config.lease, lambda identity, signal: None, config.release)
        self._poller = Poller(
            self._client,
            clock,
            average=config.poll_interval_average,
            scheduled_average=config.average_scheduled_poll_interval,
        )
        self._recovery = Recovery(self._client, clock)
        self._hooks = Hooks()

    @property
    def identity(self) -> str:
        """Its name in the Web UI."""
        return self._info.identity

    def start(self) -> None:
        """Run the startup hooks and begin to take jobs. Raises: what a startup hook raises."""
        try:
            self._hooks.startup()
        except BaseException:
            self._client.close()
            raise
        self._recovery.start()
        self._heartbeat.start()
        self._heartbeat.add(_ThisProcess(self._info, self._capsules))
        if self._config.poll:
            self._poller.start()
        self._capsules.start()

    def quiet(self) -> None:
        """Take no new jobs; those that run go on."""
        self._poller.stop()
        self._capsules.quiet()
        self._heartbeat.poke()
        self._hooks.quiet()

    def stop(self, timeout: float | None = None) -> bool:
        """Stop within `timeout` seconds (default: the configuration's) plus `UNWIND`, plus what shutdown hooks take.

        Returns whether every job has ended, finished or given back. Otherwise the rest is given back all the same.
        """
        self._poller.stop()
        self._capsules.finish()
        self._hooks.quiet()
        ended = self._capsules.join(self._config.timeout if timeout is None else timeout)
        if not ended:
            self._capsules.interrupt()
            ended = self._capsules.join(UNWIND)
        self._recovery.give_back(self.identity, lambda count: None)
        self._recovery.stop(UNWIND)
        self._hooks.shutdown()
        self._heartbeat.stop(UNWIND)
        if self._config.poll:
            self._poller.join(UNWIND)
        self._client.close()
        return ended

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class _ThisProcess:
    """This process, as the heartbeat asks for it."""

    def __init__(self, info: ProcessInfo, capsules: Capsules) -> None:
        self.info = info
        self._capsules = capsules

    @property
    def is_quiet(self) -> bool:
        return self._capsules.is_quiet

    def running(self) -> Sequence[Running]:
        return self._capsules.running()

    def drain_executions(self) -> Executions:
        return self._capsules.drain_executions()

    def rss_kb(self) -> int:
        return resident_kb(self.info.pid)
