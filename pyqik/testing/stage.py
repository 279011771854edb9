"""What one run takes place on: a process that stops or dies as planned, and what keeps the job's state.

Both happen where a worker would do them: a stop is what `stopping()` says at a boundary between two items; a death is
the last thing that a boundary, or a write of the state, comes to.
"""

from __future__ import annotations

from itertools import count
from typing import Final, NoReturn

from pyqik.jobs.answer import Answer
from pyqik.jobs.long_run import LongRun
from pyqik.testing.plan import Plan
from pyqik.testing.state_hash import StateHash
from pyqik.wire.iteration import Fields, StateEnd, StateReply

_tokens: Final = count(1)


class Killed(BaseException):
    """Leaves a job as the death of its process would, but for its `finally` and `with` blocks."""


class Stage:
    """See the module's docstring. It is the `pyqik.jobs.long_run.Keeper` of the run; everything is done at once."""

    def __init__(self, state: StateHash, plan: Plan) -> None:
        self._state = state
        self._plan = plan
        self._owner = b"pyqik.testing %d" % next(_tokens)
        self._run: LongRun | None = None
        self._flushed = False
        #: Whether the process has been killed.
        self.killed = False

    def stopping(self) -> bool:
        """Whether the process stops; asked at each boundary. Raises: Killed."""
        run, plan = self._run, self._plan
        if run is not None:
            # A worker would raise it when there is something to look at; here nobody does that meanwhile.
            run.attention = True
            if self._is_time_to_flush(run):
                run.save()
            if self._is_time_to_die(run):
                self._die()
        items = 0 if run is None else run.items
        return plan.interrupt_after is not None and items >= plan.interrupt_after

    def open(self, run: LongRun) -> Answer:
        """Read the state, and own it from now on."""
        self._run = run
        return _given(Answer(run.hear), self._state.open(self._owner))

    def save(self, run: LongRun, fields: Fields) -> Answer:
        """Write these fields; or die, before or after that."""
        if self.killed:
            # A generator of the job that is taken apart may still come by, where nothing must be raised.
            return _given(Answer(), StateReply("lost"))
        dies, writes = self._is_time_to_die(run), self._is_time_to_flush(run)
        if dies and not writes:
            return _NoAnswer(self)
        reply = self._state.save(self._owner, fields)
        self._flushed = self._flushed or writes
        return _NoAnswer(self) if dies else _given(Answer(run.hear), reply)

    def settle(self, end: StateEnd | None) -> None:
        """The run has ended, and its outcome is written."""
        self._state.settle(self._owner, end)

    def _is_time_to_die(self, run: LongRun) -> bool:
        return self._plan.crash_after is not None and run.items >= self._plan.crash_after

    def _is_time_to_flush(self, run: LongRun) -> bool:
        after = self._plan.flush_after
        return after is not None and not self._flushed and run.items >= after

    def _die(self) -> NoReturn:
        self.killed = True
        raise Killed("the process was killed, as planned")


class _NoAnswer(Answer):
    """What a killed process hears. Not raised by `save` itself: some requests are made where nothing can be raised."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self._stage = stage
        self.give(StateReply("lost"))

    def wait(self) -> StateReply:
        self._stage._die()

    async def arrival(self) -> StateReply:
        self._stage._die()


def _given(answer: Answer, reply: StateReply) -> Answer:
    answer.give(reply)
    return answer
