"""Middleware: generators with one `yield`, folded around a push or a run. The first one given is the outermost.

One that returns without yielding stops what it is around. It only enters and exits, so it serves sync and async code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, TypeAlias

from pyqik.core.errors import PyqikError
from pyqik.core.functions import name_of
from pyqik.wire.payload import Payload

#: Around the writing of a payload, before it is sent. May change the payload; returning without yielding drops it.
ClientMiddleware: TypeAlias = Callable[[Payload], Iterator[None]]

#: Around a run. Exceptions of the job, interruptions included, are raised at its `yield`.
ServerMiddleware: TypeAlias = Callable[[Payload], Iterator[None]]

Middleware: TypeAlias = ClientMiddleware | ServerMiddleware


def around(middlewares: Sequence[Middleware], payload: Payload) -> AbstractContextManager[bool]:
    """Enter every one of `middlewares`, and leave them in the reverse order. The value is False when one stopped it:

        with around(middlewares, payload) as proceed:
            if proceed:
                runnable.perform(*payload.args)

    An exception of the block is raised at the innermost `yield` and travels outwards; a middleware may swallow it (then
    the block counts as done) or raise another one in its place. One that stops, or fails before its `yield`, ends the
    outer ones just the same.
    """
    return _Around(middlewares, payload) if middlewares else _NOTHING_AROUND


class _Around(AbstractContextManager[bool]):
    __slots__ = ("_entered", "_middlewares", "_payload")

    def __init__(self, middlewares: Sequence[Middleware], payload: Payload) -> None:
        self._middlewares = middlewares
        self._payload = payload
        self._entered: list[Iterator[None]] = []

    def __enter__(self) -> bool:
        try:
            for middleware in self._middlewares:
                generator = _started(middleware, self._payload)
                try:
                    next(generator)
                except StopIteration:
                    return False
                self._entered.append(generator)
        except BaseException as error:
            # `with` calls no __exit__ after a failed __enter__, so the outer ones hear of it here.
            if not self.__exit__(type(error), error, error.__traceback__):
                raise
            return False
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        pending = error
        while self._entered:
            pending = _left(self._entered.pop(), pending)
        if pending is None or pending is error:
            return pending is None
        # Raised here, Python would replace the context that the middleware gave it.
        context = pending.__context__
        try:
            raise pending
        finally:
            pending.__context__ = context


class _NothingAround(AbstractContextManager[bool]):
    __slots__ = ()

    def __enter__(self) -> bool:
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass


_NOTHING_AROUND: Final = _NothingAround()


def _started(middleware: Middleware, payload: Payload) -> Iterator[None]:
    generator = middleware(payload)
    if not hasattr(generator, "throw"):
        raise PyqikError(
            f"the middleware {name_of(middleware)} returned {type(generator).__name__}; write it as a generator: "
            f"a function with one `yield` where the job or the push happens"
        )
    return generator


def _left(generator: Iterator[None], error: BaseException | None) -> BaseException | None:
    """Let `generator` end, with `error` raised at its `yield` if there is one; returns what is raised afterwards."""
    try:
        if error is None:
            next(generator)
        else:
            generator.throw(error)  # type: ignore[attr-defined]  # an Iterator to its author, checked when it started
    except StopIteration as stop:
        # A StopIteration that the block itself raised comes back wrapped, so this one is the generator's own end.
        return error if stop is error else None
    except RuntimeError as raised:
        if isinstance(error, StopIteration) and raised.__cause__ is error:
            return error
        return raised
    except BaseException as raised:
        return raised
    generator.close()  # type: ignore[attr-defined]  # likewise
    return PyqikError(f"the middleware {name_of(generator)} yielded twice; it must yield once")
