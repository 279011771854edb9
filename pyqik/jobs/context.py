"""The job that runs here and now, for code that it calls. The worker enters and resets it around each run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any, Final

import structlog
from structlog.typing import FilteringBoundLogger

from pyqik.core.errors import PyqikError
from pyqik.jobs.long_run import LongRun
from pyqik.wire.payload import Payload


class Context:
    """What a running job may ask about itself."""

    __slots__ = ("_begin", "_logger", "long_run", "payload", "stopping")

    def __init__(
        self,
        payload: Payload,
        stopping: Callable[[], bool],
        begin_long_run: Callable[[], LongRun] | None = None,
    ) -> None:
        self.payload: Final = payload
        #: `stopping()` is True as soon as this process takes no new work (quiet, stop): Sidekiq's `interrupted?`.
        self.stopping: Final = stopping
        #: The state of the job, once it asks for one; the engine's.
        self.long_run: LongRun | None = None
        self._begin = begin_long_run
        self._logger: FilteringBoundLogger | None = None

    def begin_long_run(self) -> LongRun:
        """The state of the job, made when it first asks; the engine's."""
        if self.long_run is None:
            self.long_run = self._begin() if self._begin else LongRun(self.job_class, self.jid)
        return self.long_run

    @property
    def jid(self) -> str:
        """The job's id."""
        return self.payload.jid

    @property
    def job_class(self) -> str:
        """The class name on the wire, such as `"Billing::SendReceipt"`."""
        return self.payload.job_class

    @property
    def queue(self) -> str:
        """The queue's name."""
        return self.payload.queue

    @property
    def args(self) -> list[Any]:
        """The positional arguments."""
        return self.payload.args

    @property
    def logger(self) -> FilteringBoundLogger:
        """A structlog logger that has jid, class and queue bound."""
        if self._logger is None:
            self._logger = job_logger(self.payload)
        return self._logger


_current: Final[ContextVar[Context]] = ContextVar("pyqik.current")


def current() -> Context:
    """The context of the job that this thread or asyncio task runs.

    Raises: PyqikError outside of a job, and in a thread that a job started without `contextvars.copy_context`.
    """
    context = running()
    if context is None:
        raise PyqikError(
            "no job runs here; pyqik.current() works in a job and in what it calls "
            "(in a thread of your own: run it with contextvars.copy_context().run)"
        )
    return context


def running() -> Context | None:
    """The same, or None outside of a job."""
    return _current.get(None)


#: That of a job that was called like any function.
_standalone: Final[ContextVar[LongRun]] = ContextVar("pyqik.standalone")


def current_long_run() -> LongRun:
    """The state of the job that runs here; one that is kept nowhere, outside of a job."""
    context = running()
    if context is not None:
        return context.begin_long_run()
    return _standalone.get(None) or LongRun("this loop", "")


def a_job_runs() -> bool:
    """Whether a job runs here, be it in a worker or like any function."""
    return running() is not None or _standalone.get(None) is not None


@contextmanager
def standalone(name: str) -> Iterator[None]:
    """Within the block the job `name` runs like any function, with a state that is kept nowhere: unless it is being run
    by a worker, or by another one that is standing alone.
    """
    if a_job_runs():
        yield
        return
    run = LongRun(name, "")
    token = _standalone.set(run)
    try:
        yield
    finally:
        _standalone.reset(token)
        run.files.close()


def enter(context: Context) -> Token[Context]:
    """Make `context` the current one, until `reset`."""
    return _current.set(context)


def reset(token: Token[Context]) -> None:
    """End what `enter` began."""
    _current.reset(token)


def job_logger(payload: Payload) -> FilteringBoundLogger:
    """A structlog logger for the job `payload`: jid, class and queue on every line, never its arguments."""
    bound = {"jid": payload.jid, "class": payload.display_class, "queue": payload.queue}
    logger: FilteringBoundLogger = structlog.get_logger("pyqik.job", **bound)
    return logger
