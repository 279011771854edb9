"""What becomes of the jobs that ran when their process crashed.

1. If there was one, the crash is charged to it; at the third it goes to the dead set.
2. All others wait in custody, to run alone in a child of their own: only so is it known whose crash the next one is.
3. Custody ends when the supervisor takes no more jobs: what waits goes back to the front of its queue.
Called in the recovery's thread, before it gives back what did not run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import structlog

from pyqik.core.clock import Clock
from pyqik.core.errors import InvalidPayload, PoisonPill
from pyqik.wire.broker import Place, UnitOfWork
from pyqik.wire.custody import CRASH_LIMIT, Custody
from pyqik.wire.payload import Payload, decode
from pyqik.wire.presence import Running
from pyqik.worker.engine.outcome import poisoned
from pyqik.worker.upkeep.crash import Crash

log = structlog.get_logger("pyqik")

#: Seconds between two looks at what waits in custody: how long an idle child for it may be kept for nothing.
LONGEST_TEND_INTERVAL: Final = 1.0
#: Characters of a jid that go into a message between processes: whoever pushed the job may have written any text.
LONGEST_JID: Final = 100


@dataclass(frozen=True, slots=True)
class Death:
    """A job that went to the dead set, and why; its death handlers are still to be called. Its entry there is the one
    at the score `died_at` that has this `digest`: it may be too large for a message.
    """

    died_at: float
    digest: str
    jid: str
    queue: str
    reason: str

    @staticmethod
    def digest_of(entry: bytes) -> str:
        """What tells an entry from others."""
        return hashlib.sha1(entry, usedforsecurity=False).hexdigest()


class _Verdict(NamedTuple):
    """A job of `process` that dies, at `place`, if this crash is one too many."""

    process: str
    place: Place
    death: Death
    named: dict[str, str]


class Suspects:
    """See the module's docstring. `on_waiting` hears how many wait in custody, `on_death` of each job that died; both
    in the recovery's thread. Whatever asks Redis raises redis.RedisError, and may be repeated.
    """

    def __init__(
        self, custody: Custody, clock: Clock, on_waiting: Callable[[int], None], on_death: Callable[[Death], None]
    ) -> None:
        self._custody = custody
        self._clock = clock
        self._on_waiting = on_waiting
        self._on_death = on_death
        self._open = True
        #: What may have been a death, until the answer has come.
        self._unanswered: _Verdict | None = None

    def judge(self, process: str, crash: Crash) -> None:
        """Charge and detain the suspects of `process`'s crash."""
        units = self._custody.suspects(process, crash.tokens, crash.unnamed)
        if not units:
            self._answer(process)
        if len(units) == 1 and self._charge(process, units[0], crash):
            units = []
        if units and self._open:
            self._custody.detain(process, units)
            log.warning("what ran in a child that crashed runs alone next", identity=process, count=len(units))
        self.tend()

    @property
    def tend_interval(self) -> float:
        """Seconds between two calls of `tend`, so that the lease does not run out."""
        return min(LONGEST_TEND_INTERVAL, self._custody.lease / 3)

    def tend(self) -> int:
        """Renew the lease of what waits; how many wait."""
        waiting = self._custody.tend()
        self._on_waiting(waiting)
        return waiting

    def close(self) -> None:
        """From now on nothing goes into custody. From any thread."""
        self._open = False

    def release(self) -> int:
        """Give back everything that waits; how many units."""
        count = self._custody.release()
        if count:
            log.info("gave back what waited to run alone", count=count)
        self._on_waiting(0)
        return count

    def describe(self, process: str, running: Running) -> dict[str, str]:
        """The jid, class and queue of what `process` runs there, for the log; empty if Redis does not know."""
        unit = self._custody.unit_of(process, running)
        return {} if unit is None else _named(unit)

    def _charge(self, process: str, unit: UnitOfWork, crash: Crash) -> bool:
        """Whether the unit has died of it."""
        reason = f"this job crashed its process {CRASH_LIMIT} times; the last time: {crash.cause}"
        now = self._clock.time()
        place = poisoned(unit, PoisonPill(reason), now).place
        named = _named(unit)
        # Whoever pushed a job without a jid: it must not answer for the crashes of others like it.
        job = named["jid"] or Death.digest_of(unit.raw)
        death = Death(now, Death.digest_of(place.payload), named["jid"][:LONGEST_JID], unit.queue, reason)
        self._unanswered = verdict = _Verdict(process, place, death, named)
        crashes = self._custody.charge(process, unit, job, place)
        self._unanswered = None
        if crashes < CRASH_LIMIT:
            log.error("a crash is charged to a job", **named, cause=crash.cause, crashes=crashes)
            return False
        self._mourn(verdict)
        return True

    def _answer(self, process: str) -> None:
        """A job of `process` may have died although the answer that told of it got lost."""
        verdict = self._unanswered
        died = verdict is not None and verdict.process == process and self._custody.has_died(verdict.place)
        # Only now: that question may be left without an answer, too.
        self._unanswered = None
        if verdict is not None and died:
            self._mourn(verdict)

    def _mourn(self, verdict: _Verdict) -> None:
        log.error("poison pill: the job goes to the dead set", **verdict.named, reason=verdict.death.reason)
        self._on_death(verdict.death)


def _named(unit: UnitOfWork) -> dict[str, str]:
    try:
        payload = decode(unit.raw)
    except InvalidPayload:
        payload = Payload({})
    return {"jid": str(payload.get("jid") or ""), "class": payload.display_class, "queue": unit.queue}
