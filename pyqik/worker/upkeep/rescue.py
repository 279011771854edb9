"""Taking over the jobs of processes that died together with whoever would have given them back: of a host, mostly.

A process is taken for dead when its lease has ended, and never by a rescuer that might be the one who was away: after
an outage, a restart or a failover of Redis, or a freeze of its own, it lets a whole lease pass, in which the living
renew theirs. Each supervisor and each embedded launcher has one, with a thread of its own. Several may race.
"""

from __future__ import annotations

import threading
from typing import Final

import redis
import structlog
from redis.exceptions import RedisError

from pyqik.core.clock import Clock
from pyqik.core.events import events
from pyqik.wire import presence
from pyqik.wire.broker import BLOCK, recover
from pyqik.wire.leases import Leases, Look, Verdict

log = structlog.get_logger("pyqik")

#: Looks in the time of a lease, and seconds between two: the shortest and the longest.
LOOKS_PER_LEASE: Final = 10
LOOK_INTERVAL: Final = (0.05, 3.0)
#: Parts of a lease: a longer time between two looks is a gap, in which others may have been unable to renew theirs too;
#: a lease that did not change for so long is not being renewed, whatever Redis's clock says (the living renew it three
#: times in a lease); and leases that end within so long are looked at already, so that this is known when they end.
GAP: Final = 1 / 3
UNCHANGED: Final = 1 / 2
AHEAD: Final = 0.6
#: Seconds for which a process that was declared dead keeps its lease: a blocking move of a host that is gone may still
#: land a job for it, and should this rescuer die too, others find that job by the lease.
AFTERMATH: Final = BLOCK + 1.0


class Watch:
    """Which processes may be taken for dead, from one look at the leases after the other. It does nothing else."""

    def __init__(self, lease: float) -> None:
        self._lease = lease
        self._last: tuple[Look, float] | None = None
        self._unbroken_since = 0.0
        #: A lease as it was seen, by its process and its end, and since when.
        self._seen: dict[tuple[str, float], float] = {}

    def lose(self) -> None:
        """A look failed: what was seen before it counts no more."""
        self._last = None

    def see(self, look: Look, at: float) -> dict[str, float]:
        """Whose leases have ended, and when; none unless looks were unbroken for a lease. `at` is monotonic."""
        if self._last is None or self._is_gap(*self._last, look, at):
            self._unbroken_since = at
            self._seen.clear()
        self._last = (look, at)
        self._seen = {lease: self._seen.get(lease, at) for lease in look.ends.items()}
        if at - self._unbroken_since < self._lease:
            return {}
        return {
            identity: end
            for (identity, end), since in self._seen.items()
            if end <= look.now and at - since >= self._lease * UNCHANGED
        }

    def _is_gap(self, before: Look, before_at: float, look: Look, at: float) -> bool:
        """Time is asked of both sides: Redis's clock may be set, and ours stands still while a machine is suspended."""
        longest = self._lease * GAP
        return look.run_id != before.run_id or at - before_at > longest or abs(look.now - before.now) > longest


class Rescuer:
    """See the module's docstring."""

    def __init__(self, client: redis.Redis, clock: Clock, lease: float) -> None:
        self._client = client
        self._clock = clock
        self._leases = Leases(client)
        self._ahead = lease * AHEAD
        shortest, longest = LOOK_INTERVAL
        self._interval = max(shortest, min(longest, lease / LOOKS_PER_LEASE))
        self._watch = Watch(lease)
        self._failing = False
        #: When each dead process was first given back by this rescuer.
        self._rescued: dict[str, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pyqik-rescuer", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End. Waits up to `timeout` seconds."""
        self._stopping.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._look()
                self._failing = False
            except RedisError as error:
                self._watch.lose()
                log.log(10 if self._failing else 30, "could not look at the leases of processes", error=str(error))
                self._failing = True
            self._stopping.wait(self._interval)
        self._leases.close()

    def _look(self) -> None:
        look = self._leases.look(self._ahead)
        ended = self._watch.see(look, self._clock.monotonic())
        self._rescued = {identity: at for identity, at in self._rescued.items() if identity in look.ends}
        for identity, end in ended.items():
            self._take_over(identity, end)

    def _take_over(self, identity: str, end: float) -> None:
        """Done at each look until the aftermath is over: each step may be repeated, by others at the same time too."""
        verdict = self._leases.declare_dead(identity, end)
        if verdict is Verdict.NOT_SO:
            return
        count = recover(self._client, identity)
        if verdict is Verdict.DEAD or count:
            log.warning("took over the jobs of a process whose lease has ended", identity=identity, count=count)
            events.emit("process.rescued", identity=identity, count=count)
        now = self._clock.monotonic()
        is_over = now - self._rescued.setdefault(identity, now) >= AFTERMATH
        presence.leave(self._client, identity, keep_lease=not is_over)
