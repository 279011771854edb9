"""One run of a job, from its payload to where it goes, as a worker runs it; and what a test may ask about it."""

from __future__ import annotations

import asyncio
import json
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Self, TypeAlias

from pyqik.core.config import Config
from pyqik.core.errors import Interruption, PyqikError, Reason
from pyqik.jobs.counters import Number
from pyqik.jobs.failed_rows import FailedRows
from pyqik.jobs.processed import ids_of
from pyqik.jobs.progress import Progress, progress_of
from pyqik.jobs.registry import Registry
from pyqik.jobs.run_files import RunFiles
from pyqik.testing.plan import Plan
from pyqik.testing.stage import Killed, Stage
from pyqik.testing.state_hash import StateHash
from pyqik.wire import keys
from pyqik.wire.broker import UnitOfWork
from pyqik.wire.payload import Payload, decode, patch
from pyqik.wire.replies import whole
from pyqik.worker.engine.capsules import policy_of
from pyqik.worker.engine.continuation import reason_of
from pyqik.worker.engine.handlers import Handlers
from pyqik.worker.engine.outcome import Ending, Outcome
from pyqik.worker.engine.processor import Processor
from pyqik.worker.engine.processor import Run as Execution

#: Where a job goes: it is gone; to the front or the back of its queue; or into the set of that name.
Place: TypeAlias = Literal["gone", "front", "back", "retry", "schedule", "dead"]

_PLACES: Final[Mapping[str, Place]] = {
    "drop": "gone",
    "front": "front",
    "back": "back",
    keys.RETRY: "retry",
    keys.SCHEDULE: "schedule",
    keys.DEAD: "dead",
}


@dataclass(frozen=True, slots=True)
class Case:
    """What all runs of a job have in common: the jobs that there are, and the configuration."""

    registry: Registry
    config: Config


