"""Every exception that pyqik raises or reacts to.

PyqikError                      what pyqik raises; catch this one
 ├─ ConfigError                 the configuration has mistakes, all of them listed
 ├─ InvalidJob                  a push was refused before anything was sent
 ├─ JobNotRegistered            the payload names a class that this process does not run
 ├─ WrongArguments              the payload's arguments do not fit the job's signature
 ├─ InvalidPayload              bytes from Redis that are not a job
 ├─ InvalidCursor               where a long job is cannot be written down, or cannot be read
 ├─ SourceChanged               what a long job goes over is not what it was when the job was interrupted
 └─ PoisonPill                  a job has crashed its process too often
JobEnd                          what a job raises to say how it ends (an Exception)
 ├─ Discard  ├─ Kill  ├─ RetryIn
 └─ Complete  └─ ContinueIn      of a long job: stop here, it is complete; stop here, it goes on later
Interruption                    the engine stops a job (a BaseException: `except Exception` must not swallow it)
 ├─ Shutdown                    the time to stop is over
 ├─ Interrupted                 a long job stops between two items, and goes on later
 └─ Cancelled                   somebody has cancelled the job
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

#: Why a long job stops between two items: the process stops (or quiets down), its time slice is over, its process needs
#: too much memory, it asked for it, or an enumerator did; or why one does not even begin: in the middle of a deploy it
#: is left to a process that was started later.
Reason: TypeAlias = Literal["stop", "time_slice", "memory", "asked", "throttled", "handover"]


class PyqikError(Exception):
    """Base of the errors that pyqik raises."""


class ConfigError(PyqikError):
    """The configuration has mistakes.

    `mistakes` lists every one of them, each with the field, the value and the way out.
    """

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = tuple(mistakes)


class InvalidJob(PyqikError):
    """A push was refused: the job or its arguments cannot be written in Sidekiq's format."""


class JobNotRegistered(PyqikError):
    """The payload names a class that no imported module registered."""


class WrongArguments(PyqikError):
    """The payload's arguments do not fit the signature of the job."""


class InvalidPayload(PyqikError):
    """Bytes taken from Redis are not a Sidekiq job: invalid JSON, not an object, or nested too deeply.

    `raw` are these bytes, for an error handler.
    """

    raw: bytes = b""


class InvalidCursor(PyqikError):
    """Where a long job is cannot be written down exactly, or what is written down cannot be read."""


class SourceChanged(PyqikError):
    """What a long job goes over, a file for instance, is not what it was when the job was interrupted."""


class StoreError(PyqikError):
    """A file of a job could not be kept, restored or published; nothing is published then."""


class PoisonPill(PyqikError):
    """A job has crashed its process too often: it went to the dead set. Only death handlers and the dead set see it."""


class JobEnd(Exception):
    """Base of what a job raises to say how it ends. Anything else that it raises means a retry."""


class Discard(JobEnd):
    """The job is dropped: not retried, not in the dead set, not reported as an error.

    Example: `raise pyqik.Discard("account is closed")`.
    """


class Kill(JobEnd):
    """The job goes straight to the dead set, whatever retries it had left.

    Example: `raise pyqik.Kill("needs a person")`.
    """


class RetryIn(JobEnd):
    """The job is retried after `seconds`, without jitter; it counts as a retry like any other.

    Example: `raise pyqik.RetryIn(30)`.
    """

    def __init__(self, seconds: float, message: str = "") -> None:
        super().__init__(message or f"asked to be retried in {seconds:g} seconds")
        self.seconds = float(seconds)


class Complete(JobEnd):
    """A long job stops here and counts as complete: Sidekiq's `throw :abort`."""


class ContinueIn(JobEnd):
    """A long job stops here and goes on at the same place, `seconds` later. No attempt is spent.

    With 0, from the back of its queue: Sidekiq's `throw :abort, false`. Example: `raise pyqik.ContinueIn(30)`.
    """

    def __init__(self, seconds: float = 0.0, message: str = "") -> None:
        super().__init__(message or f"asked to go on in {seconds:g} seconds")
        self.seconds = float(seconds)


class Interruption(BaseException):
    """Base of what the engine raises into a running job. Outside `Exception` on purpose:
    a job's `except Exception` around one row must not swallow it.
    """


class Shutdown(Interruption):
    """The stop timeout is over: the job is given back to the front of its queue, unchanged."""


class Interrupted(Interruption):
    """A long job stops between two items: its state is kept, and it goes on where it was.

    `reason` says why; `seconds` is how long it is to wait before it goes on.
    """

    def __init__(self, reason: Reason, seconds: float = 0.0) -> None:
        super().__init__(f"interrupted: {reason}")
        self.reason: Final[Reason] = reason
        self.seconds: Final = seconds


class Cancelled(Interruption):
    """Somebody has cancelled the job: it ends here, as complete."""
