"""The names that `import pyqik` gives: adding one is a decision, and losing one breaks somebody."""

from __future__ import annotations

import inspect

import pytest

import pyqik

NAMES = {
    # jobs
    "job", "FunctionJob", "Job", "RetryDecision", "KILL", "DISCARD",
    # inside a job
    "current", "Context", "Payload", "Discard", "Kill", "RetryIn", "Interruption", "Shutdown",
    # enqueueing
    "Client", "AsyncClient",
    # the process
    "configure", "Config", "Capsule", "events", "on", "ClientMiddleware", "ServerMiddleware",
    # errors
    "PyqikError", "ConfigError", "InvalidJob", "InvalidPayload", "JobNotRegistered", "PoisonPill", "WrongArguments",
}  # fmt: skip


def test_the_public_names_are_these() -> None:
    assert set(pyqik.__all__) == NAMES


def test_every_public_name_exists_once() -> None:
    assert len(pyqik.__all__) == len(set(pyqik.__all__))
    assert all(hasattr(pyqik, name) for name in pyqik.__all__)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_public_class_or_function_is_documented(name: str) -> None:
    thing = getattr(pyqik, name)

    assert not (inspect.isclass(thing) or inspect.isfunction(thing)) or inspect.getdoc(thing)


def test_the_guide_tells_of_every_public_name() -> None:
    guide = pyqik.__doc__ or ""

    assert [name for name in sorted(NAMES) if name not in guide] == []
