"""How a job ended, as a value: `decide` says it (pure), one script writes it.

The rules are Sidekiq's: sidekiq/job_retry.rb at 6.4, 7.3 and 8.1, with the delay formula of 8.0.
"""

from __future__ import annotations

import base64
import enum
import json
import math
import random
import traceback
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pyqik.core.errors import (
    ContinueIn,
    Discard,
    Interrupted,
    Interruption,
    InvalidPayload,
    JobNotRegistered,
    Kill,
    PoisonPill,
    RetryIn,
)
from pyqik.core.job_options import LONGEST_DURATION
from pyqik.jobs.definition import DISCARD, KILL, RetryDecision
from pyqik.wire import keys
from pyqik.wire.broker import BACK, FRONT, GONE, Place, UnitOfWork
from pyqik.wire.payload import COUNT_LIMIT, Payload, dead_entry, decode, patch, seconds

#: Characters of an error message that are stored, as in Sidekiq.
MESSAGE_LIMIT: Final = 10_000
#: The back-off of later retries is that of this one, 10 years: a payload may claim any count.
BACKOFF_LIMIT: Final = 133
#: Seconds: Redis refuses a time that is not a number, and the Web UI's page fails on an infinite one.
DELAY_LIMIT: Final = 316_000_000.0
#: Seconds until the retry of a job whose end could not be judged.
UNDECIDED_DELAY: Final = 60.0


class Ending(enum.Enum):
    """What happened to a unit of work."""

    DONE = "done"
    RETRIED = "retried"
    DIED = "died"
    DISCARDED = "discarded"
    #: Failed, and its options say that nothing is kept (`retry: false`, or exhausted with `dead: false`).
    DROPPED = "dropped"
    INTERRUPTED = "interrupted"
    #: Not a job at all: the bytes are kept in the dead set.
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a unit of work ended, and where it goes."""

    ending: Ending
    place: Place
    error: BaseException | None = None
    #: No retry is left: the job's `retries_exhausted` is called.
    exhausted: bool = False
    #: The payload's fields that the failure sets.
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether it counts as a failure in Sidekiq's statistics."""
        return self.ending in (Ending.RETRIED, Ending.DIED, Ending.DROPPED)

    @property
    def given_up(self) -> bool:
        """Whether an error was its end, in the dead set or not: death handlers are called. A `Discard` is no error."""
        if self.ending is Ending.DISCARDED:
            return not isinstance(self.error, Discard)
        return self.ending in (Ending.DIED, Ending.DROPPED)


DONE: Final = Outcome(Ending.DONE, GONE)
INTERRUPTED: Final = Outcome(Ending.INTERRUPTED, FRONT)

RetryRule = Callable[[int, Exception], RetryDecision]


def decide(
    unit: UnitOfWork,
    payload: Payload,
    error: BaseException,
    *,
    now: float,
    max_retries: int = 25,
    default_retry: bool | int = True,
    retry_in: RetryRule | None = None,
    jitter: Callable[[int], int] = random.randrange,
) -> Outcome:
    """How the job `payload` ends that raised `error` at `now`.

    `default_retry` is the class's own option, for payloads that carry none. `retry_in` is the class's rule for the
    delay; it is asked only if a retry is left. `jitter(n)` is a random integer below n.
    """
    if isinstance(error, Interrupted) and error.seconds > 0:
        return Outcome(Ending.INTERRUPTED, later(unit, error.seconds, now), error)
    if was_interrupted(error):
        return Outcome(Ending.INTERRUPTED, FRONT, error)
    if isinstance(error, ContinueIn):
        return Outcome(Ending.INTERRUPTED, later(unit, error.seconds, now), error)
    if isinstance(error, Discard):
        return Outcome(Ending.DISCARDED, GONE, error)
    # Nobody can have meant a job to vanish because a process does not know its class: that one is always kept.
    unknown = isinstance(error, JobNotRegistered)
    failure = _Failure.of(unit, payload, error, now=now, default_retry=default_retry)
    if isinstance(error, Kill):
        return failure.died(exhausted=True, keep=True)
    if failure.retry is False and not unknown:
        return failure.dropped(Ending.DROPPED, exhausted=False)
    if failure.exhausted(max_retries):
        return failure.died(exhausted=True, keep=unknown)
    return failure.retried(retry_in, jitter)


