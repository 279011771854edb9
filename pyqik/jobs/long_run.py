"""One run of a long job: where it is, and whether it has to stop. The engine under every way to write one.

Its tasks:
1. open the state of the job, when something first asks for it, and say where each loop and step of it was;
2. at each boundary between two items, if `attention` is up: write the state down if it is time, and stop if told to;
3. say, at the end, what is written of it together with the outcome.
Redis is spoken to by the keeper, in another thread: nothing here waits for it but what says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeVar

from pyqik.core.errors import Cancelled, Interrupted, InvalidCursor, PyqikError, Reason, Shutdown
from pyqik.jobs.answer import Answer
from pyqik.jobs.beside import Besides, Content
from pyqik.jobs.blocking import warn_if_loop_runs
from pyqik.jobs.counters import Counters
from pyqik.jobs.keeper import NOWHERE, Keeper
from pyqik.jobs.slot import Slot
from pyqik.jobs.source import Codec, RowGiving
from pyqik.wire import keys
from pyqik.wire.iteration import (
    UNNAMED,
    Loop,
    State,
    decode_cursor,
    encode_cursor,
    read_state,
    write_state,
)
from pyqik.wire.state_requests import DEPLOY, Fields, HashWrite, Open, Question, Save, StateReply, Writes

T = TypeVar("T", bound=Content)

#: Seconds after which a job is offered again that is left to a younger process.
HANDOVER: Final = 2.0


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Seconds between two writes of the state (0: after each item), and until a run lets others have its place."""

    flush_interval: float = 5.0
    max_iteration_runtime: float | None = None


