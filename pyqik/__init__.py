"""pyqik: a Python worker that speaks the Sidekiq Redis job format."""

from pyqik.core.config import Capsule, Config
from pyqik.core.errors import (
    ConfigError,
    Discard,
    Interruption,
    InvalidJob,
    InvalidPayload,
    JobNotRegistered,
    Kill,
    PyqikError,
    RetryIn,
    Shutdown,
    WrongArguments,
)
from pyqik.core.events import events
from pyqik.jobs.client import AsyncClient, Client
from pyqik.jobs.context import Context, current
from pyqik.jobs.definition import DISCARD, KILL, RetryDecision
from pyqik.jobs.function_job import FunctionJob, job
from pyqik.jobs.job import Job
from pyqik.jobs.middleware import ClientMiddleware, ServerMiddleware
from pyqik.jobs.process import configure
from pyqik.wire.payload import Payload

__all__ = [
    "DISCARD",
    "KILL",
    "AsyncClient",
    "Capsule",
    "Client",
    "ClientMiddleware",
    "Config",
    "ConfigError",
    "Context",
    "Discard",
    "FunctionJob",
    "Interruption",
    "InvalidJob",
    "InvalidPayload",
    "Job",
    "JobNotRegistered",
    "Kill",
    "Payload",
    "PyqikError",
    "RetryDecision",
    "RetryIn",
    "ServerMiddleware",
    "Shutdown",
    "WrongArguments",
    "configure",
    "current",
    "events",
    "job",
]
