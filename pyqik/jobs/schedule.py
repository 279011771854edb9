"""When a job runs: intervals and points in time, as Sidekiq reads them."""

from __future__ import annotations

import math
import time
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from pyqik.core.errors import InvalidJob

#: Seconds or a timedelta from now; or epoch seconds or an aware datetime.
When: TypeAlias = float | timedelta | datetime

#: A number below this is seconds from now, from it on epoch seconds: so Sidekiq reads `perform_in` and `perform_at`.
_EPOCH_FROM: Final = 1_000_000_000


def due(when: When) -> float | None:
    """The epoch seconds at which a job given `when` runs; None if that is now or past, so that it is pushed at once.

    Raises: InvalidJob for a naive datetime and for what is no time.
    """
    now = time.time()
    if isinstance(when, timedelta):
        at = now + when.total_seconds()
    else:
        at = point_in_time(when)
        if at < _EPOCH_FROM and not isinstance(when, datetime):
            at += now
    return at if at > now else None


def point_in_time(at: float | datetime) -> float:
    """`at` as epoch seconds. Raises: InvalidJob for a naive datetime and for what is no time."""
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise InvalidJob(
                f"the time {at.isoformat()} has no time zone; write datetime(..., tzinfo=UTC) or value.astimezone()"
            )
        return at.timestamp()
    if isinstance(at, bool) or not isinstance(at, (int, float)) or not math.isfinite(at):
        raise InvalidJob(f"the time is {at!r}; write epoch seconds, a timedelta or an aware datetime")
    return float(at)
