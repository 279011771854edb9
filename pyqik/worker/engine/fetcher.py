"""Taking units of work and writing their outcomes: the only thread of a process that speaks to Redis for the engine.

Its tasks, in each round:
1. settle what has ended and take what there is room for, in one round trip;
2. hand the taken units out;
3. if the queues had less than that: wait for a push, for an ending, or for a word from the manager.
It is started by the manager, and ends when it was told to and everything that it handed out is settled.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final, Protocol

import structlog
from redis.exceptions import RedisError

from pyqik.core.clock import Clock
from pyqik.core.events import events
from pyqik.wire.broker import FRONT, NONE_STARTED, Broker, Place, Superseded, Taken, UnitOfWork
from pyqik.wire.state_requests import StateReply
from pyqik.worker.engine.queue_order import QueueOrder
from pyqik.worker.engine.waiting import Waiting

log = structlog.get_logger("pyqik")

#: Seconds between two takes while idle: what notices a pause, and heals whatever else was missed.
IDLE_TAKE: Final = 2.0
#: Seconds for which a taken unit may wait for a slot before it is given back.
PREFETCH_PATIENCE: Final = 0.05
#: Seconds between two attempts while Redis is away: the first, and the longest.
RECONNECT: Final = (0.1, 1.0)
#: Seconds between two probes: a third of a lease.
PROBE_INTERVAL: Final = 10.0


class Runners(Protocol):
    """What the fetcher asks of whoever runs units of work. All calls come from the fetcher's thread."""

    def collect(self) -> Iterable[tuple[UnitOfWork, Place]]:
        """What has ended since the last call, each unit once, and where it goes."""
        ...

    def room(self) -> int:
        """How many more units may be handed out."""
        ...

    def stuck_queues(self) -> Collection[str]:
        """The queues of which nothing is to be taken now."""
        ...

    def hand_out(self, units: Sequence[UnitOfWork]) -> None:
        """Run them; each is collected again."""
        ...

    def bound(self, unit: UnitOfWork) -> None:
        """A unit that was handed out without a token has got one."""
        ...

    def take_back(self, patience: float) -> Iterable[UnitOfWork]:
        """The units that wait for a slot, if every slot has been busy for `patience` seconds; the newest first."""
        ...

    @property
    def states(self) -> Errands:
        """What running long jobs want of Redis."""
        ...

    def rest(self) -> float:
        """For how many seconds the fetcher may sleep if nothing wakes it."""
        ...


class Errands(Protocol):
    """What is asked of Redis for others, in the same round trips."""

    def requests(self) -> Sequence[Any]:
        """What there is to ask, the oldest first; each a `pyqik.wire.state_requests.StateRequest`."""
        ...

    def answered(self, requests: Sequence[Any], replies: Sequence[StateReply]) -> None:
        """The replies to these."""
        ...


