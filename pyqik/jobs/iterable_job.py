"""Jobs that go over many items, one after the other, as a class with callbacks: Sidekiq's Iteration.

Source: sidekiq/job/iterable.rb at 7.3 and 8.1, whose order of callbacks this keeps.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, ClassVar, Final

from pyqik.core.errors import Cancelled, Complete, ContinueIn, Interrupted, InvalidJob
from pyqik.core.functions import runs_when_called
from pyqik.jobs.arguments import ArgumentsCheck
from pyqik.jobs.context import current_long_run, standalone
from pyqik.jobs.definition import JobDefinition
from pyqik.jobs.job import Job
from pyqik.jobs.long_run import LongRun
from pyqik.jobs.loops import AsyncWalk, opened, walk
from pyqik.jobs.slot import Slot
from pyqik.jobs.source import Codec, Source

_CALLBACKS: Final = ("on_start", "on_resume", "on_stop", "on_cancel", "on_complete", "migrate_cursor")


class IterableJob(Job, abstract=True):
    """A job that can be interrupted between two items, and goes on there:

        class BackfillSlugs(pyqik.IterableJob, name="BackfillSlugs", queue="low"):
            def build_enumerator(self, ids: list[int], *, cursor: int | None) -> Source[int, int]:
                return enumerators.array(ids)

            def each_iteration(self, post_id: int, ids: list[int]) -> None:
                write_slug(post_id)

    The class arguments are those of `Job`. If `each_iteration` is an `async def`, the job runs on the event loop, and
    any of the others may be one, too. A run calls, in this order: `build_enumerator`; `on_start`, or `on_resume` if
    there was a run before; for each item `around_iteration` and in it `each_iteration`; `on_cancel` if somebody has
    cancelled the job; `on_stop`, however the run ends, unless by an exception; `on_complete`, unless it is interrupted.

    What a callback or an item raises makes the job fail, and be retried from the item that comes next. `on_start`
    counts as done when it has returned, and no item is done again for an `on_stop` or `on_complete` that fails; in an
    interrupted run an error of `on_stop` is only logged. `raise pyqik.Complete()` ends the iteration as if it were
    through, and `raise pyqik.ContinueIn(seconds)` interrupts it.
    """

    #: What the cursors of this code mean. After a change, count it up and write `migrate_cursor`.
    cursor_version: ClassVar[int] = 0
    #: How its cursors are written; None for what JSON gives back as it was, and for a source that knows.
    cursor_codec: ClassVar[Codec[Any] | None] = None
    #: Seconds between two writes of the state, None for the configuration's; 0: after each item, before the next.
    flush_interval: ClassVar[float | None] = None

    #: The arguments of this run.
    arguments: tuple[Any, ...] = ()
    #: The item that is being processed; None before the first.
    current_object: Any = None
    _is_async: ClassVar[bool] = False
    _run: LongRun | None = None
    _slot: Slot[Any] | None = None
    _source: Any = None

    # Of all signatures, type checkers let only this one be overridden by any other.
    def build_enumerator(self, *args: Any, **kwargs: Any) -> Any:
        """What the job goes over: a `Source`, or any iterator of pairs of item and cursor that begins at `cursor`.

        Write it with the job's own arguments and a keyword `cursor`: that of the item that comes next, None at the
        first start. A `Source` is opened there by the engine. None as the answer ends the job, which counts as done;
        no callback is called then.
        """
        raise NotImplementedError

    def each_iteration(self, item: Any, *args: Any, **kwargs: Any) -> Any:
        """Do the work for one item. `args` are those of the job."""
        raise NotImplementedError

    def around_iteration(self) -> Any:
        """A generator with one `yield`, where `each_iteration` runs: for a transaction, or a time limit."""
        raise NotImplementedError

    def on_start(self) -> Any:
        """Before the first item, in the first run."""

    def on_resume(self) -> Any:
        """Before the first item of any later run, after an interruption, an error or a crash."""

    def on_stop(self) -> Any:
        """After the last item of this run, whether the job goes on later or not."""

    def on_cancel(self) -> Any:
        """When somebody has cancelled the job."""

    def on_complete(self) -> Any:
        """After the last item of the last run, or after `on_cancel`."""

    def migrate_cursor(self, cursor: Any, version: int) -> Any:
        """A saved cursor of code whose `cursor_version` was `version`, in the terms of this one; None to begin anew.

        Raises: InvalidCursor unless it is overridden, so that the job waits among the retries for code that knows.
        """
        raise NotImplementedError

    @property
    def cursor(self) -> Any:
        """The cursor of the current item; None before the first."""
        return None if self._slot is None else self._slot.cursor

    @property
    def cancelled(self) -> bool:
        """Whether somebody has cancelled the job, as far as is known: it is looked up when the state is written."""
        return self._run is not None and self._run.cancelled

    @property
    def executions(self) -> int:
        """How many runs of this job have begun, this one included."""
        return 0 if self._run is None else self._run.executions

    def perform(self, *args: Any) -> Any:
        """Do the iteration; not to be overridden."""
        if self._is_async:
            return self._iterate_async(*args)
        with standalone(type(self).__name__):
            return self._iterate(*args)

    # The iteration of a plain job.

    def _iterate(self, *args: Any) -> None:
        run = self._run = current_long_run()
        run.open()
        self.arguments = args
        slot = self._slot = self._begin(run)
        pairs = self._pairs(slot, self.build_enumerator(*args, cursor=slot.saved()))
        if pairs is None:
            return
        try:
            self._start(run)
            if not slot.done:
                self._each(run, slot, pairs, args)
        except Complete:
            slot.done = True
            run.items += 1
            run.save().wait()
        except Cancelled:
            self.on_cancel()
        except (Interrupted, ContinueIn):
            self._stop_interrupted()
            raise
        self.on_stop()
        self.on_complete()

    def _start(self, run: LongRun) -> None:
        run.begun = False
        if run.resumed:
            self.on_resume()
        else:
            self.on_start()
        self._note_start(run)

    def _each(self, run: LongRun, slot: Slot[Any], pairs: Iterator[tuple[Any, Any]], args: tuple[Any, ...]) -> None:
        each_iteration = self.each_iteration
        around = self._around(contextmanager)
        items = walk(run, slot, pairs)
        if around is not None:
            for self.current_object in items:
                with around():
                    each_iteration(self.current_object, *args)
        elif len(args) == 1:  # The most frequent one by far, and a call with `*` costs half as much again.
            [argument] = args
            for item in items:
                self.current_object = item
                each_iteration(item, argument)
        else:
            for item in items:
                self.current_object = item
                each_iteration(item, *args)

    def _stop_interrupted(self) -> None:
        try:
            self.on_stop()
        except Exception:
            self.logger.exception("on_stop raised in an interrupted run; the job goes on later all the same")

    # The iteration of an async job.

    async def _iterate_async(self, *args: Any) -> None:
        with standalone(type(self).__name__):
            await self._iterate_on_loop(*args)

    async def _iterate_on_loop(self, *args: Any) -> None:
        run = self._run = current_long_run()
        await run.aopen()
        self.arguments = args
        slot = self._slot = self._begin(run)
        pairs = self._pairs(slot, await _awaited(self.build_enumerator(*args, cursor=slot.saved())))
        if pairs is None:
            return
        try:
            await self._start_async(run)
            if not slot.done:
                await self._each_async(run, slot, pairs, args)
        except Complete:
            slot.done = True
            await run.save().arrival()
        except Cancelled:
            await _awaited(self.on_cancel())
        except (Interrupted, ContinueIn):
            await self._stop_interrupted_async()
            raise
        await _awaited(self.on_stop())
        await _awaited(self.on_complete())

    async def _start_async(self, run: LongRun) -> None:
        run.begun = False
        await _awaited(self.on_resume() if run.resumed else self.on_start())
        self._note_start(run)

    async def _each_async(self, run: LongRun, slot: Slot[Any], pairs: Any, args: tuple[Any, ...]) -> None:
        around = self._around(_as_async)

        async def begin() -> tuple[LongRun, Slot[Any], Any]:
            return run, slot, pairs

        items: AsyncWalk[Any] = AsyncWalk(begin, getattr(self._source, "blocking", False))
        async for item in items:
            self.current_object = item
            if around is None:
                await self.each_iteration(item, *args)
            else:
                async with around():
                    await self.each_iteration(item, *args)

    async def _stop_interrupted_async(self) -> None:
        try:
            await _awaited(self.on_stop())
        except Exception:
            self.logger.exception("on_stop raised in an interrupted run; the job goes on later all the same")

    # Both.

    def _note_start(self, run: LongRun) -> None:
        run.begun = True
        run.counters.commit()
        if not run.resumed:
            run.save()  # After a crash, too, the next run resumes.
        run.stop_if_told()

    def _begin(self, run: LongRun) -> Slot[Any]:
        overridden = type(self).migrate_cursor is not IterableJob.migrate_cursor
        migrate = self.migrate_cursor if overridden else None
        return run.slot("", self.cursor_codec, self.cursor_version, migrate, self.flush_interval)

    def _pairs(self, slot: Slot[Any], source: Any) -> Any:
        """What the answer of `build_enumerator` goes over; None if there is nothing to do."""
        self._source = source
        if source is None:
            self.logger.info("build_enumerator returned None: nothing to do")
            return None
        if isinstance(source, Source):
            slot.use_codec(source.codec)
            return opened(source, slot)
        if hasattr(source, "__next__") or hasattr(source, "__anext__"):
            slot.is_own = True
            return source
        raise InvalidJob(
            f"build_enumerator of {type(self).__qualname__} returned {type(source).__name__}; return a source of "
            f"pyqik.enumerators, or an iterator of pairs of item and cursor"
        )

    def _around(self, manager: Callable[..., Any]) -> Callable[[], Any] | None:
        """What makes the context manager around each item; None if nobody has written one."""
        if type(self).around_iteration is IterableJob.around_iteration:
            return None
        made: Callable[[], Any] = manager(self.around_iteration)
        return made

    @classmethod
    def _define(cls, name: str) -> JobDefinition:
        for needed in ("build_enumerator", "each_iteration"):
            if getattr(cls, needed) is getattr(IterableJob, needed):
                raise InvalidJob(f"the job class {cls.__qualname__} has no `{needed}`; write one, or abstract=True")
        if cls.perform is not IterableJob.perform:
            raise InvalidJob(f"the job class {cls.__qualname__} has a `perform`, which is the engine's; remove it")
        cls._is_async = inspect.iscoroutinefunction(cls.each_iteration)
        for name_of_callback in _CALLBACKS if not cls._is_async else ():
            if not runs_when_called(getattr(cls, name_of_callback)):
                raise InvalidJob(
                    f"{cls.__qualname__}.{name_of_callback} is awaited, but each_iteration is not; write both in the "
                    f"same way"
                )
        return replace(super()._define(name), is_async=cls._is_async)

    @classmethod
    def _check_of_arguments(cls, name: str) -> ArgumentsCheck:
        parameters = inspect.signature(cls.build_enumerator).parameters
        takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
        if "cursor" not in parameters and not takes_any:
            raise InvalidJob(
                f"{cls.__qualname__}.build_enumerator takes no cursor; write build_enumerator(self, ..., *, cursor)"
            )
        return ArgumentsCheck.of(name, cls.build_enumerator, bound=True, without="cursor")


def _as_async(around: Callable[[], Any]) -> Callable[[], AbstractAsyncContextManager[Any]]:
    """What makes an asynchronous context manager of a generator, be it a plain or an asynchronous one."""
    if inspect.isasyncgenfunction(around):
        return asynccontextmanager(around)
    plain = contextmanager(around)

    @asynccontextmanager
    async def manager() -> AsyncIterator[None]:
        with plain():
            yield

    return manager


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
