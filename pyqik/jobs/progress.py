"""How far a long job is: said by the job, and read by anybody who knows its jid."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pyqik.core.errors import PyqikError
from pyqik.jobs.beside import Changes
from pyqik.jobs.context import a_job_runs, current_long_run
from pyqik.jobs.counters import Counters, Number
from pyqik.jobs.long_run import LongRun
from pyqik.wire import keys
from pyqik.wire.long_jobs import progress_fields
from pyqik.wire.replies import real, whole

#: Seconds for which it can be read after the job's end.
KEPT: Final = 86_400

#: Seconds in which the pace forgets two thirds of what it was.
_PACE_MEMORY: Final = 60.0
#: Letters of a note that are kept.
_NOTE_LIMIT: Final = 1000
#: A number is smaller; NaN is not.
_LIMIT: Final = 2**63


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the job `jid` was when its state was written last: every five seconds, and whenever a run ends."""

    jid: str
    #: What the job says or, if it says nothing, how many items its runs have done.
    done: int | float
    #: What the job says; None if it says nothing.
    total: int | float | None = None
    #: What the job says.
    note: str = ""
    #: See `pyqik.rows`.
    failed_rows: int = 0
    #: That of the item that comes next, as JSON has it.
    cursor: Any = None
    #: How many runs have begun.
    executions: int = 0
    #: Seconds that those took that have ended.
    runtime: float = 0.0
    #: How much is done in a second, lately; 0 if that is not known.
    pace: float = 0.0
    #: When this was written, and when the job came to its end (epoch seconds); None if that is not known.
    updated_at: float | None = None
    ended_at: float | None = None

    @property
    def percent(self) -> float | None:
        """From 0 to 100; None without a total."""
        if not self.total or self.total < 0:
            return None
        return max(0.0, min(100.0 * self.done / self.total, 100.0))

    @property
    def eta(self) -> float | None:
        """Seconds from `updated_at` until all is done, at the pace it had lately; None if that is not known."""
        if self.ended_at is not None or self.total is None or self.pace <= 0:
            return None
        return max(0.0, (self.total - self.done) / self.pace)


def progress_of(
    jid: str, state: Mapping[bytes, bytes], said: Mapping[bytes, bytes], failed_rows: int = 0
) -> Progress | None:
    """What the hashes `it-<jid>` and `progress/<jid>` say; None if neither is there."""
    if not state and not said:
        return None
    items = whole(said.get(b"items", state.get(b"items")))
    # Whoever writes it without pyqik says what is done, and nothing of items.
    done = _number(said.get(b"done")) if b"own" in said or b"items" not in said else None
    return Progress(
        jid,
        items if done is None else done,
        _number(said.get(b"total")),
        said.get(b"note", b"").decode("utf-8", "replace"),
        failed_rows,
        _json(state.get(b"c", b"null")),
        whole(state.get(b"ex", said.get(b"ex"))),
        real(state.get(b"rt")),
        real(said.get(b"pace")),
        _number(said.get(b"at")),
        _number(said.get(b"ended")),
    )