class Fetcher:
    """See the module's docstring. `on_end` hears whether the thread ended because it was told to (or died of a bug)."""

    def __init__(
        self,
        broker: Broker,
        order: QueueOrder,
        runners: Runners,
        clock: Clock,
        on_end: Callable[[bool], None],
        probe_interval: float = PROBE_INTERVAL,
    ) -> None:
        self._broker = broker
        self._order = order
        self._runners = runners
        self._clock = clock
        self._on_end = on_end
        self._waiting = Waiting(broker, () if broker.serves_custody else order.names, clock)
        self._unsettled: dict[UnitOfWork, Place] = {}
        self._held: set[UnitOfWork] = set()
        #: Started from a landing list; the next take gives them their tokens.
        self._unbound: list[UnitOfWork] = []
        self._paused: tuple[str, ...] = ()
        #: Whether an ending should `wake` this thread.
        self.sleeping = False
        self._quiet = False
        self._finishing = False
        self._lost_at: float | None = None
        self._attempts = 0
        self._probe_interval = probe_interval
        self._probe_at = 0.0
        self._superseded = False
        self._came_round = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="pyqik-fetcher", daemon=True)

    # Called by other threads.

    def start(self) -> None:
        """Start taking."""
        self._thread.start()

    def wake(self) -> None:
        """Something has ended."""
        self._waiting.wake()

    def quiet(self) -> None:
        """Take nothing more, and give back what no slot has started; what runs is still settled."""
        self._quiet = True
        self._waiting.wake()

    def finish(self) -> None:
        """End as soon as everything that was handed out is settled."""
        self._quiet = self._finishing = True
        self._waiting.wake()

    def join(self, timeout: float) -> bool:
        """Wait until the thread has ended; whether it has, or never was started."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def probe(self) -> None:
        """Ask Redis now whether this process still counts as alive."""
        self._probe_at = 0.0
        self._waiting.wake()

    @property
    def silence(self) -> float:
        """Seconds since the thread last came round: as long as Redis takes to answer, and 2 s of sleep at most."""
        return time.monotonic() - self._came_round if self._thread.is_alive() else 0.0

    @property
    def superseded(self) -> bool:
        """Whether the thread has ended because this process was declared dead."""
        return self._superseded

    @property
    def connected(self) -> bool:
        """Whether Redis answered last time."""
        return self._lost_at is None

    # The thread.

    def _run(self) -> None:
        try:
            while not self._finished():
                self._came_round = time.monotonic()
                try:
                    self._round()
                except RedisError as error:
                    self._lose(error)
        except Superseded as error:
            self._superseded = True
            log.error("this process was taken for dead; its jobs must end", error=str(error))
        except BaseException:
            log.exception("the fetcher died; this process cannot go on")
        finally:
            self._waiting.close()
            self._broker.close()
            self._on_end(self._finished())

    def _finished(self) -> bool:
        return self._finishing and not (self._held or self._waiting.armed or self._waiting.landed)

    def _round(self) -> None:
        self._broker.connect()
        if self._until_probe() <= 0:
            self._probe()
        self._collect()
        room = 0 if self._quiet else max(self._runners.room(), 0)
        room -= self._start_landed(room)
        if room == 0 or self._waiting.landed:
            self._waiting.stop()
        taken = self._exchange(room)
        fresh = self._bind(taken)
        self._hand_out(fresh)
        if self._lost_at is not None:
            self._restore(self._lost_at)
        if len(fresh) < room:
            self._note_paused(taken.paused)
            self._waiting.start({*taken.paused, *self._runners.stuck_queues()})
            events.emit("fetch.idle")
        elif room > 0:
            return
        if not self._finished() and not any(unit.token for unit in self._unsettled):
            self._sleep()

    def _collect(self) -> None:
        """Gather what ended, and what nobody started in time."""
        for unit, place in self._runners.collect():
            if unit in self._held:
                self._unsettled.setdefault(unit, place)
        for unit in self._runners.take_back(0.0 if self._quiet else PREFETCH_PATIENCE):
            self._unsettled.setdefault(unit, FRONT)

    def _probe(self) -> None:
        """A process whose slots are all busy takes nothing, so no answer to a take tells it that it was declared dead,
        or that Redis has gone.
        """
        self._broker.probe()
        self._probe_at = self._clock.monotonic() + self._probe_interval

    def _until_probe(self) -> float:
        """Seconds until the next probe: at once if outcomes were refused."""
        return 0.0 if self._broker.refused else self._probe_at - self._clock.monotonic()

    def _start_landed(self, room: int) -> int:
        """Start what woke this thread before it even has a token: a round trip sooner. How many that were."""
        units = self._waiting.claim(room, self._paused)
        self._unbound += units
        self._hand_out(units)
        return len(units)

    def _hand_out(self, units: Sequence[UnitOfWork]) -> None:
        if units:
            self._held.update(units)
            events.emit("fetch.taken", count=len(units))
            self._runners.hand_out(units)

    def _exchange(self, room: int) -> Taken:
        """Settle and take. After an error everything is still there to be settled again."""
        adopt = self._waiting.adoptable
        queues: Sequence[str] = self._order.draw()
        if not adopt and not self._unbound and (stuck := self._runners.stuck_queues()):
            # Only then: the landing lists of a queue that is not named are left alone.
            queues = [name for name in queues if name not in stuck]
        endings = [(unit, place) for unit, place in self._unsettled.items() if unit.token]
        if any(place.verb == FRONT.verb for _, place in endings):
            # Each goes before the one that went before it, so the newest is moved first.
            endings.sort(key=lambda ending: ending[0].order, reverse=True)
        states = self._runners.states.requests()
        taken = self._broker.exchange(
            endings,
            room,
            queues,
            adopt=adopt,
            now=self._clock.time(),
            started=Counter(unit.queue for unit in self._unbound) if self._unbound else NONE_STARTED,
            states=states,
        )
        if states:
            self._runners.states.answered(states, taken.states)
        if endings:
            settled = [unit for unit, _ in endings]
            self._held.difference_update(settled)
            for unit in settled:
                del self._unsettled[unit]
            events.emit("job.settled", units=settled)
        if adopt and not taken.repeated:
            self._waiting.adopted()
        return taken

    def _bind(self, taken: Taken) -> list[UnitOfWork]:
        """Give the units that were started already their tokens; the others."""
        others: list[UnitOfWork] = []
        for unit in taken.units:
            for started in self._unbound:
                if started.queue == unit.queue and started.raw == unit.raw:
                    started.token = unit.token
                    self._runners.bound(started)
                    self._unbound.remove(started)
                    break
            else:
                others.append(unit)
        if not taken.repeated:
            self._give_up_unbound()
        return others

    def _give_up_unbound(self) -> None:
        """What this process started is not on record any more: Redis was emptied, or failed over to an older state."""
        for unit in self._unbound:
            log.warning("a running job is no longer on record; its outcome cannot be written", queue=unit.queue)
            self._held.discard(unit)
            self._unsettled.pop(unit, None)
        self._unbound.clear()

    def _sleep(self) -> None:
        self.sleeping = True
        # Asked only now: an ending that came before the flag was up has not rung.
        self._waiting.sleep(max(0.0, min(self._runners.rest(), self._until_probe())))
        self.sleeping = False

    def _note_paused(self, paused: tuple[str, ...]) -> None:
        if sorted(paused) != sorted(self._paused):
            log.info("paused queues", queues=sorted(paused))
            events.emit("fetch.paused", queues=sorted(paused))
        self._paused = paused

    # Losing Redis and finding it again.

    def _lose(self, error: RedisError) -> None:
        self.sleeping = False
        self._waiting.hang_up()
        self._broker.close()
        if self._lost_at is None:
            self._lost_at, self._attempts = self._clock.monotonic(), 0
            log.error("Redis does not answer as it should; jobs go on, their outcomes wait", error=str(error))
            events.emit("redis.lost", error=error)
        first, longest = RECONNECT
        delay = min(first * 2 ** min(self._attempts, 10), longest) * random.uniform(0.75, 1.25)
        self._attempts += 1
        self._waiting.sleep(delay)

    def _restore(self, lost_at: float) -> None:
        """What this process holds by Redis's account and does not know of is given back: a failover may have undone
        what was settled, or kept a take whose answer is not to be had any more.
        """
        known = {unit.token for unit in self._held}
        for token in self._broker.held():
            if token not in known:
                unit = UnitOfWork(token, "", b"")
                self._held.add(unit)
                self._unsettled[unit] = FRONT
        downtime = self._clock.monotonic() - lost_at
        self._lost_at = None
        log.info("Redis is back", downtime=round(downtime, 3))
        events.emit("redis.restored", downtime=downtime)
