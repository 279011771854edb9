"""How the run of a long job ends: what is written of its state, and where an interrupted job goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import structlog

from pyqik.core.errors import ContinueIn, Interrupted, InvalidCursor, Reason, Shutdown, StoreError
from pyqik.jobs.long_run import LongRun
from pyqik.wire.broker import BACK, FRONT, Place, UnitOfWork
from pyqik.worker.engine.outcome import Ending, Outcome, later

log = structlog.get_logger("pyqik")

#: Seconds: interrupted more often than that by processes that stop, a job lets those behind it go first.
STOPPED_LATELY: Final = 60.0
#: Seconds for which the older of two runs of a jid stands back: it would only take the state away from the other again.
STAND_BACK: Final = 60.0


def reason_of(error: BaseException | None) -> Reason:
    """Why a run was interrupted that ended with `error`."""
    if isinstance(error, Interrupted):
        return error.reason
    return "asked" if isinstance(error, ContinueIn) else "stop"


def with_state(outcome: Outcome, error: BaseException | None, unit: UnitOfWork, run: LongRun, now: float) -> Outcome:
    """`outcome` together with what becomes of the state of `run`, in one write."""
    if outcome.place.verb == "drop":
        _remove_files(run)
        return replace(outcome, place=replace(outcome.place, state=run.end_writes()))
    place = outcome.place
    stopped = False
    if outcome.ending is Ending.INTERRUPTED:
        stopped = reason_of(error) == "stop"
        place = _place_of_interrupted(place, error, unit, run, now)
    try:
        state = run.last_writes(now, stopped=stopped)
    except (InvalidCursor, StoreError, OSError, Shutdown) as trouble:
        log.error("where the job was cannot be written; it goes on from what was saved before", error=str(trouble))
        return replace(outcome, place=place)
    return replace(outcome, place=replace(place, state=state))


def _remove_files(run: LongRun) -> None:
    try:
        run.remove_files()
    except (StoreError, OSError, Shutdown) as trouble:
        log.warning("what was stored of a finished job's files is left behind", key=run.key, error=str(trouble))


def _place_of_interrupted(
    place: Place, error: BaseException | None, unit: UnitOfWork, run: LongRun, now: float
) -> Place:
    if run.lost:
        return later(unit, STAND_BACK, now)
    reason = reason_of(error)
    if reason in ("asked", "throttled"):
        return place
    if reason == "time_slice":
        return BACK
    lately = any(at > now - STOPPED_LATELY for at in run.recent_stops)
    return BACK if lately or run.done == 0 else FRONT