class OwnProgress:
    """That of the job which runs; see `pyqik.jobs.beside.Content`. Other processes hear of it within five seconds.

    An item that fails or is interrupted is done again, so what it had added to `done` by then is not kept.
    """

    def __init__(self, run: LongRun) -> None:
        self._run = run
        self._said = Counters(lambda: run.items)
        self._total: Number | None = None
        self._note = ""
        self._pace = 0.0
        self._measured_at = time.monotonic()
        #: What was done then, and whether the job had said so.
        self._measured: Number = run.all_done
        self._measured_own = False

    @property
    def done(self) -> int | float:
        """How much is done; the items of the job, unless it says something else."""
        said: dict[str, Number] = dict(self._said)
        return said.get("done", self._run.all_done)

    @done.setter
    def done(self, value: int | float) -> None:
        self._said["done"] = _checked("done", value)

    @property
    def total(self) -> int | float | None:
        """How much there is to do; None if that is not known."""
        return self._total

    @total.setter
    def total(self, value: int | float | None) -> None:
        self._total = None if value is None else _checked("total", value)

    @property
    def note(self) -> str:
        """What the job does just now, in words for whoever looks."""
        return self._note

    @note.setter
    def note(self, text: str) -> None:
        if type(text) is not str:
            raise TypeError(f"progress.note is {text!r}; write a text")
        self._note = text[:_NOTE_LIMIT]

    def advance(self, by: int | float = 1) -> None:
        """So much more is done."""
        self.done = self.done + by

    def load(self, fields: Mapping[bytes, bytes]) -> None:
        """What an earlier run has left."""
        done = _number(fields.get(b"done"))
        if done is not None and b"own" in fields:
            self._said.load({"done": done})
            self._measured, self._measured_own = done, True
        self._total = _number(fields.get(b"total"))
        self._note = fields.get(b"note", b"").decode("utf-8", "replace")
        self._pace = real(fields.get(b"pace"))

    def changes(self, items: int, *, ended: bool) -> Changes:
        """All of it, as it changes with every write."""
        said = dict(self._said) if ended else self._said.committed(items)
        done = said.get("done", self._run.all_done)
        self._measure(done, own="done" in said)
        fields = {
            "done": repr(done).encode(),
            "own": b"1" if "done" in said else b"",
            "total": b"" if self._total is None else repr(self._total).encode(),
            "note": self._note.encode("utf-8", "replace"),
            "pace": repr(round(self._pace, 6)).encode(),
            **dict(progress_fields(self._run.all_done, self._run.executions, time.time(), ended=ended)),
        }
        return Changes(fields)

    def _measure(self, done: Number, *, own: bool) -> None:
        now = time.monotonic()
        passed = now - self._measured_at
        if own != self._measured_own:
            # What was said to be done before says nothing of the pace.
            self._measured_at, self._measured, self._measured_own = now, done, own
            return
        if passed < 0.5:
            return
        rate = max(0.0, (done - self._measured) / passed)
        weight = 1.0 if not self._pace else 1 - math.exp(-passed / _PACE_MEMORY)
        self._pace += weight * (rate - self._pace)
        self._measured_at, self._measured = now, done


class CurrentProgress:
    """How far the job is that runs here, for whoever looks:

        pyqik.progress.total = len(orders)
        pyqik.progress.note = "writing the orders"

    `done` are the items of the job, unless it says something else, by `done = ...` or by `advance(n)`. Web processes
    read it with `Client.progress(jid)`, Ruby with `HGETALL progress/<jid>`, people with `pyqik progress JID`, until a
    day after the job's end. Its first use in a run blocks for a round trip to Redis; in async code write
    `progress = await pyqik.aprogress()` first. Raises, outside of a job: PyqikError.
    """

    @property
    def done(self) -> int | float:
        """How much is done; the items of the job, unless it says something else."""
        return self._current().done

    @done.setter
    def done(self, value: int | float) -> None:
        self._current().done = value

    @property
    def total(self) -> int | float | None:
        """How much there is to do; None if that is not known."""
        return self._current().total

    @total.setter
    def total(self, value: int | float | None) -> None:
        self._current().total = value

    @property
    def note(self) -> str:
        """What the job does just now, in words for whoever looks."""
        return self._current().note

    @note.setter
    def note(self, text: str) -> None:
        self._current().note = text

    def advance(self, by: int | float = 1) -> None:
        """So much more is done."""
        self._current().advance(by)

    def __repr__(self) -> str:
        return "<the progress of the job that runs here>"

    def _current(self) -> OwnProgress:
        run = _run()
        return run.beside(keys.progress(run.jid), lambda: OwnProgress(run), "pyqik.aprogress", KEPT)


#: How far the job is that runs here.
progress: Final = CurrentProgress()


async def aprogress() -> CurrentProgress:
    """`pyqik.progress` for async code: what it needs has been read when this returns."""
    run = _run()
    await run.abeside(keys.progress(run.jid), lambda: OwnProgress(run), KEPT)
    return progress


def _run() -> LongRun:
    if not a_job_runs():
        raise PyqikError("no job runs here; pyqik.progress works in a job and in what it calls")
    return current_long_run()


def _checked(name: str, value: Any) -> Number:
    if type(value) in (int, float):
        number: Number = value
        if abs(number) < _LIMIT:
            return number
        # Python refuses to write out a whole number of thousands of digits, so the value is not shown.
        raise TypeError(f"progress.{name} is out of range; write a finite number below 2**63")
    raise TypeError(f"progress.{name} is {value!r}; write a finite number below 2**63")


def _number(text: bytes | None) -> Number | None:
    """The number that a field holds, whoever has written it."""
    try:
        number = json.loads(text or b"null")
        return _checked("", number)
    except (ValueError, TypeError, RecursionError):
        return None


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
