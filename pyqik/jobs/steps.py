"""What a plain function says to be resumable: `resume` and `checkpoint`, `raise_if_stopping`, and `step`.

None of them waits for Redis, but the first that a job calls, which reads its state, the end of a step, and a checkpoint
with `flush=True`. In an `async def` these block the event loop meanwhile; `aresume` and `acheckpoint` do not, nor does
`async with step(...)`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, MutableMapping
from types import FrameType, TracebackType
from typing import Any, Final, Self, TypeVar

from pyqik.core.errors import PyqikError
from pyqik.jobs.blocking import warn_if_loop_runs
from pyqik.jobs.context import a_job_runs, current_long_run
from pyqik.jobs.counters import Counters
from pyqik.jobs.long_run import LongRun
from pyqik.jobs.skipping import Skipped, skip_block
from pyqik.jobs.slot import Slot
from pyqik.jobs.slots import Migrate
from pyqik.jobs.source import Codec

T = TypeVar("T")


def resume(default: T, *, version: int = 0, migrate: Migrate | None = None, codec: Codec[T] | None = None) -> T:
    """What the last `checkpoint` of this job (of this step, inside of one) has saved; `default` if there is none.

        for day in range(pyqik.resume(0), days):
            rebuild(day)
            pyqik.checkpoint(day + 1)

    The other parameters are those of `each`. Raises: InvalidCursor; Interrupted and its like.
    """
    run = _opened()
    return _resumed(run, default, version, migrate, codec)


async def aresume(default: T, *, version: int = 0, migrate: Migrate | None = None, codec: Codec[T] | None = None) -> T:
    """`resume` for async code."""
    run = current_long_run()
    await run.aopen()
    return _resumed(run, default, version, migrate, codec)


def checkpoint(state: Any, *, flush: bool = False) -> None:
    """Save `state`, for `resume` in the next run, should there be one; and stop here if the process stops.

    It is any value that JSON gives back as it was, or that the codec of `resume` writes. It is written every five
    seconds (`flush_interval` of the configuration), whenever the job ends without being done, and with `flush` now: the
    call then returns when it is written.

    Raises: InvalidCursor for a value that JSON does not hold; Interrupted, Cancelled and Shutdown, to be let pass.
    """
    run = _opened()
    _put(run, state)
    if flush:
        warn_if_loop_runs()
        run.save().wait()
    if run.attention:
        run.attend()


async def acheckpoint(state: Any, *, flush: bool = False) -> None:
    """`checkpoint` for async code."""
    run = current_long_run()
    await run.aopen()
    _put(run, state)
    if flush:
        await run.save().arrival()
    if run.attention:
        await run.aattend()


def raise_if_stopping() -> None:
    """A safe place to stop: raises Interrupted if the process stops, or Cancelled if somebody has cancelled the job.

    Like an item of a loop it comes between two pieces of work, so the first call of a run lets the job begin.
    """
    run = _opened()
    run.slots.resolve()
    in_item = run.slots.in_a_loop
    if not in_item:
        run.next_piece()
    if run.attention:
        run.attend(in_item=in_item)


class CurrentCounters(MutableMapping[str, Any]):
    """The numbers of the job that runs here: `pyqik.counters["mailed"] += 1`; see `pyqik.jobs.counters.Counters`.

    They are 0 before they are set, survive together with the cursor, and end with the job. Raises, outside of a job:
    PyqikError.
    """

    def __getitem__(self, name: str) -> Any:
        return self._current()[name]

    def __contains__(self, name: object) -> bool:
        return name in self._current()

    def __setitem__(self, name: str, value: Any) -> None:
        self._current()[name] = value

    def __delitem__(self, name: str) -> None:
        del self._current()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._current())

    def __len__(self) -> int:
        return len(self._current())

    def __repr__(self) -> str:
        return "<the counters of the job that runs here>"

    def _current(self) -> Counters:
        if not a_job_runs():
            raise PyqikError("no job runs here; pyqik.counters works in a job and in what it calls")
        return _opened().counters


#: The numbers of the job that runs here.
counters: Final = CurrentCounters()


def step(name: str) -> Step:
    """One of several steps in a row; one that is finished is skipped when the job is resumed:

        with pyqik.step("load") as step:
            for day in range(step.resume(0), days):
                load(day)
                step.checkpoint(day + 1)
        with pyqik.step("announce"):
            announce()

    Steps may contain loops and steps. Each has a name of its own; a block that is skipped leaves no variables behind.
    In an `async def` write `async with`. Raises: PyqikError for a second step of that name.
    """
    return Step(name)


class Step:
    """What `step` returns."""

    def __init__(self, name: str) -> None:
        if type(name) is not str or not name or "/" in name:
            raise PyqikError(f"a step is called {name!r}; give it a name without `/`")
        self.name = name
        self._run: LongRun | None = None
        self._slot: Slot[Any] | None = None
        self._skipped: Skipped | None = None

    def resume(
        self, default: T, *, version: int = 0, migrate: Migrate | None = None, codec: Codec[T] | None = None
    ) -> T:
        """What the last `checkpoint` of this step has saved; see `pyqik.resume`."""
        return resume(default, version=version, migrate=migrate, codec=codec)

    async def aresume(
        self, default: T, *, version: int = 0, migrate: Migrate | None = None, codec: Codec[T] | None = None
    ) -> T:
        """`resume` for async code."""
        return await aresume(default, version=version, migrate=migrate, codec=codec)

    def checkpoint(self, state: Any, *, flush: bool = False) -> None:
        """Save where this step is; see `pyqik.checkpoint`."""
        checkpoint(state, flush=flush)

    async def acheckpoint(self, state: Any, *, flush: bool = False) -> None:
        """`checkpoint` for async code."""
        await acheckpoint(state, flush=flush)

    def __enter__(self) -> Self:
        self._enter(_opened(), sys._getframe(1))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if self._left(error):
            assert self._run is not None
            self._run.save().wait()
        return self._skipped is not None and error is self._skipped

    async def __aenter__(self) -> Self:
        run = current_long_run()
        await run.aopen()
        self._enter(run, sys._getframe(1))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if self._left(error):
            assert self._run is not None
            await self._run.save().arrival()
        return self._skipped is not None and error is self._skipped

    def _enter(self, run: LongRun, frame: FrameType) -> None:
        run.stop_if_told()
        self._run, self._slot = run, run.slot(self.name)
        if self._slot.done:
            self._skipped = skip_block(frame)
        else:
            run.slots.path.append(self.name)

    def _left(self, error: BaseException | None) -> bool:
        """Whether the step has just been finished."""
        assert self._run is not None
        assert self._slot is not None
        if self._skipped is not None:
            self._skipped.restore_tracing()
            if error is None:
                raise PyqikError(
                    f"the finished step {self.name!r} could not be skipped; write its block on lines of its own"
                )
            return False
        if error is not None:
            if self._run.slots.path[-1:] == [self.name]:
                self._run.slots.path.pop()
            return False
        self._run.slots.leave_step()
        self._slot.done = True
        self._run.items += 1
        self._run.counters.commit()
        return True


def _opened() -> LongRun:
    run = current_long_run()
    if not run.opened:
        warn_if_loop_runs()
        run.open()
    return run


def _resumed(run: LongRun, default: T, version: int, migrate: Migrate | None, codec: Codec[T] | None) -> T:
    saved = run.resumable(codec, version, migrate).saved()
    run.stop_if_told()
    return default if saved is None else saved


def _put(run: LongRun, state: Any) -> None:
    run.resumable().put(state, run.name)
    run.items += 1
