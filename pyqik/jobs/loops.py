"""`pyqik.each`: a loop of a job that can be interrupted between two items, and goes on there."""

from __future__ import annotations

import asyncio
import dis
import inspect
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any, Final, Generic, TypeAlias, TypeVar

from pyqik.core.errors import ContinueIn, Interrupted, PyqikError
from pyqik.jobs.context import current_long_run
from pyqik.jobs.long_run import LongRun
from pyqik.jobs.slot import Slot
from pyqik.jobs.slots import Migrate
from pyqik.jobs.source import Codec, Source, Throttled
from pyqik.wire.iteration import Loop

T = TypeVar("T")
C = TypeVar("C")

#: A function that yields pairs of item and cursor, from the cursor on that it is given; from the first for None.
Opens: TypeAlias = Callable[[C | None], Iterator[tuple[T, C]]]
AsyncOpens: TypeAlias = Callable[[C | None], AsyncIterator[tuple[T, C]]]

#: What Python does with the iterator of a loop that is left by `break` or `return`, and not by an exception.
_DROPS: Final = {dis.opmap[name] for name in ("POP_TOP", "POP_ITER") if name in dis.opmap}


def each(
    source: Source[T, C] | Opens[C, T] | AsyncOpens[C, T],
    /,
    *,
    name: str = "",
    version: int = 0,
    migrate: Migrate | None = None,
    codec: Codec[C] | None = None,
    flush_interval: float | None = None,
) -> Each[T]:
    """Go over the items of `source`; the job can be interrupted before each of them, and then goes on there.

        for row in pyqik.each(enumerators.csv_rows(path)):
            ...

    In an `async def` write `async for`. A source is one of `pyqik.enumerators`, or a generator function that takes a
    cursor (None: from the beginning) and yields pairs of item and cursor. One loop of a job, or of a step, may do
    without a `name`; Sidekiq knows its cursor, too. The end of a loop is written down before it is left, also by
    `break`, so that it never begins again.

    `version` says what the cursors mean: if another one was saved, `migrate(cursor, its_version)` gives the cursor in
    the terms of this one, or None to begin anew. `codec` writes cursors that JSON does not hold. `flush_interval` is in
    seconds, in place of the configuration's; with 0 the state is written after each item, and waited for.

    Outside of a job it is a plain loop. Raises, in the loop: InvalidCursor, SourceChanged, PyqikError; Interrupted,
    Cancelled and Shutdown, which the job must let pass.
    """
    return Each(source, name, version, migrate, codec, flush_interval)


class Each(Generic[T]):
    """What `each` returns: to be iterated once, with `for` or with `async for`."""

    def __init__(
        self,
        source: Any,
        name: str = "",
        version: int = 0,
        migrate: Migrate | None = None,
        codec: Codec[Any] | None = None,
        flush_interval: float | None = None,
    ) -> None:
        if inspect.isgenerator(source) or inspect.isasyncgen(source):
            raise PyqikError(
                "each() was given a generator, which cannot be opened in the middle; give it the function itself, "
                "which takes a cursor, or a source of pyqik.enumerators"
            )
        if not isinstance(source, Source) and not callable(source):
            raise PyqikError(
                f"each() was given a {type(source).__name__}, whose items have no cursors; give it "
                "pyqik.enumerators.array(...), or a function that takes a cursor and yields pairs of item and cursor"
            )
        self._source = source
        self._name = name
        self._version = version
        self._migrate = migrate
        self._codec = codec if codec is not None else getattr(source, "codec", None)
        self._flush_interval = flush_interval

    def __iter__(self) -> Iterator[T]:
        run = current_long_run()
        run.open()
        slot = self._slot(run)
        if slot.done:
            run.stop_if_told()
            return iter(())
        return walk(run, slot, opened(self._source, slot))

    def __aiter__(self) -> AsyncIterator[T]:
        return AsyncWalk(self._begin, getattr(self._source, "blocking", False))

    async def _begin(self) -> tuple[LongRun, Slot[Any], Any]:
        run = current_long_run()
        await run.aopen()
        slot = self._slot(run)
        if slot.done:
            run.stop_if_told()
            return run, slot, None
        return run, slot, opened(self._source, slot)

    def _slot(self, run: LongRun) -> Slot[Any]:
        return run.slot(self._name, self._codec, self._version, self._migrate, self._flush_interval)


def opened(source: Any, slot: Slot[Any]) -> Any:
    """The pairs of `source` from where the slot says."""
    saved = slot.saved()
    if not isinstance(source, Source):
        slot.is_own = True
        return source(saved)
    slot.one_by_one = source.one_by_one
    if saved is None or slot.bookmark is None:
        return source.open(saved)
    return source.reopen(saved, slot.bookmark)


