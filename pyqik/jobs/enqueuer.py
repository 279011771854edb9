"""Sidekiq's words for enqueueing a declared job: `perform_async`, `_in`, `_at`, `_bulk`, and their twins to await.

What they write is the client's business; they add the job's own options and check the arguments against its signature.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, ParamSpec

from pyqik.core.errors import InvalidJob, WrongArguments
from pyqik.jobs.definition import JobDefinition
from pyqik.jobs.options import check_options
from pyqik.jobs.process import default_async_client, default_client
from pyqik.jobs.schedule import When, due

P = ParamSpec("P")


class Enqueuer(Generic[P]):
    """Enqueues one job with certain options, through the process's default client.

    Every method raises InvalidJob or WrongArguments before anything is sent, and redis.ConnectionError when Redis could
    not be reached for some seconds: the job may or may not be in its queue then. The value is the job's jid, or None if
    a client middleware stopped it.
    """

    def __init__(self, definition: JobDefinition, options: Mapping[str, Any], when: When | None = None) -> None:
        self._definition = definition
        self._options = options
        self._when = when

    def set(self, *, wait: When | None = None, wait_until: When | None = None, **options: Any) -> Enqueuer[P]:
        """The same job with other options: `send_receipt.set(queue="low", retry=0).perform_async(42)`.

        `wait` (seconds or a timedelta) or `wait_until` (epoch seconds or an aware datetime) delay it.
        """
        check_options(options, self._definition.name)
        when = wait if wait is not None else wait_until
        return Enqueuer(self._definition, {**self._options, **options}, self._when if when is None else when)

    def perform_async(self, *args: P.args, **kwargs: P.kwargs) -> str | None:
        """Enqueue the job to run as soon as a process is free. Blocks for a round trip to Redis."""
        return default_client().push(self._definition.name, *self._checked(args, kwargs), **self._fields(self._when))

    def perform_in(self, interval: When, /, *args: P.args, **kwargs: P.kwargs) -> str | None:
        """Enqueue the job to run in `interval` (seconds or a timedelta); at once if that is not in the future."""
        return default_client().push(self._definition.name, *self._checked(args, kwargs), **self._fields(interval))

    def perform_at(self, time: When, /, *args: P.args, **kwargs: P.kwargs) -> str | None:
        """Enqueue the job to run at `time` (an aware datetime or epoch seconds); at once if that is past."""
        return default_client().push(self._definition.name, *self._checked(args, kwargs), **self._fields(time))

    def perform_bulk(
        self, args_lists: Iterable[Sequence[Any]], /, *, at: When | None = None, batch_size: int = 1000
    ) -> list[str | None]:
        """Enqueue the job once for each list of arguments, `batch_size` of them in a round trip; returns their jids.

        Any iterable will do; it is read as the batches go. `at` delays all of them.
        """
        fields = self._fields(self._when if at is None else at)
        return default_client().push_bulk(
            self._definition.name, self._each_checked(args_lists), batch_size=batch_size, **fields
        )

    async def aperform_async(self, *args: P.args, **kwargs: P.kwargs) -> str | None:
        """`perform_async` for async code."""
        checked = self._checked(args, kwargs)
        client = await default_async_client()
        return await client.push(self._definition.name, *checked, **self._fields(self._when))

    async def aperform_in(self, interval: When, /, *args: P.args, **kwargs: P.kwargs) -> str | None:
        """`perform_in` for async code."""
        checked = self._checked(args, kwargs)
        client = await default_async_client()
        return await client.push(self._definition.name, *checked, **self._fields(interval))

    async def aperform_at(self, time: When, /, *args: P.args, **kwargs: P.kwargs) -> str | None:
        """`perform_at` for async code."""
        checked = self._checked(args, kwargs)
        client = await default_async_client()
        return await client.push(self._definition.name, *checked, **self._fields(time))

    async def aperform_bulk(
        self, args_lists: Iterable[Sequence[Any]], /, *, at: When | None = None, batch_size: int = 1000
    ) -> list[str | None]:
        """`perform_bulk` for async code."""
        fields = self._fields(self._when if at is None else at)
        client = await default_async_client()
        return await client.push_bulk(
            self._definition.name, self._each_checked(args_lists), batch_size=batch_size, **fields
        )

    def _checked(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        if kwargs:
            raise InvalidJob(
                f"{self._definition.name} was given the keyword argument {next(iter(kwargs))!r}, but a payload's "
                f"arguments are positional; write the values in order"
            )
        self._definition.check_arguments(args)
        return args

    def _each_checked(self, args_lists: Iterable[Sequence[Any]]) -> Iterator[Sequence[Any]]:
        check = self._definition.check_arguments
        for index, args in enumerate(args_lists):
            # Anything else is refused by the client, which says how a list of lists is written.
            if isinstance(args, (list, tuple)):
                try:
                    check(args)
                except WrongArguments as error:
                    raise WrongArguments(f"job {index} of the bulk: {error}") from None
            yield args

    def _fields(self, when: When | None) -> dict[str, Any]:
        return {**self._options, "at": None if when is None else due(when)}
