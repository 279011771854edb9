"""Jobs that are functions: the decorator `job`, and the object that it puts in the function's place."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from pyqik.core.errors import InvalidJob
from pyqik.jobs.arguments import ArgumentsCheck
from pyqik.jobs.context import standalone
from pyqik.jobs.definition import JobDefinition, RetryDecision
from pyqik.jobs.enqueuer import Enqueuer
from pyqik.jobs.options import check_options
from pyqik.jobs.origin import origin_of
from pyqik.jobs.registry import registry

P = ParamSpec("P")
R = TypeVar("R")


class FunctionJob(Enqueuer[P], Generic[P, R]):
    """A function that can also be enqueued. Calling it is an ordinary call: here, now, without Redis."""

    __name__: str

    def __init__(self, function: Callable[P, R], name: str, options: dict[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self.perform = function
        self.definition = JobDefinition(
            name=name,
            options=options,
            is_async=inspect.iscoroutinefunction(function),
            origin=origin_of(function),
            arguments=ArgumentsCheck.of(name, function),
            create=lambda payload: self,
        )
        super().__init__(self.definition, self.definition.options)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self.definition.is_async:
            return cast(R, self._awaited(*args, **kwargs))
        with standalone(self.definition.name):
            return self.perform(*args, **kwargs)

    async def _awaited(self, *args: Any, **kwargs: Any) -> Any:
        with standalone(self.definition.name):
            return await cast(Callable[..., Awaitable[Any]], self.perform)(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<pyqik job {self.definition.name}>"

    def retry_in(self, count: int, error: Exception) -> RetryDecision:
        """The usual back-off, always; a job that wants a rule of its own is a class."""
        return None

    def retries_exhausted(self, error: Exception) -> None:
        """Nothing; likewise."""


@overload
def job(function: Callable[P, R], /) -> FunctionJob[P, R]: ...
@overload
def job(name: str | None = None, /, **options: Any) -> Callable[[Callable[P, R]], FunctionJob[P, R]]: ...
def job(function_or_name: Callable[..., Any] | str | None = None, /, **options: Any) -> Any:
    """Declare a function, or an `async def`, as a job:

        @pyqik.job("Billing::SendReceipt", queue="mailers", retry=5)
        def send_receipt(order_id: int) -> None: ...

    The name is the class that Ruby puts on the wire; without one it is the function's own. Options: `queue`, `retry`
    (True, False, or how many), `retry_for` (seconds), `retry_queue`, `dead` (False: keep nothing when the retries are
    used up), `backtrace` (True, or how many lines), `tags`; any other is copied into the payload.

    Raises: InvalidJob for an option or signature that cannot be, or for a name that another job has.
    """

    def declare(function: Callable[P, R]) -> FunctionJob[P, R]:
        name = function_or_name if isinstance(function_or_name, str) else getattr(function, "__name__", "")
        if not name:
            raise InvalidJob(f'the job {function!r} has no name; write @pyqik.job("Some::Name")')
        check_options(options, name)
        refuse_generator(name, function)
        declared = FunctionJob(function, name, options)
        registry.register(declared.definition)
        return declared

    return declare(function_or_name) if callable(function_or_name) else declare


def refuse_generator(name: str, function: Callable[..., Any]) -> None:
    """Raises: InvalidJob if `function` is a generator: calling it would run none of it, and look like success."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidJob(f"{name} has a `yield`, so that calling it runs nothing; write a plain or async function")
