"""What speaks to Redis on the supervisor's behalf: started together, stopped in the reverse order."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from pyqik.core.clock import SystemClock
from pyqik.core.config import Config
from pyqik.wire.broker import DeadLimits
from pyqik.wire.connection import open_redis
from pyqik.wire.custody import Custody
from pyqik.worker.engine.board import Entry
from pyqik.worker.processes.child_process import ChildProcess
from pyqik.worker.upkeep.heartbeat import Heartbeat
from pyqik.worker.upkeep.recovery import Recovery
from pyqik.worker.upkeep.rescue import Rescuer
from pyqik.worker.upkeep.scheduled import Poller
from pyqik.worker.upkeep.suspects import Death, Suspects
from pyqik.worker.upkeep.sweep import Sweeper

log = structlog.get_logger("pyqik")


class Parts:
    """See the module's docstring. Each callback is called in the thread of a part."""

    def __init__(
        self,
        config: Config,
        custody: str,
        *,
        on_signal: Callable[[str, str], None],
        on_superseded: Callable[[str], None],
        on_waiting: Callable[[int], None],
        on_death: Callable[[Death], None],
    ) -> None:
        self._client = open_redis(config.redis)
        self._polls = config.poll
        self._keeps_files = bool(config.files)
        clock = SystemClock()
        limits = DeadLimits(config.dead_max_jobs, config.dead_timeout)
        suspects = Suspects(Custody(self._client, custody, config.lease, limits), clock, on_waiting, on_death)
        self.recovery = Recovery(self._client, clock, suspects)
        self.heartbeat = Heartbeat(self._client, clock, config.lease, on_signal, on_superseded, config.release)
        self.rescuer = Rescuer(self._client, clock, config.lease)
        self.poller = Poller(
            self._client,
            clock,
            average=config.poll_interval_average,
            scheduled_average=config.average_scheduled_poll_interval,
            share=config.processes,
        )
        self._sweeper = Sweeper(config.redis, config.files)

    def start(self) -> None:
        """Start every part."""
        self.recovery.start()
        self.heartbeat.start()
        self.rescuer.start()
        if self._polls:
            self.poller.start()
        if self._keeps_files:
            self._sweeper.start()

    def quiet(self) -> None:
        """Move no more jobs to their queues, and clear nothing away any more. Returns at once."""
        self.poller.stop()
        self._sweeper.stop()

    def describe(self, child: ChildProcess, entry: Entry) -> None:
        """Name a running job in the log, as soon as Redis says which it is."""
        seconds = round(time.time() - entry.started_at, 1)

        def name_it(suspects: Suspects) -> None:
            named = suspects.describe(child.identity, entry.running)
            log.warning("runs in that child", child=child.pid, seconds=seconds, **named)

        self.recovery.look_up(name_it)

    def stop(self, timeout: float) -> None:
        """Stop every part; together they have `timeout` seconds to end."""
        deadline = time.monotonic() + timeout
        self.quiet()
        self.rescuer.stop(timeout)
        self.recovery.stop(max(0.0, deadline - time.monotonic()))
        self.heartbeat.stop(max(0.0, deadline - time.monotonic()))
        self._client.close()
