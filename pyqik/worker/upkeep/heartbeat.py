"""The heartbeat of one or several processes: what Sidekiq's Web UI sees of them, their leases, their remote signals.

Its tasks, every ten seconds (three times in a lease, should that be shorter) and when poked:
1. write what each process runs, and renew its lease; the first time also mark the deploy of a new release;
2. add what it executed to Redis's counters;
3. take one remote signal for it and pass that on;
4. tell its owner should it have been declared dead: it is never shown again.
One thread of its own runs it. It goes on while jobs drain, and is stopped last: a process that stops beating while it
drains looks dead, and its jobs would be run twice.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import redis
import structlog
from redis.exceptions import RedisError, ResponseError

from pyqik.core.clock import Clock
from pyqik.wire import presence, statistics
from pyqik.wire.broker import Superseded
from pyqik.wire.presence import BEAT_INTERVAL, ProcessInfo, Running
from pyqik.wire.statistics import Executions

log = structlog.get_logger("pyqik")

#: Beats in the time of a lease: two may fail before it ends.
BEATS_PER_LEASE: Final = 3
#: Seconds until the next beat while Redis is away, at most: it must know of this process before a rescuer that found it
#: again at the same moment may act, a whole lease later.
RETRY_INTERVAL: Final = 1.0
RETRIES_PER_LEASE: Final = 10

_PAGE_KB: Final = os.sysconf("SC_PAGE_SIZE") // 1024


class Process(Protocol):
    """What is asked of a process, in the heartbeat's thread."""

    @property
    def info(self) -> ProcessInfo:
        """What does not change while it lives."""
        ...

    @property
    def is_quiet(self) -> bool:
        """Whether it takes no new work."""
        ...

    def running(self) -> Sequence[Running]:
        """What it runs."""
        ...

    def drain_executions(self) -> Executions:
        """What it executed since the last call."""
        ...

    def rss_kb(self) -> int:
        """Its resident memory in KB."""
        ...


@dataclass(slots=True, eq=False)
class _Member:
    process: Process
    unflushed: Executions = field(default_factory=Executions)
    superseded: bool = False


class Heartbeat:
    """See the module's docstring. `on_signal(identity, signal)` and, once, `on_superseded(identity)` are called in the
    heartbeat's thread.
    """

    def __init__(
        self,
        client: redis.Redis,
        clock: Clock,
        lease: float,
        on_signal: Callable[[str, str], None],
        on_superseded: Callable[[str], None],
        release: str = "",
    ) -> None:
        self._client = client
        self._clock = clock
        self._lease = lease
        self._interval = min(BEAT_INTERVAL, lease / BEATS_PER_LEASE)
        self._retry_interval = min(RETRY_INTERVAL, lease / RETRIES_PER_LEASE)
        self._on_signal = on_signal
        self._on_superseded = on_superseded
        self._unmarked_release = release
        self._lock = threading.Lock()
        self._members: dict[str, _Member] = {}
        self._left: list[_Member] = []
        self._poked = threading.Event()
        self._stopping = False
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="pyqik-heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def add(self, process: Process) -> None:
        """Show `process` from now on."""
        with self._lock:
            self._members[process.info.identity] = _Member(process)
        self.poke()

    def remove(self, identity: str) -> None:
        """Unregister a process that has ended, after a last flush of what it executed."""
        with self._lock:
            member = self._members.pop(identity, None)
            if member is not None:
                self._left.append(member)
        self.poke()

    def poke(self) -> None:
        """Beat now: something changed that people wait to see."""
        self._poked.set()

    def stop(self, timeout: float) -> None:
        """End, after unregistering what was removed. Waits up to `timeout` seconds.

        What was not removed has something that could not be given back: others find it by its lease.
        """
        self._stopping = True
        self.poke()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping:
            self._beat_all()
            self._poked.wait(self._retry_interval if self._failing else self._interval)
            self._poked.clear()
        self._say_goodbye()

    def _beat_all(self) -> None:
        self._say_goodbye()
        with self._lock:
            members = list(self._members.values())
        try:
            refused = [error for member in members if (error := self._beat(member))]
            self._mark_deploy()
        except RedisError as error:
            refused = [error]
        if refused:
            # Said once for an outage, not every ten seconds.
            log.log(10 if self._failing else 40, "the heartbeat did not reach Redis", error=str(refused[0]))
        self._failing = bool(refused)

    def _mark_deploy(self) -> None:
        if self._unmarked_release:
            presence.mark_deploy(self._client, self._unmarked_release, self._clock.time())
            self._unmarked_release = ""

    def _beat(self, member: _Member) -> RedisError | None:
        """What Redis refused for this one, which must not cost the others their leases. Raises: redis.RedisError."""
        if member.superseded:
            return None
        process = member.process
        identity = process.info.identity
        try:
            signal = presence.beat(
                self._client,
                process.info,
                process.running(),
                now=self._clock.time(),
                quiet=process.is_quiet,
                rss_kb=process.rss_kb(),
                lease=self._lease,
            )
        except ResponseError as error:
            return error
        except Superseded:
            member.superseded = True
            self._on_superseded(identity)
            return None
        if signal is not None:
            log.info("remote signal", identity=identity, signal=signal)
            self._on_signal(identity, signal)
        try:
            self._flush(member)
        except ResponseError as error:
            return error
        return None

    def _flush(self, member: _Member) -> None:
        member.unflushed.merge(member.process.drain_executions())
        if member.unflushed:
            refused = statistics.flush(self._client, member.unflushed, self._clock.time())
            member.unflushed = Executions()
            if refused:
                log.warning(
                    "some statistics could not be added; delete the key that is in the way", error=str(refused[0])
                )

    def _say_goodbye(self) -> None:
        with self._lock:
            left, self._left = self._left, []
        for member in left:
            try:
                self._flush(member)
                presence.leave(self._client, member.process.info.identity)
            except RedisError as error:
                log.warning("could not unregister; the entry expires by itself", error=str(error))


def resident_kb(pid: int) -> int:
    """The resident memory of a process in KB; 0 where the system does not tell."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * _PAGE_KB
    except (OSError, ValueError, IndexError):
        return 0
