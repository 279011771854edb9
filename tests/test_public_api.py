"""The names that `import pyqik` and `pyqik.testing` give: adding one is a decision, and losing one breaks somebody."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest

import pyqik
from pyqik import testing

NAMES = {
    # jobs
    "job", "FunctionJob", "Job", "RetryDecision", "KILL", "DISCARD",
    # inside a job
    "current", "Context", "Payload", "Discard", "Kill", "RetryIn", "Interruption", "Shutdown",
    # long jobs
    "each", "resume", "checkpoint", "aresume", "acheckpoint", "raise_if_stopping", "step", "counters", "IterableJob",
    "Source", "Codec", "enumerators", "long_jobs", "Complete", "ContinueIn", "Interrupted", "Cancelled",
    # progress, rows and files
    "processed", "aprocessed", "Processed", "progress", "aprogress", "Progress",
    "rows", "arows", "Rows", "RowError", "FailedRows", "FailedCsv",
    "file", "afile", "BinaryFile", "SnapshotFile", "TextFile",
    # enqueueing
    "Client", "AsyncClient",
    # the process
    "configure", "Config", "Capsule", "events", "on", "ClientMiddleware", "ServerMiddleware",
    # errors
    "PyqikError", "ConfigError", "InvalidJob", "InvalidPayload", "JobNotRegistered", "PoisonPill", "WrongArguments",
    "InvalidCursor", "SourceChanged", "StoreError",
}  # fmt: skip

TESTING_NAMES = {
    # running a job
    "perform", "aperform", "Run", "Performable", "Place",
    # interrupting a long job
    "every_interruption", "aevery_interruption",
    # what was pushed
    "fake", "inline", "Queues", "PushedJob",
}  # fmt: skip

modules = pytest.mark.parametrize(
    ("module", "names"), [(pyqik, NAMES), (testing, TESTING_NAMES)], ids=["pyqik", "pyqik.testing"]
)


@modules
def test_the_public_names_are_these(module: ModuleType, names: set[str]) -> None:
    assert set(module.__all__) == names


@modules
def test_every_public_name_exists_once(module: ModuleType, names: set[str]) -> None:
    assert len(module.__all__) == len(set(module.__all__))
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize(
    ("module", "name"), [(pyqik, name) for name in sorted(NAMES)] + [(testing, name) for name in sorted(TESTING_NAMES)]
)
def test_a_public_class_or_function_is_documented(module: ModuleType, name: str) -> None:
    thing = getattr(module, name)

    assert not (inspect.isclass(thing) or inspect.isfunction(thing)) or inspect.getdoc(thing)


@pytest.mark.parametrize("kind", [testing.Run, testing.Queues])
def test_a_public_method_of_testing_is_documented(kind: type) -> None:
    methods = {name: thing for name, thing in vars(kind).items() if not name.startswith("_") and callable(thing)}

    assert methods
    assert [name for name, method in methods.items() if not inspect.getdoc(method)] == []


@modules
def test_the_guide_tells_of_every_public_name(module: ModuleType, names: set[str]) -> None:
    guide = module.__doc__ or ""

    assert [name for name in sorted(names) if name not in guide] == []