class Run:
    """How one run of a job ended, and where the job is now. It does not change, but for `cancel`."""

    #: Done; also by `Complete`, or as it was cancelled.
    completed: bool
    #: It goes on later, at the same item.
    interrupted: bool
    #: It has raised `error`.
    failed: bool
    #: It was dropped: by `Discard`, or by a `retry_in` that answers `DISCARD`.
    discarded: bool
    #: Its process was killed.
    crashed: bool
    #: It has heard that somebody has cancelled the job.
    cancelled: bool
    #: Why it was interrupted: "stop", "asked", "throttled", "time_slice", ...; None if it was not.
    reason: Reason | None
    #: What the job has raised, if it failed or was discarded.
    error: BaseException | None
    #: Where the job is now. One whose process was killed is given back to the front of its queue.
    place: Place
    #: Seconds after which it goes on, or is retried; None if it is neither in the schedule nor among the retries.
    delay: float | None
    #: How many items this run has done: those of loops, checkpoints, calls of `raise_if_stopping` and finished steps.
    items: int
    #: How many runs of the job have begun, this one included; 0 for a job that never asked where it was.
    executions: int
    #: The job's numbers: those that are kept for its next run or, when it is done, those that it had at its end.
    counters: Mapping[str, Number]
    #: The job's hash where it is now; where it is gone, as it was run.
    payload: Payload
    #: What befell the job up to here, in words: "stopped after 3 items".
    story: str

    def __init__(
        self, trial: Trial, outcome: Outcome | None, error: BaseException | None, told: tuple[str, ...]
    ) -> None:
        self._trial = trial
        self._outcome = outcome
        self._state: Final = trial.state
        ending = None if outcome is None else outcome.ending
        self.completed = ending is Ending.DONE
        self.interrupted = ending is Ending.INTERRUPTED
        self.failed = outcome is not None and outcome.failed
        self.discarded = ending is Ending.DISCARDED
        self.crashed = outcome is None
        self.reason = reason_of(error) if self.interrupted else None
        self.error = error if self.failed or self.discarded else None
        self._read_place()
        self._read_long_run()
        self._told = (*told, *self._tale(trial.plan))
        self.story = ", then ".join(self._told) or "not interrupted"

    @property
    def state(self) -> dict[str, str]:
        """The hash `it-<jid>` as it stands in Redis now; empty if there is none."""
        return self._state.text()

    @property
    def cursor(self) -> Any:
        """The cursor in the state, as JSON has it and as the Web UI shows it: that of the item that comes next. None if
        there is no state, or no item was reached. Of several loops or steps, the one begun last by its name.
        """
        return json.loads(self.state.get("c", "null"))

    def processed(self, kind: str) -> set[int] | set[str]:
        """The ids of this kind that are kept for the job's next run, see `pyqik.processed`; none when it is done."""
        return ids_of(self._state.beside.get(keys.processed(self.payload.jid, kind), {}))

    @property
    def progress(self) -> Progress:
        """How far the job is now, or was when it was done, as `Client.progress` says it."""
        jid, beside = self.payload.jid, self._state.beside
        failed = whole(beside.get(keys.rows(jid), {}).get(b"failed"))
        said = progress_of(jid, self._state.fields, beside.get(keys.progress(jid), {}), failed)
        return said or Progress(jid, self._all_done)

    @property
    def rows(self) -> FailedRows:
        """The rows of an import that have failed, as `Client.rows` says it."""
        jid, beside = self.payload.jid, self._state.beside
        return FailedRows.read(beside.get(keys.rows(jid), {}), beside.get(keys.errors(jid), {}))

    @property
    def files(self) -> dict[str, bytes]:
        """The files of the job, by name: what its next run finds of them or, when it is done, what they were then."""
        if self.completed:
            return dict(self._trial.files)
        files = RunFiles(self.payload.jid, self._state.storage)
        files.load(self._state.fields.get(b"files"))
        try:
            return files.contents()
        finally:
            files.close()

    @property
    def published(self) -> dict[str, bytes]:
        """What the job has published, by address; of a path it is the path itself that tells."""
        return self._state.storage.published.objects

    def again(
        self, *, interrupt_after: int | None = None, crash_after: int | None = None, flush_after: int | None = None
    ) -> Run:
        """Run the job again from here, as a worker would that gets it next: after an interruption, a crash, an error
        (as a retry), or its death (as the Web UI's Retry button does). See `pyqik.testing.perform`.

        It may be called more than once, each time from here. Raises: PyqikError if the job is gone.
        """
        return self._next(Plan(interrupt_after, crash_after, flush_after)).here()

    async def aagain(
        self, *, interrupt_after: int | None = None, crash_after: int | None = None, flush_after: int | None = None
    ) -> Run:
        """`again` for async tests."""
        return await self._next(Plan(interrupt_after, crash_after, flush_after)).there()

    def _next(self, plan: Plan) -> Trial:
        """The job's next run, yet to take place. Raises: PyqikError if the job is gone."""
        self._refuse_if_gone("run")
        raw, payload = self._raw, self.payload
        if self.place in ("retry", "schedule", "dead"):
            changes: dict[str, Any] = {"enqueued_at": time.time()}
            if self.place == "dead":
                # The button gives the retry back that the failure has cost.
                changes["retry_count"] = payload["retry_count"] - 1
            raw = patch(raw, changes)
        return Trial(self._trial.case, UnitOfWork(b"", payload.queue, raw), self._state, plan, self._told)

    def cancel(self) -> None:
        """Cancel the job, as `Client.cancel` does: its next run hears of it. Raises: PyqikError if it is gone."""
        self._refuse_if_gone("cancel")
        self._state.cancel(time.time())

    def or_raise(self) -> Self:
        """This run, unless it failed: then raise what the job has raised."""
        if self.failed and self.error is not None:
            raise self.error
        return self

    def __repr__(self) -> str:
        return f"<Run of {self.payload.display_class}: {self.story}; {self._how()}, {self.items} items>"

    def _how(self) -> str:
        if self.failed or self.discarded:
            how = "failed" if self.failed else "discarded"
            return f"{how} with {self.error!r}, {self.place}"
        if self.interrupted:
            return f"interrupted ({self.reason}), {self.place}"
        return "crashed" if self.crashed else "completed"

    def _tale(self, plan: Plan) -> list[str]:
        if self.crashed or (self.reason == "stop" and plan.interrupt_after is not None):
            return [str(plan)]
        if self.interrupted:
            return [f"interrupted ({self.reason})"]
        return [f"failed with {type(self.error).__name__}"] if self.failed else []

    def _read_place(self) -> None:
        trial, outcome = self._trial, self._outcome
        self.place, self.delay = "front", None
        self._raw = trial.unit.raw
        if outcome is not None:
            place = outcome.place
            self.place = _PLACES[place.key if place.verb == "add" else place.verb]
            self._raw = place.payload or self._raw
            if self.place in ("retry", "schedule"):
                self.delay = round(place.score - trial.now, 3)
        self.payload = decode(self._raw)

    def _read_long_run(self) -> None:
        long_run = self._trial.execution.long_run
        self.cancelled = long_run is not None and long_run.cancelled
        self.items = 0 if long_run is None else long_run.done
        self._all_done = 0 if long_run is None else long_run.all_done
        self.executions = 0 if long_run is None else long_run.executions
        if self.completed:
            self.counters = {} if long_run is None else dict(long_run.counters)
        else:
            self.counters = json.loads(self.state.get("counters", "{}"))

    def _refuse_if_gone(self, what: str) -> None:
        if self.place == "gone":
            how = "completed" if self.completed else "discarded" if self.discarded else "dropped, as it is not retried"
            raise PyqikError(
                f"{self.payload.display_class} was {how}: there is nothing left to {what}; "
                f"call pyqik.testing.perform for a new job"
            )


