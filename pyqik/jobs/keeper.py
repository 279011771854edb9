"""Whoever keeps the state of a long job: the engine in Redis, `pyqik.testing` in memory; or nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from pyqik.jobs.answer import Answer
from pyqik.wire.state_requests import Question, StateReply

if TYPE_CHECKING:
    from pyqik.jobs.long_run import LongRun


class Keeper(Protocol):
    """Whoever keeps the state of one run."""

    def ask(self, run: LongRun, question: Question, answer: Answer) -> None:
        """Have Redis answer, after everything that was asked before; returns at once. The keeper looks after the run's
        `due` from its first question until it ends.
        """
        ...


class _Nowhere:
    """Keeps nothing: for a job that is called like any function."""

    def ask(self, run: LongRun, question: Question, answer: Answer) -> None:
        answer.give(StateReply("ok"))


NOWHERE: Final = _Nowhere()