def walk(run: LongRun, slot: Slot[Any], pairs: Iterator[tuple[T, Any]]) -> Generator[T]:
    """The items of `pairs`, with `slot` telling which one is being processed: what every loop turns on."""
    slot.pairs = pairs
    at_boundary = False
    frame = id(sys._getframe(1))
    try:
        remaining = slot.without_done(pairs)
        for item, slot.cursor in remaining:
            if run.attention:
                at_boundary = True
                slot.check(run.name)
                slot.look_where_it_begins(run.name)
                run.attend()
                at_boundary = False
            yield item
            run.items += 1
        slot.look_where_it_begins(run.name)
        slot.done = True
        run.save().wait()
    except GeneratorExit:
        if _is_dropped_by(sys._getframe(1), frame):
            slot.finish()
            run.items += 1
            run.save().wait()
        else:
            slot.left = True
        raise
    except Exception as error:
        if not at_boundary:
            _source_failed(run, slot, error)
        raise
    finally:
        slot.close()


class AsyncWalk(Generic[T]):
    """The same for `async for`, over pairs that come from an iterator or from an asynchronous one.

    Nothing that it has may refer to it: it has to end in the moment in which the loop is left.
    """

    def __init__(self, begin: Callable[[], Awaitable[tuple[LongRun, Slot[Any], Any]]], blocking: bool) -> None:
        self._begin = begin
        self._executor = ThreadPoolExecutor(1, "pyqik-source") if blocking else None
        self._run: LongRun | None = None
        self._slot: Slot[Any] = Slot(Loop())
        self._pairs: Any = None
        self._frame = 0
        self._over = False

    def __aiter__(self) -> AsyncWalk[T]:
        return self

    async def __anext__(self) -> T:
        if self._over:
            raise StopAsyncIteration
        if self._run is None:
            self._frame = id(sys._getframe(1))
            await self._start()
        else:
            self._run.items += 1
        assert self._run is not None
        run, slot = self._run, self._slot
        try:
            item: T
            item, slot.cursor = await self._next()
        except StopAsyncIteration:
            await self._finish(run)
            raise
        except Exception as error:
            _source_failed(run, slot, error)
            raise
        if run.attention:
            slot.check(run.name)
            slot.look_where_it_begins(run.name)
            await run.aattend()
        return item

    def __del__(self) -> None:
        if self._over or self._run is None:
            return
        if _is_dropped_by(sys._getframe(1), self._frame):
            self._do(self._slot.finish)
            self._run.items += 1
            self._run.save()  # Nothing can be awaited here.
        else:
            self._slot.left = True
        self._close()

    async def _start(self) -> None:
        run, slot, pairs = await self._begin()
        if pairs is None:
            self._over = True
            raise StopAsyncIteration
        slot.pairs = pairs
        self._run, self._slot = run, slot
        if hasattr(pairs, "__anext__"):
            self._pairs = slot.without_done_async(pairs)
        else:
            self._pairs = iter(slot.without_done(pairs))

    async def _next(self) -> Any:
        if hasattr(self._pairs, "__anext__"):
            return await self._pairs.__anext__()
        if self._executor is None:
            pair = next(self._pairs, None)
        else:
            pair = await asyncio.get_running_loop().run_in_executor(self._executor, next, self._pairs, None)
        if pair is None:
            raise StopAsyncIteration
        return pair

    async def _finish(self, run: LongRun) -> None:
        self._over = True
        self._slot.look_where_it_begins(run.name)
        self._slot.done = True
        self._close()
        await run.save().arrival()

    def _close(self) -> None:
        self._do(self._slot.close)
        if self._executor is not None:
            self._executor.shutdown(wait=False)

    def _do(self, call: Callable[[], None]) -> None:
        if self._executor is None:
            call()
        else:
            # In the thread that has opened it: a connection of sqlite3 may belong to that one.
            self._executor.submit(call).result()


def _is_dropped_by(frame: FrameType, iterating: int) -> bool:
    """Whether a loop is left by `break` or `return`, and not by an exception: the iterator hears of all in one way.

    `frame` is where the iterator is dropped, `iterating` the id of the frame that it was iterated in. In doubt it was
    an exception; what the job does next then tells (`LongRun.resolve`).
    """
    return id(frame) == iterating and frame.f_code.co_code[frame.f_lasti] in _DROPS


def _source_failed(run: LongRun, slot: Slot[Any], error: Exception) -> None:
    """Asked for the next item, the source has raised: the one at the cursor is done, and the next one is not known."""
    trace = error.__traceback__
    if isinstance(error, (TypeError, ValueError)) and "unpack" in str(error) and trace and trace.tb_next is None:
        # Raised by the loop itself: `item, cursor = ...`.
        raise PyqikError(
            f"a loop of {run.name} goes over a generator that does not yield pairs of item and cursor ({error})"
        ) from None
    if isinstance(error, Throttled):
        slot.cursor = error.cursor
    elif slot.cursor is not None:
        slot.behind = slot.one_by_one
    if isinstance(error, ContinueIn):
        # As `except Exception` around the loop must not swallow it.
        raise Interrupted("throttled", error.seconds) from None