def invalid(unit: UnitOfWork, error: InvalidPayload, now: float) -> Outcome:
    """What is not a job goes to the dead set, where Sidekiq's Web UI shows it."""
    return Outcome(Ending.INVALID, Place("add", keys.DEAD, now, dead_entry(unit.raw, error, unit.queue, now)), error)


def poisoned(unit: UnitOfWork, error: PoisonPill, now: float) -> Outcome:
    """The end of a job that crashed its process too often: dead, even with `dead: false`, as somebody has to see it."""
    try:
        payload = decode(unit.raw)
    except InvalidPayload as invalid_payload:
        return invalid(unit, invalid_payload, now)
    return _Failure.of(unit, payload, error, now=now, default_retry=True).died(exhausted=True, keep=True)


def undecided(error: BaseException, now: float) -> Outcome:
    """The end of a job whose end could not be judged, because of a bug: it is retried later, its bytes unchanged."""
    return Outcome(Ending.RETRIED, Place("add", keys.RETRY, now + UNDECIDED_DELAY), error)


def later(unit: UnitOfWork, seconds: float, now: float) -> Place:
    """Where a job goes on in that time: the back of its queue, or the schedule."""
    if not seconds > 0:
        return BACK
    # A scheduled entry never has `enqueued_at`: whoever promotes it adds one, and looks for its queue there.
    entry = patch(unit.raw, {"enqueued_at": None, "queue": unit.queue})
    return Place("add", keys.SCHEDULE, now + min(seconds, DELAY_LIMIT), entry)


def was_interrupted(error: BaseException, by: tuple[type[BaseException], ...] = (Interruption,)) -> bool:
    """Whether an interruption is behind `error`: a job may wrap it, or fail in a `finally` on its way out."""
    seen: set[int] = set()
    links: list[BaseException | None] = [error]
    while links:
        link = links.pop()
        if isinstance(link, by):
            return True
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            links += (link.__cause__, link.__context__)
    return False


def backtrace(error: BaseException, keep: bool | int) -> str:
    """Sidekiq's `error_backtrace`: base64 of zlib of a JSON array of lines, the innermost first, as Ruby has them.

    Angle brackets (`<module>`) are written as parentheses: the Web UI does not escape them. `keep` is True for all
    lines, or how many.
    """
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f"{f.filename}:{f.lineno}:in {f.name}".replace("<", "(").replace(">", ")") for f in reversed(frames)]
    if keep is not True:
        lines = lines[: int(keep)]
    # A file name may hold bytes that are no UTF-8; Ruby's parser refuses what Python makes of them.
    text = json.dumps(lines, ensure_ascii=False).encode("utf-8", "replace")
    return base64.b64encode(zlib.compress(text)).decode()


def error_class(error: BaseException) -> str:
    """The name under which the Web UI shows an error: with its module, unless it is a builtin."""
    kind = type(error)
    name = kind.__qualname__.replace("<locals>.", "")
    # pyqik's own errors are known by the name under which they are public.
    module = str(kind.__module__)
    package = "pyqik" if module.startswith("pyqik.") else module
    return name if package == "builtins" else f"{package}.{name}"


def error_message(error: BaseException) -> str:
    """The error's text within Sidekiq's limit; what UTF-8 cannot hold is replaced."""
    try:
        text = str(error)
    except Interruption:
        raise
    except BaseException as broken:
        text = f"its message could not be made: {type(broken).__name__} in __str__"
    return text[:MESSAGE_LIMIT].encode("utf-8", "replace").decode()


