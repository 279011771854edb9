"""One unit of work, from its bytes to its outcome: decode → resolve → run → decide.

It never raises and never speaks to Redis. `open` belongs to the fetcher's thread; `perform` and `perform_async` to
whichever slot runs the job.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import structlog

from pyqik.core.clock import Clock
from pyqik.core.errors import Cancelled, Complete, Interruption, InvalidPayload, JobNotRegistered, Shutdown
from pyqik.core.events import events
from pyqik.core.job_options import is_duration
from pyqik.jobs import context
from pyqik.jobs.context import Context
from pyqik.jobs.definition import JobDefinition, Runnable
from pyqik.jobs.foreign import heed_foreign_fields
from pyqik.jobs.keeper import NOWHERE, Keeper
from pyqik.jobs.long_run import LongRun
from pyqik.jobs.middleware import ServerMiddleware, around
from pyqik.jobs.registry import Registry
from pyqik.jobs.run_files import Storage
from pyqik.jobs.storage import LOCAL
from pyqik.jobs.timetable import Rhythm
from pyqik.wire.broker import UnitOfWork
from pyqik.wire.payload import Payload, decode
from pyqik.worker.engine.board import Board
from pyqik.worker.engine.continuation import reason_of, with_state
from pyqik.worker.engine.forks import end_if_forked
from pyqik.worker.engine.handlers import Handlers
from pyqik.worker.engine.outcome import (
    DONE,
    Ending,
    Outcome,
    decide,
    error_class,
    error_message,
    invalid,
    undecided,
    was_interrupted,
)

log = structlog.get_logger("pyqik")


def _nowhere(unit: UnitOfWork) -> Keeper:
    return NOWHERE


@dataclass(slots=True, eq=False)
class Run:
    """One execution of a unit of work. `started` is monotonic, `started_at` epoch seconds; both 0 until it starts."""

    unit: UnitOfWork
    payload: Payload
    definition: JobDefinition | None
    #: It runs on the event loop rather than in a thread.
    is_async: bool = False
    #: Says where its state is kept, if it is a long job.
    keeper_of: Callable[[UnitOfWork], Keeper] = _nowhere
    problem: JobNotRegistered | None = None
    started: float = 0.0
    started_at: float = 0.0
    #: Seconds; 0 until it has ended.
    elapsed: float = 0.0
    runnable: Runnable | None = None
    #: Where it is, if it is a long job and has asked.
    long_run: LongRun | None = None
    #: Its own end, by `Complete` or by a cancellation.
    cut_short: Complete | Cancelled | None = None
    #: How log lines name it, once one does.
    named: dict[str, object] | None = None
    #: Set before the stop cancels its task: only then is a cancellation an interruption, and not the job's own doing.
    cancelled: bool = False
    #: Its end has been collected: whatever reports it again says nothing new.
    over: bool = False

    def duration(self, option: str) -> float | None:
        """The seconds that `option` says, in the payload or of the job; None if neither says any."""
        value = self.payload.get(option)
        if value is None and self.definition is not None:
            value = self.definition.options.get(option)
        if value is None:
            return None
        # Ruby may have written anything.
        return float(value) if is_duration(value) else None

    def enter(self, board: Board, slot: int) -> None:
        """Start: the board shows it in `slot`. The token of a landed unit may come from another thread meanwhile."""
        token = self.unit.token
        self.started, self.started_at = time.perf_counter(), time.time()
        board.enter(slot, token, self.started_at, self.duration("stuck_after") or 0.0)
        self.unit.slot = slot
        if not token and self.unit.token:
            board.name(slot, self.unit.token)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the configuration says about running jobs."""

    middleware: Sequence[ServerMiddleware] = ()
    max_retries: int = 25
    log_arguments: bool = False
    #: `retry` of a payload that has none, if its job says nothing either.
    default_retry: bool | int = True
    rhythm: Rhythm = field(default_factory=Rhythm)
    storage: Storage = LOCAL
    handlers: Handlers = field(default_factory=Handlers)