class LongRun:
    """See the module's docstring. Used by the thread or task of the job, except where it says otherwise."""

    def __init__(
        self,
        name: str,
        jid: str,
        keeper: Keeper = NOWHERE,
        stopping: Callable[[], bool] = lambda: False,
        rhythm: Rhythm = Rhythm(),
    ) -> None:
        self.name: Final = name
        self.jid: Final = jid
        self.key: Final = keys.iteration(jid)
        #: Seconds between two writes of the state.
        self.flush_interval = rhythm.flush_interval
        self.counters = Counters(lambda: self.items)
        #: Whether the next boundary has something to do; set from any thread.
        self.attention = False
        #: How many items (or checkpoints) this run has finished.
        self.items = 0
        #: How many of them, between two calls of `raise_if_stopping`, have found their id processed already.
        self.skips = 0
        #: Whether the current one has.
        self.is_skipping = False
        #: Whether this run counts as begun: not before its first callback has come through.
        self.begun = True
        #: Whether the process needs the memory; set from any thread.
        self.memory_is_short = False
        #: Whether somebody has cancelled the job, and whether another run has taken it over; heard from the keeper.
        self.cancelled = self.lost = False
        #: The names of the steps that are being done, the outermost first.
        self.path: list[str] = []
        self._keeper = keeper
        self._stopping = stopping
        self._rhythm = rhythm
        self._state = State()
        #: The hashes beside the state.
        self.besides = Besides(self._ask, self._check)
        self._opened = False
        self._slots: dict[str, Slot[Any]] = {}
        #: The names of those that belong to checkpoints, not to loops.
        self._saved_by_hand: set[str] = set()
        self._latest = UNNAMED
        self._saving: Answer | None = None
        self._began = self._flush_at = time.monotonic()
        #: When `attention` is next to be raised, as `time.monotonic` has it.
        self.due = self._began

    # Opening.

    @property
    def opened(self) -> bool:
        """Whether its state has been read."""
        return self._opened

    @property
    def resumed(self) -> bool:
        """Whether an earlier run has begun it."""
        return self._state.executions > 0

    @property
    def done(self) -> int:
        """How many items this run has done, without those that were done already."""
        return self.items - self.skips

    @property
    def all_done(self) -> int:
        """How many items all of the job's runs have done."""
        return self._state.items + self.done

    @property
    def executions(self) -> int:
        """How many runs have begun, this one included."""
        return self._state.executions + 1

    def open(self) -> None:
        """Read the state, once. Blocks for a round trip to Redis, for as long as Redis is away.

        Raises: InvalidCursor; Shutdown if the job has meanwhile become somebody else's, Interrupted if it should.
        """
        if not self._opened:
            self._read(self._ask(Open()).wait())

    async def aopen(self) -> None:
        """`open` for async code."""
        if not self._opened:
            self._read(await self._ask(Open()).arrival())

    def _read(self, reply: StateReply) -> None:
        if reply.verdict == "later":
            raise Interrupted("handover", HANDOVER)
        self._check(reply, self.key)
        self._state = read_state(reply.fields, self.key)
        self.counters.load(self._state.counters)
        self.besides.known = self._state.beside
        self.cancelled = self._state.cancelled > 0
        self._opened = True
        self.attention = True
        self._schedule(time.monotonic())

    def _check(self, reply: StateReply, key: str) -> None:
        if reply.verdict == "lost":
            self.lost = True
            raise Shutdown("another process has this job now")
        if reply.verdict == "broken":
            raise InvalidCursor(f"{key} is no state of a job ({reply.why}); remove that key to begin from the start")

    def _ask(self, question: Question, number: int = 0) -> Answer:
        """`number`: that of a write, see `Besides`."""
        answer = Answer(partial(self._hear, number))
        self._keeper.ask(self, question, answer)
        return answer

    # Hashes beside the state.

    def beside(self, key: str, content: T, kept: int = 0) -> T:
        """What the hash `key` holds, into `content` when this run first asks for it; `kept` seconds after the job's
        end. Blocks, as `open` does, once for each thousand fields. Raises: what `open` raises.
        """
        if key not in self.besides:
            warn_if_loop_runs()
            self.open()
        return self.besides.open(key, content, kept)

    async def abeside(self, key: str, content: T, kept: int = 0) -> T:
        """`beside` for async code."""
        await self.aopen()
        return await self.besides.aopen(key, content, kept)

    # Loops and steps.

    def slot(
        self,
        name: str,
        codec: Codec[Any] | None = None,
        version: int = 0,
        migrate: Migrate | None = None,
        flush_interval: float | None = None,
    ) -> Slot[Any]:
        """Where the loop or step called `name` was. Once a run for each name; needs an opened state.

        Raises: PyqikError for a second one of that name; InvalidCursor if `version` is not the saved one and `migrate`
        is missing.
        """
        self.resolve()
        full = "/".join([*self.path, name])
        if full in self._slots:
            what = f"is called {full!r}" if name else "has no name"
            raise PyqikError(f"{self.name} has a second loop that {what}; give each of them a name= of its own")
        loop = self._state.loops.get(full, Loop())
        if loop.cursor is not None and loop.version != version:
            loop = self._migrated(loop, version, migrate)
        self.flush_interval = self._rhythm.flush_interval if flush_interval is None else flush_interval
        self._flush_at = min(self._flush_at, time.monotonic() + self.flush_interval)
        self.due = min(self.due, self._flush_at)
        self.attention = True
        slot: Slot[Any] = Slot(loop, codec, version)
        self._slots[full], self._latest = slot, full
        return slot

    def _migrated(self, loop: Loop, version: int, migrate: Migrate | None) -> Loop:
        assert loop.cursor is not None
        if migrate is None:
            raise InvalidCursor(
                f"{self.name} was interrupted at a cursor of version {loop.version}, and this code's is {version}; "
                f"give a way to migrate it, or let code of version {loop.version} finish the job"
            )
        cursor = migrate(decode_cursor(loop.cursor), loop.version)
        if cursor is None:
            return Loop(version=version)
        return Loop(encode_cursor(cursor, self.name), loop.done, loop.behind, version)

    def resumable(self, codec: Codec[Any] | None = None, version: int = 0, migrate: Migrate | None = None) -> Slot[Any]:
        """Where the job, or the step that is being done, keeps what it saves by itself; made at the first call.

        Raises: PyqikError if a loop without a name keeps its cursor there.
        """
        full = "/".join([*self.path, UNNAMED])
        slot = self._slots.get(full)
        if slot is None:
            slot = self.slot(UNNAMED, codec, version, migrate)
            self._saved_by_hand.add(full)
        elif full not in self._saved_by_hand:
            raise PyqikError(f"{self.name} has a loop without a name, and checkpoints beside it; give the loop a name=")
        self._latest = full
        return slot

    @property
    def in_a_loop(self) -> bool:
        """Whether an item of a loop is being processed."""
        return any(slot.pairs is not None for slot in self._slots.values())

    def row_in_hand(self) -> RowGiving | None:
        """What can tell of the row of a file that is being processed, if one is."""
        giving = [slot.pairs for slot in self._slots.values() if isinstance(slot.pairs, RowGiving)]
        return giving[-1] if giving else None

    def rows_gone_over(self) -> int:
        """How many rows of files this run has done."""
        return sum(slot.rows_gone_over() for slot in self._slots.values())

    def leave_step(self) -> None:
        """The innermost step has come to its end: what is in it is not worth keeping any more."""
        inside = "/".join(self.path) + "/"
        self.path.pop()
        for name in [name for name in self._slots if name.startswith(inside)]:
            del self._slots[name]
        self._state.loops = {name: loop for name, loop in self._state.loops.items() if not name.startswith(inside)}

    def note_skip(self) -> None:
        """Another piece of work begins: whether the last one was none."""
        if self.is_skipping:
            self.is_skipping = False
            self.skips += 1

    def resolve(self) -> None:
        """The job goes on after a loop that was left before its end: so it was meant to end there."""
        for slot in self._slots.values():
            if slot.left:
                slot.left, slot.done = False, True

    # Boundaries.

    def attend(self) -> None:
        """Between two items: write the state down if it is time, and stop if told to.

        Raises: Interrupted, Cancelled, Shutdown; InvalidCursor.
        """
        answer = self._tend()
        if answer is not None:
            answer.wait()
        self.stop_if_told()

    async def aattend(self) -> None:
        """`attend` for async code."""
        answer = self._tend()
        if answer is not None:
            await answer.arrival()
        self.stop_if_told()

    def stop_if_told(self) -> None:
        """Raises: Cancelled, Shutdown; Interrupted, unless this run has not done a single item yet."""
        if self.lost:
            raise Shutdown("another run of this job has taken over")
        if self.cancelled:
            raise Cancelled("this job was cancelled")
        reason = self._reason()
        if reason is not None:
            if self.done:
                raise Interrupted(reason)
            # Or a job could be thrown from process to process, and never get on.
            self.attention = True

    def save(self) -> Answer:
        """Write the state down now; the answer may be awaited, or not. Raises: InvalidCursor."""
        self._schedule(time.monotonic())
        fields = self._fields()
        number, beside = self.besides.writes(self.items)
        self._saving = self._ask(Save([HashWrite(self.key, fields), *beside]), number)
        return self._saving

    def save_unless_busy(self) -> None:
        """Write the state down, unless the last write is still under way: Redis may be slow, or away."""
        if self._saving is None or self._saving.given:
            self.save()

    def _hear(self, number: int, reply: StateReply) -> None:
        """What the keeper has found; in its thread."""
        if reply.verdict == "ok":
            self.besides.answered(number)
        else:
            self.lost = True
        if reply.cancelled:
            self.cancelled = True
        self.attention = self.attention or self.lost or self.cancelled

    def _tend(self) -> Answer | None:
        """An answer to wait for, if each item is to be safe before the next one begins."""
        now = time.monotonic()
        self.attention = self.flush_interval == 0
        if now < self._flush_at:
            return None
        if self.flush_interval:
            self._schedule(now)
            self.save_unless_busy()
            return None
        return self.save()

    def _reason(self) -> Reason | None:
        if self._stopping():
            return "stop"
        limit = self._rhythm.max_iteration_runtime
        if limit is not None and time.monotonic() - self._began >= limit:
            return "time_slice"
        return "memory" if self.memory_is_short else None

    def _schedule(self, now: float) -> None:
        self._flush_at = self.due = now + self.flush_interval
        if self._rhythm.max_iteration_runtime is not None:
            self.due = min(self.due, self._began + self._rhythm.max_iteration_runtime)

    # The end.

    @property
    def recent_stops(self) -> list[float]:
        """When processes that stopped interrupted the job lately (epoch seconds), the oldest first."""
        return self._state.stops

    def last_writes(self, now: float, *, stopped: bool) -> Writes:
        """The state after this run, which ends at `now` (epoch seconds); `stopped` if the process made it end.

        Raises: InvalidCursor.
        """
        self._state.runtime += time.monotonic() - self._began
        if stopped:
            self._state.stops = [at for at in self._state.stops if at > now - DEPLOY] + [now]
        fields = self._fields()
        return [HashWrite(self.key, fields), *self.besides.writes(self.items)[1]]

    def end_writes(self) -> Writes:
        """The job is done: its state goes, but for what is kept for those who ask later."""
        return [HashWrite(self.key, kept=0), *self.besides.writes(self.items, ended=True)[1]]

    def cursor(self) -> Any:
        """The cursor of the loop that was begun last, as JSON has it; None before its first item."""
        loops = self._written()
        text = loops[self._latest].cursor if self._latest in loops else None
        return None if text is None else decode_cursor(text)

    def _fields(self) -> Fields:
        state = self._state
        state.loops = self._written()
        state.counters = self.counters.committed(self.items)
        state.beside = self.besides.known
        written = replace(state, executions=state.executions + int(self.begun), items=state.items + self.done)
        return write_state(written, self._latest)

    def _written(self) -> dict[str, Loop]:
        return {**self._state.loops, **{name: slot.written(self.name) for name, slot in self._slots.items()}}


#: Called with a cursor, as JSON has it, and its version; returns that of this code's version, or None to begin anew.
Migrate = Callable[[Any, int], Any]
