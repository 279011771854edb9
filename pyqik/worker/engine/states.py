"""The states of the long jobs that one capsule runs: read and written in the fetcher's own round trips.

Its tasks:
1. pass on what running jobs ask, from their threads, and the answers;
2. raise the attention of a job when it is time to write its state, or its time slice is over, or the process stops;
3. warn of an item that takes longer than a stop would wait;
4. keep interrupted jobs from standing before all others.
It has no thread of its own.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from pyqik.core.errors import Shutdown
from pyqik.jobs.answer import Answer
from pyqik.jobs.long_run import LongRun
from pyqik.wire.broker import BACK, FRONT, Place, UnitOfWork
from pyqik.wire.state_requests import Question, StateReply

log = structlog.get_logger("pyqik")

#: Interrupted jobs that one capsule puts to the front of their queues at most, if half of its slots are fewer.
FRONT_LIMIT: Final = 10


@dataclass(slots=True, eq=False)
class _Request:
    """One request of a running job; see `pyqik.wire.state_requests.StateRequest`."""

    unit: UnitOfWork
    key: str
    question: Question
    answer: Answer

    @property
    def token(self) -> bytes:
        return self.unit.token


@dataclass(slots=True, eq=False)
class _Watched:
    """A long job that runs, and since when (`time.monotonic`) it is at the same item."""

    run: LongRun
    unit: UnitOfWork
    since: float
    items: int = 0
    warned: bool = False


class States:
    """See the module's docstring. `wake` rouses the fetcher; `timeout` are the seconds that a stop waits; `slots` says
    how many threads run jobs.
    """

    def __init__(self, wake: Callable[[], None], timeout: float, slots: int) -> None:
        self._wake = wake
        self._timeout = timeout
        self._lock = threading.Lock()
        self._requests: list[_Request] = []
        self._watched: dict[UnitOfWork, _Watched] = {}
        self._closed = False
        self._front_places = max(slots // 2, FRONT_LIMIT)
        #: When the next of them is due, as `time.monotonic` has it.
        self.due = math.inf

    # For the threads and tasks of jobs.

    def ask(self, unit: UnitOfWork, run: LongRun, question: Question, answer: Answer) -> None:
        """Have Redis answer; see `pyqik.jobs.keeper.Keeper`."""
        with self._lock:
            if self._closed:
                answer.give(Shutdown("this process is ending"))
                return
            self._requests.append(_Request(unit, run.key, question, answer))
            if unit not in self._watched:
                self._watched[unit] = _Watched(run, unit, time.monotonic())
            self.due = min(self.due, run.due)
        self._wake()

    # For the fetcher's thread.

    def requests(self) -> Sequence[_Request]:
        """What can be asked of Redis now: a unit that has just landed has no token yet."""
        with self._lock:
            return [request for request in self._requests if request.unit.token]

    def answered(self, requests: Sequence[_Request], replies: Sequence[StateReply]) -> None:
        """Redis's replies, in that order."""
        with self._lock:
            done = set(requests)
            self._requests = [request for request in self._requests if request not in done]
        for request, reply in zip(requests, replies, strict=True):
            request.answer.give(reply)

    def tick(self) -> None:
        """Look after those that are due."""
        now = time.monotonic()
        if now < self.due:
            return
        with self._lock:
            for watched in self._watched.values():
                self._look(watched, now)
            # Not sooner than in a moment: a job that does not come to its next item stays due.
            self.due = max(now + 0.1, min((each.run.due for each in self._watched.values()), default=math.inf))

    def forget(self, unit: UnitOfWork) -> None:
        """Its run has ended."""
        if unit in self._watched:
            with self._lock:
                del self._watched[unit]

    def place(self, place: Place) -> Place:
        """Where an interrupted job goes: with those that the process gives back as it stops, short jobs must still find
        free slots among those that the next process has.
        """
        if place.verb != FRONT.verb or not place.state:
            return place
        self._front_places -= 1
        return place if self._front_places >= 0 else replace(place, verb=BACK.verb)

    # For any thread.

    def rouse(self) -> None:
        """Have every long job look up at its next item: the process stops."""
        with self._lock:
            for watched in self._watched.values():
                watched.run.attention = True

    def free_memory(self) -> None:
        """Have every long job end at its next item, as the process has grown too large."""
        with self._lock:
            for watched in self._watched.values():
                watched.run.memory_is_short = watched.run.attention = True

    def interrupt(self) -> None:
        """Let go of the jobs that wait for an answer: they are being interrupted."""
        with self._lock:
            waiting, self._requests = self._requests, []
            runs = [watched.run for watched in self._watched.values()]
        for request in waiting:
            request.answer.give(Shutdown("this process is ending"))
        for run in runs:
            run.files.give_up(Shutdown("this process is ending"))

    def close(self) -> None:
        """Nothing will be answered any more."""
        with self._lock:
            self._closed = True
        self.interrupt()

    def _look(self, watched: _Watched, now: float) -> None:
        run = watched.run
        if now >= run.due:
            run.attention = True
        if run.items != watched.items:
            watched.items, watched.since, watched.warned = run.items, now, False
        elif now - watched.since > self._timeout and not watched.warned:
            watched.warned = True
            log.warning(
                "one item takes longer than a stop would wait; it would be cut off and done again",
                **{"class": run.name, "key": run.key, "seconds": round(now - watched.since, 1)},
                timeout=self._timeout,
            )


class UnitKeeper:
    """Keeps the state of one unit of work's run; see `pyqik.jobs.keeper.Keeper`."""

    def __init__(self, states: States, unit: UnitOfWork) -> None:
        self._states = states
        self._unit = unit

    def ask(self, run: LongRun, question: Question, answer: Answer) -> None:
        """Have Redis answer."""
        self._states.ask(self._unit, run, question, answer)
