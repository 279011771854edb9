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
from pyqik.wire.state_requests import Question, Save, StateReply, Writes

_tokens: Final = count(1)


class Killed(BaseException):
    """Leaves a job as the death of its process would, but for its `finally` and `with` blocks."""


class Stage:
    """See the module's docstring. It is the `pyqik.jobs.keeper.Keeper` of the run; everything is done at once."""

    def __init__(self, state: StateHash, plan: Plan) -> None:
        self._state = state
        self._plan = plan
        self._owner = b"pyqik.testing %d" % next(_tokens)
        self._run: LongRun | None = None
        self._flushed = False
        #: Where the files of the job are.
        self.storage = state.storage
        #: Whether the process has been killed.
        self.killed = False

    def stopping(self) -> bool:
        """Whether the process stops; asked at each boundary. Raises: Killed."""
        run, plan = self._run, self._plan
        if run is not None:
            # A worker would raise it when there is something to look at; here nobody does that meanwhile.
            run.attention = True
            if self._is_time_to_flush(run):
                run.save_unless_busy() if run.in_item else run.save()
            if self._is_time_to_die(run):
                self._die()
        items = 0 if run is None else run.done
        return plan.interrupt_after is not None and items >= plan.interrupt_after

    def ask(self, run: LongRun, question: Question, answer: Answer) -> None:
        """Answer at once; or die, before or after a write."""
        self._run = run
        if not isinstance(question, Save):
            answer.give(self._state.answer(self._owner, question))
            return
        if self.killed:
            # A generator of the job that is taken apart may still come by, where nothing must be raised.
            answer.give(StateReply("lost"))
            return
        dies, writes = self._is_time_to_die(run), self._is_time_to_flush(run)
        reply = self._state.answer(self._owner, question) if writes or not dies else None
        self._flushed = self._flushed or writes
        if dies:
            # Not raised here: some requests are made where nothing can be raised.
            self.killed = True
            answer.give(Killed("the process was killed, as planned"))
        elif reply is not None:
            answer.give(reply)

    def settle(self, writes: Writes) -> None:
        """The run has ended, and its outcome is written."""
        self._state.settle(self._owner, writes)

    def _is_time_to_die(self, run: LongRun) -> bool:
        return self._plan.crash_after is not None and run.done >= self._plan.crash_after

    def _is_time_to_flush(self, run: LongRun) -> bool:
        after = self._plan.flush_after
        return after is not None and not self._flushed and run.done >= after

    def _die(self) -> NoReturn:
        self.killed = True
        raise Killed("the process was killed, as planned")
