"""Jobs that are classes: for retries with a rule of their own, and for what the engine builds on (iteration)."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

from structlog.typing import FilteringBoundLogger

from pyqik.core.errors import InvalidJob
from pyqik.jobs.arguments import ArgumentsCheck
from pyqik.jobs.context import job_logger
from pyqik.jobs.definition import JobDefinition, RetryDecision
from pyqik.jobs.enqueuer import Enqueuer
from pyqik.jobs.function_job import refuse_generator
from pyqik.jobs.options import check_options
from pyqik.jobs.origin import origin_of
from pyqik.jobs.registry import registry
from pyqik.jobs.schedule import When
from pyqik.wire.payload import Payload


class Job:
    """A job with a class of its own; every run has a new instance.

        class ResizeImage(pyqik.Job, name="Images::Resize", queue="images", retry=3):
            def perform(self, image_id: int, width: int) -> None: ...

    The class arguments are those of `pyqik.job`. Subclasses inherit the options and not the name, which is the class's
    own unless given. `abstract=True` declares no job, only options and methods for subclasses.
    """

    #: The id of this run's job; empty if nobody enqueued it.
    jid: str = ""
    #: The job's hash on the wire. Not to be changed.
    payload: Payload = Payload({})
    #: What the engine knows of this class; abstract classes have none.
    definition: ClassVar[JobDefinition]

    _options: ClassVar[Mapping[str, Any]] = {}

    def __init_subclass__(cls, *, name: str | None = None, abstract: bool = False, **options: Any) -> None:
        super().__init_subclass__()
        name = cls.__name__ if name is None else name
        if not name:
            raise InvalidJob(f'the job class {cls.__qualname__} has an empty name; write name="Some::Name" or leave it')
        check_options(options, name)
        cls._options = {**cls._options, **options}
        if not abstract:
            cls.definition = cls._define(name)
            registry.register(cls.definition)

    def perform(self, *args: Any, **kwargs: Any) -> Any:
        """The work; subclasses write it, as `def` or `async def`."""
        raise NotImplementedError

    def retry_in(self, count: int, error: Exception) -> RetryDecision:
        """When to try again after `error`: seconds, None for the usual back-off, `pyqik.KILL` or `pyqik.DISCARD`.

        `count` is 0 at the first failure. What it raises is logged, and the usual back-off taken.
        """
        return None

    def retries_exhausted(self, error: Exception) -> None:
        """Called after the last failure, before the job goes to the dead set."""

    @property
    def logger(self) -> FilteringBoundLogger:
        """A structlog logger that has jid, class and queue bound."""
        logger: FilteringBoundLogger | None = self.__dict__.get("_logger")
        if logger is None:
            logger = self.__dict__["_logger"] = job_logger(self.payload)
        return logger

    @classmethod
    def set(cls, *, wait: When | None = None, wait_until: When | None = None, **options: Any) -> Enqueuer[...]:
        """This job with other options; see `Enqueuer.set`."""
        return cls._enqueuer().set(wait=wait, wait_until=wait_until, **options)

    @classmethod
    def perform_async(cls, *args: Any) -> str | None:
        """Enqueue the job; see `Enqueuer.perform_async`."""
        return cls._enqueuer().perform_async(*args)

    @classmethod
    def perform_in(cls, interval: When, /, *args: Any) -> str | None:
        """Enqueue the job to run in `interval`; see `Enqueuer.perform_in`."""
        return cls._enqueuer().perform_in(interval, *args)

    @classmethod
    def perform_at(cls, time: When, /, *args: Any) -> str | None:
        """Enqueue the job to run at `time`; see `Enqueuer.perform_at`."""
        return cls._enqueuer().perform_at(time, *args)

    @classmethod
    def perform_bulk(
        cls, args_lists: Iterable[Sequence[Any]], /, *, at: When | None = None, batch_size: int = 1000
    ) -> list[str | None]:
        """Enqueue the job once for each list of arguments; see `Enqueuer.perform_bulk`."""
        return cls._enqueuer().perform_bulk(args_lists, at=at, batch_size=batch_size)

    @classmethod
    async def aperform_async(cls, *args: Any) -> str | None:
        """`perform_async` for async code."""
        return await cls._enqueuer().aperform_async(*args)

    @classmethod
    async def aperform_in(cls, interval: When, /, *args: Any) -> str | None:
        """`perform_in` for async code."""
        return await cls._enqueuer().aperform_in(interval, *args)

    @classmethod
    async def aperform_at(cls, time: When, /, *args: Any) -> str | None:
        """`perform_at` for async code."""
        return await cls._enqueuer().aperform_at(time, *args)

    @classmethod
    async def aperform_bulk(
        cls, args_lists: Iterable[Sequence[Any]], /, *, at: When | None = None, batch_size: int = 1000
    ) -> list[str | None]:
        """`perform_bulk` for async code."""
        return await cls._enqueuer().aperform_bulk(args_lists, at=at, batch_size=batch_size)

    @classmethod
    def _define(cls, name: str) -> JobDefinition:
        if cls.perform is Job.perform:
            raise InvalidJob(
                f"the job class {cls.__qualname__} has no `perform`; write one, or declare it with abstract=True"
            )
        refuse_generator(name, cls.perform)
        return JobDefinition(
            name=name,
            options=cls._options,
            is_async=inspect.iscoroutinefunction(cls.perform),
            origin=origin_of(cls),
            arguments=cls._check_of_arguments(name),
            create=cls._run_of,
        )

    @classmethod
    def _check_of_arguments(cls, name: str) -> ArgumentsCheck:
        """The check of a payload's arguments; overridden where another method than `perform` takes them."""
        unbound = isinstance(inspect.getattr_static(cls, "perform"), (staticmethod, classmethod))
        return ArgumentsCheck.of(name, cls.perform, bound=not unbound)

    @classmethod
    def _run_of(cls, payload: Payload) -> Self:
        run = cls()
        run.jid = payload.jid
        run.payload = payload
        return run

    @classmethod
    def _enqueuer(cls) -> Enqueuer[...]:
        definition = cls.__dict__.get("definition")
        if definition is None:
            raise InvalidJob(f"{cls.__qualname__} is abstract: enqueue one of its subclasses")
        return Enqueuer(definition, definition.options)
