"""A worker inside a program: takes and runs jobs in this process, without a supervisor.

    from pyqik.worker.launcher import Launcher

    with Launcher(Config(queues=["python"])):
        ...

It may be started in any thread and touches no signals. As nobody could kill this process for it, a job that does not
end when it is interrupted is given back while its thread still runs: such a job may run twice.

Nor can anybody beat for it while C code holds the GIL: beyond its lease others take it for dead, as they do if the
program is frozen. It then interrupts its jobs, which others run again, and goes on under a new name. So it does when
a bug ends the thread that takes jobs.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import structlog

from pyqik.core.clock import Clock, SystemClock
from pyqik.core.config import Config
from pyqik.core.events import events
from pyqik.jobs.registry import Registry, registry
from pyqik.wire.connection import open_redis
from pyqik.wire.presence import ProcessInfo, Running
from pyqik.wire.statistics import Executions
from pyqik.worker.engine.capsules import Capsules
from pyqik.worker.hooks import Hooks
from pyqik.worker.identity import make_identity, process_info
from pyqik.worker.store_check import check_store
from pyqik.worker.upkeep.heartbeat import Heartbeat, resident_kb
from pyqik.worker.upkeep.recovery import Recovery
from pyqik.worker.upkeep.rescue import Rescuer
from pyqik.worker.upkeep.scheduled import Poller
from pyqik.worker.upkeep.sweep import Sweeper

log = structlog.get_logger("pyqik")

#: Seconds until an engine that died of a bug is replaced: the next one may die of it at once.
BACK_OFF: Final = 1.0
#: Seconds that interrupted jobs have to end before they are given back all the same.
UNWIND: Final = 3.0


class Launcher:
    """See the module's docstring. `start` and `stop` once each; a stopped launcher is not started again."""

    def __init__(self, config: Config, registry: Registry = registry, clock: Clock | None = None) -> None:
        self._config = config
        self._registry = registry
        self._clock = clock = clock or SystemClock()
        self._client = open_redis(config.redis)
        #: Guards what follows: a replacement comes from another thread.
        self._lock = threading.Lock()
        self._started = self._ending = False
        self._engine = self._build()
        self._stopping = threading.Event()
        self._replacements: list[threading.Thread] = []
        self._heartbeat = Heartbeat(
            self._client, clock, config.lease, lambda identity, signal: None, self._doubt, config.release
        )
        self._poller = Poller(
            self._client,
            clock,
            average=config.poll_interval_average,
            scheduled_average=config.average_scheduled_poll_interval,
        )
        self._recovery = Recovery(self._client, clock)
        self._rescuer = Rescuer(self._client, clock, config.lease)
        self._sweeper = Sweeper(config.redis, config.files)
        self._hooks = Hooks()

    @property
    def identity(self) -> str:
        """Its name in the Web UI; another one after it was taken for dead."""
        return self._engine.info.identity

    def start(self) -> None:
        """Run the startup hooks and begin to take jobs.

        Raises: what a startup hook raises; StoreError if the files of jobs cannot be kept where the configuration says;
        RuntimeError if it was started before.
        """
        with self._lock:
            if self._started:
                raise RuntimeError("this launcher was started before; make another one")
            self._started = True
        try:
            check_store(self._config.files)
            self._hooks.startup()
        except BaseException:
            self._client.close()
            raise
        self._recovery.start()
        self._heartbeat.start()
        self._rescuer.start()
        if self._config.poll:
            self._poller.start()
        if self._config.files:
            self._sweeper.start()
        with self._lock:
            self._start_engine()

    def quiet(self) -> None:
        """Take no new jobs; those that run go on."""
        self._poller.stop()
        self._sweeper.stop()
        with self._lock:
            self._ending = True
        self._engine.capsules.quiet()
        self._heartbeat.poke()
        self._hooks.quiet()

    def stop(self, timeout: float | None = None) -> bool:
        """Stop within `timeout` seconds (default: the configuration's) plus `UNWIND`, plus what shutdown hooks take.

        Returns whether every job has ended, finished or given back. Otherwise the rest is given back all the same.
        """
        self._poller.stop()
        self._sweeper.stop()
        self._stopping.set()
        with self._lock:
            self._ending = True
        capsules = self._engine.capsules
        capsules.finish()
        self._hooks.quiet()
        ended = capsules.join(self._config.timeout if timeout is None else timeout)
        if not ended:
            capsules.interrupt()
            ended = capsules.join(UNWIND)
        for replacement in self._replacements:
            replacement.join(UNWIND)
        self._rescuer.stop(UNWIND)
        self._give_back(self._engine)
        self._recovery.stop(UNWIND)
        self._hooks.shutdown()
        self._heartbeat.stop(UNWIND)
        if self._config.poll:
            self._poller.join(UNWIND)
        self._client.close()
        return ended

    def _build(self) -> _Engine:
        info = process_info(self._config, make_identity(os.getpid()), os.getpid(), self._clock.time(), embedded=True)

        def on_end(clean: bool) -> None:
            if not clean:
                # In a thread of its own: this is the fetcher's, which has to end.
                replacement = threading.Thread(
                    target=self._replace, args=(engine,), name="pyqik-replacement", daemon=True
                )
                self._replacements.append(replacement)
                replacement.start()

        engine = _Engine(info, Capsules(self._config, info.identity, self._registry, self._clock, on_end))
        return engine

    def _start_engine(self) -> None:
        self._heartbeat.add(self._engine)
        self._engine.capsules.start()

    def _doubt(self, identity: str) -> None:
        """The heartbeat has heard that `identity` was declared dead."""
        engine = self._engine
        if engine.info.identity == identity:
            engine.capsules.probe()

    def _replace(self, engine: _Engine) -> None:
        """`engine` was declared dead, or died: another one takes its place, and its jobs are interrupted."""
        if engine.capsules.superseded:
            events.emit("process.superseded", identity=engine.info.identity)
        else:
            self._stopping.wait(BACK_OFF)
        with self._lock:
            if not self._ending:
                self._engine = self._build()
                log.warning("going on under a new name", was=engine.info.identity, identity=self.identity)
                self._start_engine()
        if not engine.capsules.unwind():
            log.error("jobs that others run again do not end", running=len(engine.capsules.running()))
        self._give_back(engine)

    def _give_back(self, engine: _Engine) -> None:
        identity = engine.info.identity
        self._recovery.give_back(identity, lambda count: self._heartbeat.remove(identity))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class _Engine:
    """What takes and runs jobs under one name; also this process, as the heartbeat asks for it."""

    def __init__(self, info: ProcessInfo, capsules: Capsules) -> None:
        self.info = info
        self.capsules = capsules

    @property
    def is_quiet(self) -> bool:
        return self.capsules.is_quiet

    def running(self) -> Sequence[Running]:
        return self.capsules.running()

    def drain_executions(self) -> Executions:
        return self.capsules.drain_executions()

    def rss_kb(self) -> int:
        return resident_kb(self.info.pid)
