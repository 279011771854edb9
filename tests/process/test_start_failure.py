"""A child that cannot import the modules it was given, or cannot be started at all."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis as redis_py

from tests.process.conftest import StartWork
from tests.process.state import everything, payload, push
from tests.process.stopwatch import Stopwatch
from tests.support.cloud_storage import CloudStorage, Fault, always, cloud_storage
from tests.support.jobs import Zoo
from tests.support.process import WorkProcess
from tests.support.wait import wait_until

StartModule = Callable[[str], WorkProcess]


@pytest.fixture
def start_module(start_work: StartWork, tmp_path: Path) -> StartModule:
    """`start_module(text)`: a `pyqik work` in a directory of its own that is to import a module of this text."""

    def start(text: str) -> WorkProcess:
        (tmp_path / "shop_jobs.py").write_text(text, encoding="utf-8")
        return start_work(cwd=tmp_path, modules=["shop_jobs"], ready=False)

    return start


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("import no_such_module_anywhere\n", "No module named 'no_such_module_anywhere'"),
        ("raise RuntimeError('the shop is closed')\n", "RuntimeError: the shop is closed"),
        ("def broken(:\n", "SyntaxError"),
        ("raise SystemExit('settings are missing')\n", "SystemExit: settings are missing"),
        ("import sys\nsys.exit()\n", "SystemExit"),
        ("import pyqik\npyqik.configure(pyqik.Config(concurrency=0))\n", "concurrency is 0"),
    ],
    ids=["missing", "raises", "syntax", "system exit with a text", "system exit", "configuration"],
)
def test_a_module_that_cannot_be_imported_ends_the_command_with_status_2_and_is_named(
    start_module: StartModule, redis: redis_py.Redis, text: str, error: str
) -> None:
    work = start_module(text)

    assert work.wait() == 2
    [line] = work.lines("could not import a module that registers jobs")
    assert (line["module"], line["level"]) == ("shop_jobs", "error")
    assert error in line["exception"]
    assert (len(work.started_children), work.children) == (1, [])
    assert everything(redis) == {}


def test_a_module_that_does_not_exist_is_named(start_work: StartWork, redis: redis_py.Redis, tmp_path: Path) -> None:
    work = start_work(cwd=tmp_path, modules=["no_such_shop"], ready=False)

    assert work.wait() == 2
    [line] = work.lines("could not import a module that registers jobs")
    assert line["module"] == "no_such_shop"
    assert everything(redis) == {}


def test_a_store_for_files_that_cannot_be_written_to_ends_the_command_with_status_2_and_is_named(
    start_work: StartWork, redis: redis_py.Redis, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    work = start_work("--files", str(tmp_path / "file"), ready=False)

    assert work.wait() == 2
    [line] = work.lines("the files of jobs cannot be kept where the configuration says")
    assert line["level"] == "error"
    assert f"{tmp_path}/file: " in line["error"]
    assert (len(work.started_children), work.children) == (1, [])
    assert everything(redis) == {}


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudStorage]:
    with cloud_storage("parts") as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        monkeypatch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
        yield server


@pytest.mark.parametrize("address", ["gs://no-such-bucket/jobs", "gs://parts/jobs"])
def test_a_bucket_that_cannot_be_used_ends_the_command_with_status_2_and_is_named(
    start_work: StartWork, cloud: CloudStorage, address: str
) -> None:
    cloud.fault = always("put", Fault(status=403)) if "parts" in address else cloud.fault
    work = start_work("--files", address, ready=False)

    assert work.wait() == 2
    [line] = work.lines("the files of jobs cannot be kept where the configuration says")
    assert line["error"].startswith(address.removesuffix("/jobs"))


def test_a_bucket_that_is_away_keeps_no_child_from_starting_and_holds_up_no_stop(
    start_work: StartWork, cloud: CloudStorage
) -> None:
    cloud.fault = always("put", Fault(status=503))
    other = start_work("--files", "gs://parts/jobs", ready=False)
    work = start_work("--files", "gs://parts/jobs", ready=False)
    wait_until(lambda: len(cloud.operations) > 3, 30)

    with Stopwatch() as watch:
        other.send(signal.SIGTERM)
        assert other.wait() == 0

    assert watch.seconds < 1 + 3
    work.wait_for_event("child ready")
    assert [line["level"] for line in work.lines() if line["event"].endswith("; going on")] == ["warning"]
    work.end()


def test_a_store_for_files_that_code_configures_is_tried_too(start_module: StartModule, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    work = start_module("import pyqik\npyqik.configure(pyqik.Config(files='file'))\n")

    assert work.wait() == 2
    [line] = work.lines("the files of jobs cannot be kept where the configuration says")
    assert f"{tmp_path}/file: " in line["error"]


def test_a_store_for_files_that_breaks_later_keeps_no_child_from_starting(
    start_work: StartWork, redis: redis_py.Redis, tmp_path: Path
) -> None:
    place = tmp_path / "parts"
    work = start_work("--files", str(place))
    assert "pyqik-sweeper" in work.supervisor_threads()
    place.rmdir()
    place.touch()

    work.send_to_child(signal.SIGKILL)

    work.wait_for_event("child ready", count=2)
    push(redis, payload("Zoo::Pass", jid="job"))
    work.wait_for_event("done", jid="job")
    work.end()


def test_an_import_that_never_ends_does_not_hold_up_the_stop(start_module: StartModule, redis: redis_py.Redis) -> None:
    work = start_module("import threading\nprint('importing', flush=True)\nthreading.Event().wait(60)\n")
    work.wait_for_event("child started")

    with Stopwatch() as watch:
        work.send(signal.SIGTERM)
        work.wait()

    assert watch.seconds < 1 + 3
    assert work.status == 0
    assert everything(redis) == {}


def test_a_child_that_is_killed_before_it_was_ready_ends_the_command_with_status_1(
    start_module: StartModule, redis: redis_py.Redis
) -> None:
    work = start_module("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")

    assert work.wait() == 1
    assert [line["how"] for line in work.lines("child ended")] == ["SIGKILL"]
    assert everything(redis) == {}


def test_a_child_that_cannot_be_started_is_tried_again_and_the_others_work_on(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo
) -> None:
    work = start_work("--processes", "2")
    work.wait_for_event("child ready", count=2)
    limits = resource.prlimit(work.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(work.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    first, second = work.children

    os.kill(first, signal.SIGKILL)

    work.wait_for_event("could not start a child; trying again", count=2)
    push(redis, payload("Zoo::Pass", jid="job"))
    work.wait_for_event("done", jid="job", pid=second)
    resource.prlimit(work.pid, resource.RLIMIT_NOFILE, limits)
    work.wait_for_event("child ready", count=3, timeout=60)
    work.end()
