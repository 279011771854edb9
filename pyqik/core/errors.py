"""Every exception that pyqik raises or reacts to.

PyqikError                      what pyqik raises; catch this one
 ├─ ConfigError                 the configuration has mistakes, all of them listed
 ├─ InvalidJob                  a push was refused before anything was sent
 ├─ JobNotRegistered            the payload names a class that this process does not run
 ├─ WrongArguments              the payload's arguments do not fit the job's signature
 ├─ InvalidPayload              bytes from Redis that are not a job
 └─ PoisonPill                  a job has crashed its process too often
JobEnd                          what a job raises to say how it ends (an Exception)
 ├─ Discard  ├─ Kill  └─ RetryIn
Interruption                    the engine stops a job (a BaseException: `except Exception` must not swallow it)
 └─ Shutdown
"""

from __future__ import annotations

from collections.abc import Sequence


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


class Interruption(BaseException):
    """Base of what the engine raises into a running job. Outside `Exception` on purpose:
    a job's `except Exception` around one row must not swallow it.
    """


class Shutdown(Interruption):
    """The stop timeout is over: the job is given back to the front of its queue, unchanged."""
