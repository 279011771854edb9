"""Calls the author's error handlers and death handlers, as the configuration has them.

An error in one is logged, and the next one still runs; an interruption passes through. Which ending calls which of them
is the processor's business.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog

from pyqik.core.errors import Interruption, InvalidPayload
from pyqik.core.functions import name_of
from pyqik.wire.payload import Payload

log = structlog.get_logger("pyqik")

#: Called with what was raised, and with the payload; None if what stood in the queue is no job.
ErrorHandler = Callable[[BaseException, Payload | None], object]
#: Called with the payload as it stands in the dead set, or would, and with the last error.
DeathHandler = Callable[[Payload, BaseException], object]

#: Calls that may wait for `aside`; beyond that the oldest are left out, as each of them may hold a large payload.
WAITING_LIMIT: Final = 100


class Handlers:
    """See the module's docstring. Everything may be called from any thread, inside and outside of a run."""

    def __init__(
        self, error_handlers: Sequence[ErrorHandler] = (), death_handlers: Sequence[DeathHandler] = ()
    ) -> None:
        self._error_handlers = error_handlers
        self._death_handlers = death_handlers
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque(maxlen=WAITING_LIMIT)
        self._busy = False

    def failed(self, error: BaseException, payload: Payload | None) -> None:
        """A run of `payload` has raised `error`."""
        for handler in self._error_handlers:
            _call("an error handler raised", handler, error, payload)

    def died(self, payload: Payload, error: BaseException) -> None:
        """The job `payload` will not be tried again by itself; `error` was the last one."""
        for handler in self._death_handlers:
            _call("a death handler raised", handler, payload, error)

    def invalid(self, error: InvalidPayload) -> None:
        """What stood in a queue is no payload at all. Returns at once."""
        if self._error_handlers:
            self.aside(lambda: self.failed(error, None))

    def aside(self, call: Callable[[], None]) -> None:
        """Do `call` in a thread of its own, after those that wait already: for threads that must not wait for it."""
        with self._lock:
            self._waiting.append(call)
            if self._busy:
                return
            self._busy = True
        threading.Thread(target=self._work_off, name="pyqik-handlers", daemon=True).start()

    def _work_off(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._busy = False
                    return
                call = self._waiting.popleft()
            try:
                call()
            except BaseException:
                log.exception("a handler ended the others that were to run after it")


def _call(complaint: str, handler: Callable[..., object], *args: Any) -> None:
    try:
        handler(*args)
    except Interruption:
        raise
    except BaseException:
        log.exception(complaint, handler=name_of(handler))
