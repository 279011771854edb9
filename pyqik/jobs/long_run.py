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
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

from pyqik.core.errors import Cancelled, Complete, Interrupted, InvalidCursor, PyqikError, Reason, Shutdown, StoreError
from pyqik.jobs.answer import Answer
from pyqik.jobs.beside import Besides, Content
from pyqik.jobs.blocking import warn_if_loop_runs
from pyqik.jobs.counters import Counters
from pyqik.jobs.keeper import NOWHERE, Keeper
from pyqik.jobs.run_files import RunFiles, Storage
from pyqik.jobs.slot import Slot
from pyqik.jobs.slots import Migrate, Slots
from pyqik.jobs.source import Codec
from pyqik.jobs.storage import LOCAL
from pyqik.jobs.timetable import FIVE_SECONDS, Rhythm, Timetable
from pyqik.wire import keys
from pyqik.wire.iteration import UNNAMED, State, read_state, write_state
from pyqik.wire.long_jobs import progress_fields
from pyqik.wire.state_requests import DEPLOY, Fields, HashWrite, Open, Question, Save, StateReply, Writes

T = TypeVar("T", bound=Content)

#: Seconds after which a job is offered again that is left to a younger process.
HANDOVER: Final = 2.0


class LongRun:
    """See the module's docstring. Used by the thread or task of the job, except where it says otherwise."""

    def __init__(
        self,
        name: str,
        jid: str,
        keeper: Keeper = NOWHERE,
        stopping: Callable[[], bool] = lambda: False,
        rhythm: Rhythm = FIVE_SECONDS,
        storage: Storage = LOCAL,
    ) -> None:
        self.name: Final = name
        self.jid: Final = jid
        self.key: Final = keys.iteration(jid)
        self.counters = Counters(lambda: self.items)
        #: Whether the next boundary has something to do; set from any thread.
        self.attention = False
        #: How many items (or checkpoints) this run has finished.
        self.items = 0
        #: How many of them, between two calls of `raise_if_stopping`, have found their id processed already.
        self.skips = 0
        #: Whether the current one has; and whether there is one.
        self.is_skipping = self._in_a_piece = False
        #: Whether it looks up in the middle of an item.
        self.in_item = False
        #: Whether this run counts as begun: not before its first callback has come through.
        self.begun = True
        #: Whether the process needs the memory; set from any thread.
        self.memory_is_short = False
        #: Whether somebody has cancelled the job, and whether another run has taken it over; heard from the keeper.
        self.cancelled = self.lost = False
        self._keeper = keeper
        self._stopping = stopping
        self._state = State()
        #: The hashes beside the state.
        self.besides = Besides(self._ask, self._check, self._unasked)
        self._opened = False
        self.files: Final = RunFiles(jid, storage, is_kept=keeper is not NOWHERE, behind=self._look_up)
        #: Why this run cannot go on.
        self._trouble: BaseException | None = None
        #: Its loops and steps.
        self.slots = Slots(name)
        self._saving: Answer | None = None
        self._times = Timetable(rhythm)

    @property
    def due(self) -> float:
        """When `attention` is next to be raised, as `time.monotonic` has it."""
        return self._times.due

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
        self.slots.load(self._state.loops)
        self.counters.load(self._state.counters)
        self.besides.known = self._state.beside
        self.cancelled = self._state.cancelled > 0
        self.files.load(reply.fields.get(b"files"))
        self._opened = True
        if b"over" in reply.fields:
            raise Complete
        self.attention = True
        self._times.note_write(time.monotonic())

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

    def _unasked(self, key: str, ended: bool) -> Fields:
        """How far it is, for those who look there, though this run says nothing of it."""
        if key != keys.progress(self.jid):
            return []
        return progress_fields(self.all_done, self.executions, time.time(), ended=ended)

    def beside(self, key: str, make: Callable[[], T], twin: str, kept: int = 0) -> T:
        """What the hash `key` holds, into what `make` makes when this run first asks for it; `kept` seconds after the
        job's end. Blocks, as `open` does, once for each thousand fields; async code should use `twin`. Raises: what
        `open` raises.
        """
        if key not in self.besides:
            warn_if_loop_runs(twin)
            self.open()
        return self.besides.open(key, make, kept)

    async def abeside(self, key: str, make: Callable[[], T], kept: int = 0) -> T:
        """`beside` for async code."""
        await self.aopen()
        return await self.besides.aopen(key, make, kept)

    @property
    def is_kept(self) -> bool:
        """Whether its state is kept anywhere."""
        return self._keeper is not NOWHERE

    def remove_files(self) -> None:
        """The job is over: nothing of its files is needed any more. That is written down first, as it would find them
        gone if its process died now. Blocks for two round trips, if there are any files.
        """
        if self.files.are_stored:
            over = self._ask(Save([HashWrite(self.key, [("over", b"1")])]))
            if over.wait().verdict == "ok":
                self.files.remove_all()

    # Loops and steps.

    def slot(
        self,
        name: str,
        codec: Codec[Any] | None = None,
        version: int = 0,
        migrate: Migrate | None = None,
        flush_interval: float | None = None,
    ) -> Slot[Any]:
        """Where the loop or step called `name` was; see `Slots.begin`. Needs an opened state."""
        slot = self.slots.begin(name, codec, version, migrate)
        self._times.begin_loop(flush_interval)
        self.attention = True
        return slot

    def resumable(self, codec: Codec[Any] | None = None, version: int = 0, migrate: Migrate | None = None) -> Slot[Any]:
        """Where the job, or the step that is being done, keeps what it saves by itself; made at the first call.

        Raises: PyqikError if a loop without a name keeps its cursor there.
        """
        slot = self.slots.saved_by_hand()
        if slot is None:
            slot = self.slot(UNNAMED, codec, version, migrate)
            self.slots.note_saved_by_hand()
        return slot

    def next_piece(self) -> None:
        """Another piece of work begins, between two calls of `raise_if_stopping`: so the last one is done."""
        if self._in_a_piece:
            self.items += 1
            self.skips += self.is_skipping
        self._in_a_piece, self.is_skipping = True, False

    # Boundaries.

    def _look_up(self) -> None:
        self.attention = True

    def attend(self, *, in_item: bool = False) -> None:
        """Between two items, or at a safe place inside of one: write the state down if it is time, and stop if told to.

        Raises: Interrupted, Cancelled, Shutdown; InvalidCursor; StoreError, OSError if a file cannot be stored.
        """
        self.in_item = in_item
        try:
            answer = self._tend()
            if answer is not None:
                answer.wait()
            self.stop_if_told()
        finally:
            self.in_item = False

    async def aattend(self) -> None:
        """`attend` for async code."""
        await self.files.catch_up()
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
        if self._trouble is not None:
            raise self._trouble
        reason = self._reason()
        if reason is not None:
            if self.done:
                if not self.in_item:
                    self._take_snapshots()
                raise Interrupted(reason)
            # Or a job could be thrown from process to process, and never get on.
            self.attention = True

    def save(self) -> Answer:
        """Between two items: write the state down now; the answer may be awaited, or not. Raises: InvalidCursor, and
        what taking a snapshot of a file raises.
        """
        return self._write(self._take_snapshots())

    def save_in_item(self) -> Answer:
        """The same with an item in hand. Raises: PyqikError if that would say more than a file's snapshot has."""
        if self._snapshots_lag:
            raise PyqikError(
                "what an item has done cannot be written before its end if a file is kept by snapshots; "
                "leave out `durable`, or put the file into another job"
            )
        return self._write()

    def save_unless_busy(self) -> None:
        """With an item in hand, write the state down, unless the last write is still under way: Redis may be slow, or
        away.
        """
        if not self._snapshots_lag and not self._is_busy:
            self._write()

    @property
    def _is_busy(self) -> bool:
        return self._saving is not None and not self._saving.given

    @property
    def _snapshots_lag(self) -> bool:
        return self.files.snapshots_lag(self.items)

    def _take_snapshots(self) -> float:
        """Seconds that it has taken."""
        return self.files.take_snapshots(self.items)

    def _write(self, cost: float = 0.0) -> Answer:
        self._times.note_write(time.monotonic(), cost)
        fields = self._fields()
        number, beside = self.besides.writes(self.items)
        if not self.files.is_used:
            self._saving = self._ask(Save([HashWrite(self.key, fields), *beside]), number)
            return self._saving
        answer = self._saving = Answer(partial(self._hear, number))

        def write(files: bytes) -> None:
            self._keeper.ask(self, Save([HashWrite(self.key, [*fields, ("files", files)]), *beside]), answer)

        def fail(error: BaseException) -> None:
            self._trouble, self.attention = error, True
            answer.give(error)

        self.files.commit(self.items, number, write, fail)
        return answer

    def _hear(self, number: int, reply: StateReply) -> None:
        """What the keeper has found; in its thread."""
        if reply.verdict == "ok":
            self.besides.answered(number)
            self.files.answered(number)
        else:
            self.lost = True
        if reply.cancelled:
            self.cancelled = True
        self.attention = self.attention or self.lost or self.cancelled

    def _tend(self) -> Answer | None:
        """An answer to wait for, if each item is to be safe before the next one begins."""
        now = time.monotonic()
        each = self._times.flush_interval == 0
        self.attention = each
        if not self._times.is_time_to_write(now) or (self.in_item and self._snapshots_lag):
            return None
        if each:
            return self.save()
        self._times.note_write(now)
        if not self._is_busy:
            self.save()
        return None

    def _reason(self) -> Reason | None:
        if self._stopping():
            return "stop"
        if self._times.is_over:
            return "time_slice"
        return "memory" if self.memory_is_short else None

    # The end.

    @property
    def recent_stops(self) -> list[float]:
        """When processes that stopped interrupted the job lately (epoch seconds), the oldest first."""
        return self._state.stops

    def last_writes(self, now: float, *, stopped: bool) -> Writes:
        """The state after this run, which ends at `now` (epoch seconds); `stopped` if the process made it end.

        Raises: InvalidCursor; StoreError, OSError if what is left of its files cannot be stored.
        """
        if self._snapshots_lag:
            raise StoreError("a file is kept by snapshots, and the last one is older than what was done")
        self._state.runtime += time.monotonic() - self._times.began
        if stopped:
            self._state.stops = [at for at in self._state.stops if at > now - DEPLOY] + [now]
        fields = self._fields()
        if self.files.is_used:
            fields.append(("files", self.files.commit_now(self.items)))
        return [HashWrite(self.key, fields), *self.besides.writes(self.items)[1]]

    def end_writes(self) -> Writes:
        """The job is done: its state goes, but for what is kept for those who ask later."""
        return [HashWrite(self.key, kept=0), *self.besides.writes(self.items, ended=True)[1]]

    def _fields(self) -> Fields:
        state = self._state
        state.loops = self.slots.written()
        state.counters = self.counters.committed(self.items)
        state.beside = self.besides.known
        written = replace(state, executions=state.executions + int(self.begun), items=state.items + self.done)
        return write_state(written, self.slots.latest)
