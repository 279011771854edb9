"""What of a store for files ends the start, and what is only said."""

from __future__ import annotations

import errno
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from pyqik.core.errors import StoreError
from pyqik.jobs.storage import ConfiguredStorage
from pyqik.stores.memory import MemoryStore
from pyqik.stores.store import Refused
from pyqik.worker import store_check
from pyqik.worker.store_check import check_store

#: Has `check_store` try a store whose check does this.
Checks = Callable[[Callable[[], object]], None]


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Checks:
    def use(check: Callable[[], object]) -> None:
        def storage(files: str) -> ConfiguredStorage:
            made = ConfiguredStorage()
            made.store = MemoryStore(lambda verb, name: check())
            return made

        monkeypatch.setattr(store_check, "ConfiguredStorage", storage)

    return use


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as logs:
        yield logs


def raises(error: Exception, cause: Exception | None = None) -> Callable[[], object]:
    def check() -> None:
        raise error from cause

    return check


def test_without_files_nothing_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs: list[Any]) -> None:
    monkeypatch.chdir(tmp_path)
    before = threading.active_count()

    check_store("")

    assert (list(tmp_path.iterdir()), logs, threading.active_count()) == ([], [], before)


def test_a_store_that_works_is_left_as_it_was(tmp_path: Path, logs: list[Any]) -> None:
    check_store(str(tmp_path / "parts"))

    assert list((tmp_path / "parts").iterdir()) == []
    assert logs == []


@pytest.mark.parametrize("below", ["file", "file/parts"])
def test_a_directory_that_cannot_be_is_an_error(tmp_path: Path, below: str, logs: list[Any]) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match=f"{tmp_path / below}: "):
        check_store(str(tmp_path / below))

    assert logs == []


def test_a_package_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyqik.stores.cloud_target", None)

    with pytest.raises(StoreError, match=r"pip install \"pyqik\[gcs\]\""):
        check_store("gs://bucket/jobs")


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (Refused("no credentials"), None),
        *((StoreError("it cannot be written"), OSError(each, "")) for each in (errno.EACCES, errno.EPERM, errno.EROFS)),
    ],
)
def test_what_lasts_is_an_error(checks: Checks, error: Exception, cause: Exception | None, logs: list[Any]) -> None:
    checks(raises(error, cause))

    with pytest.raises(StoreError) as raised:
        check_store("/mnt/jobs")

    assert raised.value is error
    assert logs == []


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (StoreError("503"), None),
        (StoreError("it is away"), TimeoutError()),
        *((StoreError("it is away"), OSError(each, "")) for each in (errno.ESTALE, errno.EIO, errno.ENOSPC)),
        (ZeroDivisionError("a bug of a client"), None),
    ],
)
def test_what_may_pass_is_said(checks: Checks, error: Exception, cause: Exception | None, logs: list[Any]) -> None:
    checks(raises(error, cause))

    check_store("/mnt/jobs")

    [line] = logs
    assert (line["event"], line["log_level"]) == ("the store for files of jobs is away; going on", "warning")
    assert (line["store"], line["error"]) == ("memory", str(error))


def test_a_store_that_does_not_answer_is_not_waited_for(
    checks: Checks, monkeypatch: pytest.MonkeyPatch, logs: list[Any]
) -> None:
    monkeypatch.setattr(store_check, "PATIENCE", 0.05)
    answer = threading.Event()
    checks(lambda: answer.wait(20))

    check_store("/mnt/jobs")

    assert not answer.is_set()
    answer.set()
    [line] = logs
    assert line["event"] == "the store for files of jobs does not answer; going on"
    assert (line["log_level"], line["store"], line["seconds"]) == ("warning", "memory", 0.05)