@dataclass(frozen=True, slots=True)
class _Failure:
    """A failed run, with the fields that it adds to the payload."""

    unit: UnitOfWork
    payload: Payload
    error: BaseException
    now: float
    retry: bool | int
    count: int
    failed_at: float
    changes: dict[str, Any]

    @classmethod
    def of(
        cls, unit: UnitOfWork, payload: Payload, error: BaseException, *, now: float, default_retry: bool | int
    ) -> _Failure:
        retry = payload.get("retry")
        changes: dict[str, Any] = {}
        if retry is None:
            # As Sidekiq: the class's option decides, and is written down for the next time.
            retry = changes["retry"] = default_retry
        elif type(retry) is not int:
            retry = retry is not False
        previous = payload.get("retry_count")
        first = not isinstance(previous, int) or isinstance(previous, bool)
        count = 0 if first else min(previous, COUNT_LIMIT) + 1
        changes |= {
            "queue": payload.get("retry_queue") or unit.queue,
            "error_message": error_message(error),
            "error_class": error_class(error),
            "retry_count": count,
            "failed_at" if first else "retried_at": now,
        }
        if not first and payload.get("failed_at") is None:
            changes["failed_at"] = now  # The Web UI's page of the entry fails without it.
        # The Web UI has no link to an entry without a jid, and loses one whose args are no array when it is retried.
        if not isinstance(payload.get("args"), list):
            changes["args"] = payload.args
        if not payload.get("jid"):
            changes["jid"] = f"{random.getrandbits(96):024x}"
        if keep := payload.get("backtrace"):
            changes["error_backtrace"] = backtrace(error, keep if type(keep) is int else True)
        failed_at = now if first else seconds(payload.get("failed_at"), now)
        return cls(unit, payload, error, now, retry, count, failed_at, changes)

    def exhausted(self, max_retries: int) -> bool:
        """`retry_for` excludes `retry`, as since Sidekiq 8.1; the first failure of `retry: 0` is its last."""
        window = self.payload.get("retry_for")
        if isinstance(window, (int, float)) and not isinstance(window, bool) and window > 0:
            return self.failed_at + min(window, LONGEST_DURATION) < self.now
        return self.count >= (max_retries if self.retry is True or self.retry is False else self.retry)

    def died(self, *, exhausted: bool, keep: bool) -> Outcome:
        if self.payload.get("dead") is False and not keep:
            return self.dropped(Ending.DROPPED, exhausted=exhausted)
        return Outcome(Ending.DIED, self._entry(keys.DEAD, self.now), self.error, exhausted, self.changes)

    def dropped(self, ending: Ending, *, exhausted: bool) -> Outcome:
        # As Sidekiq's death handlers see it, since 8.0.8: only what is in no set has this field.
        return Outcome(ending, GONE, self.error, exhausted, {**self.changes, "discarded_at": self.now})

    def retried(self, retry_in: RetryRule | None, jitter: Callable[[int], int]) -> Outcome:
        count = max(0, min(self.count, BACKOFF_LIMIT))
        if isinstance(self.error, RetryIn):
            return self._retry_after(self.error.seconds)
        answer = retry_in(self.count, self.error) if retry_in and isinstance(self.error, Exception) else None
        if answer is KILL:
            return self.died(exhausted=True, keep=False)
        if answer is DISCARD:
            return self.dropped(Ending.DISCARDED, exhausted=False)
        delay = min(answer, DELAY_LIMIT) if isinstance(answer, (int, float)) and answer > 0 else count**4 + 15
        return self._retry_after(delay + jitter(10 * (count + 1)))

    def _retry_after(self, delay: float) -> Outcome:
        delay = 0.0 if math.isnan(delay) else min(delay, DELAY_LIMIT)
        return Outcome(Ending.RETRIED, self._entry(keys.RETRY, self.now + delay), self.error)

    def _entry(self, key: str, score: float) -> Place:
        return Place("add", key, score, patch(self.unit.raw, self.changes))