class Trial:
    """One run that is yet to take place: `unit` over `state`, of which it takes a copy."""

    def __init__(self, case: Case, unit: UnitOfWork, state: StateHash, plan: Plan, told: tuple[str, ...] = ()) -> None:
        self.case = case
        self.unit = unit
        self.state = state.copy()
        self.plan = plan
        self._told = told
        self._stage = Stage(self.state, plan)
        self._clock = _Clock()
        self._processor = _WatchedProcessor(case, self._clock, self._stage)
        execution = self._processor.open(unit, lambda _: self._stage)
        if isinstance(execution, Outcome):
            raise PyqikError(f"what is to be run is no job: {unit.raw!r}")
        self.execution = execution

    @property
    def files(self) -> dict[str, bytes]:
        """The files of the job when it was done."""
        return self._processor.files

    @property
    def now(self) -> float:
        """The epoch seconds at which the run ended."""
        return self._clock.now

    def here(self) -> Run:
        """Run it in this thread; an async job on an event loop of its own.

        Raises: PyqikError for an async job where a loop runs already.
        """
        if self.execution.is_async:
            if _a_loop_runs():
                raise PyqikError(
                    f"{self.execution.payload.display_class} is an async job, and an event loop runs in this thread; "
                    f"await the form for async code: testing.aperform, run.aagain, queues.adrain, job.aperform_async"
                )
            return asyncio.run(self.there())
        self._start()
        try:
            outcome = self._processor.perform(self.execution)
        except Killed as death:
            return self._run(None, death)
        return self._run(outcome, self._processor.error)

    async def there(self) -> Run:
        """Run it on this event loop; a plain job in a thread beside it, as in a worker."""
        if not self.execution.is_async:
            return await asyncio.to_thread(self.here)
        self._start()
        try:
            outcome = await self._processor.perform_async(self.execution)
        except Killed as death:
            return self._run(None, death)
        return self._run(outcome, self._processor.error)

    def _start(self) -> None:
        self.execution.started, self.execution.started_at = time.perf_counter(), time.time()

    def _run(self, outcome: Outcome | None, error: BaseException | None) -> Run:
        if self._stage.killed:
            outcome = None  # Whatever the job has made of that.
        if outcome is not None:
            self._stage.settle(outcome.place.state)
        if self.execution.long_run is not None:
            self.execution.long_run.files.close()
        if error is not None:
            _let_go(error)
        self.execution.runnable = self._processor.error = None
        return Run(self, outcome, error, self._told)


class _WatchedProcessor(Processor):
    """The engine's own, which also says what a job has raised. A killed process judges nothing any more."""

    def __init__(self, case: Case, clock: _Clock, stage: Stage) -> None:
        config = case.config
        handlers = Handlers(config.error_handlers, config.death_handlers)
        policy = replace(policy_of(config, handlers), storage=stage.storage)
        super().__init__(case.registry, policy, clock, stage.stopping)
        self._stage = stage
        self.error: BaseException | None = None
        #: The files of the job, as they were when it was done.
        self.files: dict[str, bytes] = {}

    def _with_state(self, run: Execution, outcome: Outcome, error: BaseException | None) -> Outcome:
        if outcome.ending is Ending.DONE and run.long_run is not None and run.long_run.files.is_used:
            self.files = run.long_run.files.contents()
        return super()._with_state(run, outcome, error)

    def _failed(self, run: Execution, error: BaseException) -> Outcome:
        if self._stage.killed:
            raise Killed
        if _is_meant_for_the_test(run, error):
            raise error
        self.error = error
        return super()._failed(run, error)


class _Clock:
    """The real one. The end of a run, which is all that it is asked for, is one moment: delays are what was meant."""

    now = 0.0

    def time(self) -> float:
        self.now = self.now or time.time()
        return self.now

    def monotonic(self) -> float:
        return time.monotonic()


def _is_meant_for_the_test(run: Execution, error: BaseException) -> bool:
    """Whether it is the test that is to end, and not its job: Ctrl-C, `pytest.fail`, a time limit around it."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task() if run.is_async else None
        return task is not None and task.cancelling() > 0
    return not isinstance(error, (Exception, Interruption, SystemExit))


def _let_go(error: BaseException) -> None:
    """Free what the job had in its hands, as a worker does: an open file is closed before the test looks into it."""
    seen: set[int] = set()
    links: list[BaseException | None] = [error]
    while links:
        link = links.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            traceback.clear_frames(link.__traceback__)
            links += (link.__cause__, link.__context__)


def _a_loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