class Processor:
    """See the module's docstring. `stopping` is what a job's `current().stopping()` asks."""

    def __init__(self, registry: Registry, policy: Policy, clock: Clock, stopping: Callable[[], bool]) -> None:
        self._registry = registry
        self._policy = policy
        self._clock = clock
        self._stopping = stopping
        # Bound once: structlog's lazy proxy would otherwise make a new logger for each line.
        self._log = structlog.get_logger("pyqik").bind()
        self._logs_runs = self._log.is_enabled_for(logging.INFO)

    def open(self, unit: UnitOfWork, keeper_of: Callable[[UnitOfWork], Keeper] = _nowhere) -> Run | Outcome:
        """Decode the payload and find its job; an outcome if it is no payload at all. `keeper_of` is for its state."""
        try:
            payload = decode(unit.raw)
        except InvalidPayload as error:
            log.error("not a job; kept in the dead set", queue=unit.queue, bytes=len(unit.raw), error=str(error))
            events.emit("payload.invalid", raw=unit.raw, error=error)
            error.raw = unit.raw
            self._policy.handlers.invalid(error)
            return invalid(unit, error, self._clock.time())
        try:
            definition = self._registry.get(payload.job_class)
        except JobNotRegistered as error:
            return Run(unit, payload, None, problem=error)
        return Run(unit, payload, definition, definition.is_async, keeper_of)

    def perform(self, run: Run) -> Outcome:
        """Run a plain job in this thread."""
        payload = run.payload
        asked = Context(payload, self._stopping, partial(self._long_run, run))
        entered = context.enter(asked)
        try:
            definition = self._begin(run)
            with around(self._policy.middleware, payload) as proceed:
                if proceed:
                    args = payload.args
                    definition.check_arguments(args)
                    run.runnable = definition.create(payload)
                    try:
                        run.runnable.perform(*args)
                    except (Complete, Cancelled) as end:
                        run.cut_short = end
                    finally:
                        end_if_forked()
        except BaseException as error:
            return self._failed(run, error)
        finally:
            context.reset(entered)
        return self._done(run)

    async def perform_async(self, run: Run) -> Outcome:
        """Run an `async def` job in this task."""
        payload = run.payload
        asked = Context(payload, self._stopping, partial(self._long_run, run))
        entered = context.enter(asked)
        try:
            definition = self._begin(run)
            with around(self._policy.middleware, payload) as proceed:
                if proceed:
                    args = payload.args
                    definition.check_arguments(args)
                    run.runnable = definition.create(payload)
                    try:
                        await run.runnable.perform(*args)
                    except (Complete, Cancelled) as end:
                        run.cut_short = end
                    finally:
                        end_if_forked()
        except BaseException as error:
            if run.cancelled and was_interrupted(error, (asyncio.CancelledError,)):
                return self._failed(run, Shutdown("this process is ending"))
            failure = error
            return await _beside_the_loop(run, lambda: self._failed(run, failure))
        finally:
            context.reset(entered)
        return await _beside_the_loop(run, lambda: self._done(run))

    def _long_run(self, run: Run) -> LongRun:
        payload, rhythm = run.payload, self._policy.rhythm
        limit = run.duration("max_iteration_runtime") or rhythm.max_iteration_runtime
        keeper = run.keeper_of(run.unit)
        if not payload.jid:
            log.warning(
                "a long job without a jid: there is no name under which its state could be kept", **self._named(run)
            )
            keeper = NOWHERE
        run.long_run = LongRun(
            payload.display_class,
            payload.jid,
            keeper,
            self._stopping,
            Rhythm(rhythm.flush_interval, limit),
            self._policy.storage,
        )
        return run.long_run

    def _begin(self, run: Run) -> JobDefinition:
        """An unknown class ends here: it meets no middleware, as in Sidekiq."""
        if self._logs_runs:
            self._log_start(run)
        if events.subscribers:
            events.emit("job.started", unit=run.unit)
        if run.definition is None:
            raise run.problem or AssertionError("a run without a job must say why")
        if "bid" in run.payload.fields or "encrypt" in run.payload.fields:
            heed_foreign_fields(run.payload)
        return run.definition

    # The end of a run.

    def undecided(self, run: Run, error: BaseException) -> Outcome:
        """What becomes of a job whose end could not be judged, because of a bug; called while that is handled. It must
        not be lost for that, nor come back at once for ever.
        """
        _write(log.exception, "could not decide how the job ended; it is retried unchanged", **self._named(run))
        return undecided(error, self._clock.time())

    def _done(self, run: Run) -> Outcome:
        run.elapsed = time.perf_counter() - run.started
        if self._logs_runs:
            how = {"cut_short": str(run.cut_short)} if run.cut_short is not None else {}
            try:  # What `_write` does, without its call: every job comes by here.
                self._log.info("done", **self._named(run), elapsed=round(run.elapsed, 3), **how)
            except Exception:
                traceback.print_exc()
        if events.subscribers:
            events.emit("job.done", unit=run.unit, elapsed=run.elapsed)
        return DONE if run.long_run is None else self._with_state(run, DONE, None)

    def _with_state(self, run: Run, outcome: Outcome, error: BaseException | None) -> Outcome:
        if run.long_run is None or not run.long_run.opened:
            return outcome
        try:
            return with_state(outcome, error, run.unit, run.long_run, self._clock.time())
        finally:
            run.long_run.files.close()

    def _failed(self, run: Run, error: BaseException) -> Outcome:
        run.elapsed = time.perf_counter() - run.started
        try:
            outcome = self._decide(run, error)
        except Interruption:
            raise
        except BaseException:
            outcome = self.undecided(run, error)
        outcome = self._with_state(run, outcome, error)
        self._handle(run, outcome, error)
        self._account(run, outcome, error)
        # Its traceback holds what the job had in its hands.
        return replace(outcome, error=None)

    def _decide(self, run: Run, error: BaseException) -> Outcome:
        definition, runnable, default_retry = run.definition, run.runnable, self._policy.default_retry
        outcome = decide(
            run.unit,
            run.payload,
            error,
            now=self._clock.time(),
            max_retries=self._policy.max_retries,
            default_retry=definition.options.get("retry", default_retry) if definition else default_retry,
            retry_in=None if runnable is None else self._guarded(run, runnable),
        )
        if outcome.exhausted and runnable is not None and isinstance(error, Exception):
            try:
                runnable.retries_exhausted(error)
            except Interruption:
                raise
            except BaseException:
                log.exception("retries_exhausted raised", **self._named(run))
        return outcome

    def _handle(self, run: Run, outcome: Outcome, error: BaseException) -> None:
        """Before anything is counted or written: should the process end in the middle of it, the job is given back."""
        if outcome.given_up:
            self._policy.handlers.died(Payload({**decode(run.unit.raw).fields, **outcome.changes}), error)
        if outcome.failed or outcome.given_up:
            self._policy.handlers.failed(error, run.payload)

    def _guarded(self, run: Run, runnable: Runnable) -> Callable[[int, Exception], Any]:
        """An error inside `retry_in` means the usual back-off, as in Sidekiq."""

        def retry_in(count: int, error: Exception) -> Any:
            try:
                return runnable.retry_in(count, error)
            except Interruption:
                raise
            except BaseException:
                log.exception("retry_in raised; the usual back-off is used", **self._named(run))
                return None

        return retry_in

    def _account(self, run: Run, outcome: Outcome, error: BaseException) -> None:
        unit, elapsed = run.unit, run.elapsed
        named = {**self._named(run), "elapsed": round(elapsed, 3)}
        if outcome.ending is Ending.INTERRUPTED:
            reason = reason_of(error)
            _write(log.info, "interrupted; goes back to its queue", **named, reason=reason)
            events.emit("job.interrupted", unit=unit, reason=reason)
            return
        if outcome.ending is Ending.DISCARDED:
            _write(log.info, "done", **named, discarded=error_message(error))
            events.emit("job.discarded", unit=unit, error=error)
            return
        _write(
            log.warning,
            "fail",
            **named,
            then=outcome.ending.value,
            error_class=error_class(error),
            error_message=error_message(error),
            exc_info=error if run.definition else None,
        )
        events.emit("job.failed", unit=unit, error=error, outcome=outcome, elapsed=elapsed)
        if outcome.ending is Ending.DIED:
            events.emit("job.died", unit=unit, error=error)

    # Log lines.

    def _log_start(self, run: Run) -> None:
        if self._policy.log_arguments:
            self._log.info("start", **self._named(run), args=run.payload.args)
        else:
            self._log.info("start", **self._named(run))

    def _named(self, run: Run) -> dict[str, object]:
        if run.named is None:
            payload = run.payload
            run.named = {"jid": payload.jid, "class": payload.display_class, "queue": run.unit.queue}
            if tags := payload.get("tags"):
                run.named["tags"] = tags
        return run.named


async def _beside_the_loop(run: Run, judge: Callable[[], Outcome]) -> Outcome:
    """How the run has ended; what is left of its files is stored with that, or removed, which may take a while."""
    if run.long_run is None or not run.long_run.files.are_stored:
        return judge()
    judged = asyncio.ensure_future(asyncio.to_thread(judge))
    while not judged.done():
        # To be cancelled changes nothing any more: a stop that cannot wait ends the storing itself.
        with suppress(asyncio.CancelledError):
            await asyncio.shield(judged)
    return judged.result()


def _write(line: Callable[..., object], event: str, **fields: object) -> None:
    """Write a line of the log about a run that has ended: should that fail, the outcome still counts."""
    try:
        line(event, **fields)
    except Exception:
        traceback.print_exc()
