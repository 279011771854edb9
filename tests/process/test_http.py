"""`/healthz` and `/readyz`, and the port that they are on."""

from __future__ import annotations

import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_py

from tests.process.conftest import StartWork
from tests.process.state import everything, payload, push
from tests.support.jobs import Zoo
from tests.support.process import WorkProcess

ON_LOOPBACK = ("--host", "127.0.0.1")


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port on which somebody else listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def free_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def answer(work: WorkProcess, path: str) -> tuple[int, str]:
    """Status and text of an answer."""
    port = work.wait_for_event("http")["port"]
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_process_that_takes_jobs_is_healthy_and_ready(start_work: StartWork, free_port: int) -> None:
    work = start_work(*ON_LOOPBACK, "--port", str(free_port))

    answers = answer(work, "/healthz"), answer(work, "/readyz")

    assert answers == ((200, "ok\n"), (200, "children: ready\n"))


def test_a_process_that_still_imports_is_healthy_but_not_ready(
    start_work: StartWork, free_port: int, tmp_path: Path
) -> None:
    (tmp_path / "slow_jobs.py").write_text("import threading\nthreading.Event().wait(60)\n", encoding="utf-8")
    work = start_work(*ON_LOOPBACK, "--port", str(free_port), cwd=tmp_path, modules=["slow_jobs"], ready=False)
    work.wait_for_event("child started")

    answers = answer(work, "/healthz"), answer(work, "/readyz")

    assert answers == ((200, "ok\n"), (503, "children: starting\n"))


def test_a_quiet_process_is_healthy_but_not_ready(start_work: StartWork, free_port: int) -> None:
    work = start_work(*ON_LOOPBACK, "--port", str(free_port))

    work.send(signal.SIGTSTP)

    work.wait_for_event("quiet: no new jobs; those that run go on")
    assert answer(work, "/healthz") == (200, "ok\n")
    assert answer(work, "/readyz") == (503, "children: quiet\n")


def test_a_process_that_stops_is_healthy_but_not_ready(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo, free_port: int
) -> None:
    work = start_work(*ON_LOOPBACK, "--port", str(free_port), "-t", "20")
    push(redis, payload("Zoo::Wait", "gate", jid="job"))
    zoo.wait_for_runs(1)

    work.send(signal.SIGTERM)

    work.wait_for_event("stop: waiting for running jobs")
    assert answer(work, "/healthz") == (200, "ok\n")
    assert answer(work, "/readyz") == (503, "children: stopping\n")
    zoo.open_gate("gate")
    assert work.wait() == 0


def test_prometheus_reads_the_children_and_what_became_of_them(start_work: StartWork, free_port: int) -> None:
    work = start_work(*ON_LOOPBACK, "--port", str(free_port))

    with urllib.request.urlopen(f"http://127.0.0.1:{free_port}/metrics", timeout=5) as response:
        kind, text = response.headers["Content-Type"], response.read().decode()

    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    assert 'pyqik_children{state="ready"} 1.0\n' in text
    assert 'pyqik_child_crashes_total{cause="oom"} 0.0\n' in text
    assert work.status is None


def test_another_path_is_not_found_and_the_answer_says_what_there_is(start_work: StartWork, free_port: int) -> None:
    work = start_work(*ON_LOOPBACK, "--port", str(free_port))

    assert answer(work, "/nothing") == (404, "not found; there is /healthz, /readyz, /metrics\n")


def test_two_processes_that_were_told_no_port_find_one_each(start_work: StartWork) -> None:
    works = [start_work(*ON_LOOPBACK, port=None) for _ in range(2)]

    ports = [work.wait_for_event("http")["port"] for work in works]

    assert len(set(ports)) == 2
    assert all(9394 <= port < 9404 for port in ports)
    assert [answer(work, "/readyz")[0] for work in works] == [200, 200]


def test_a_taken_port_that_was_asked_for_is_an_error_that_names_it(
    start_work: StartWork, redis: redis_py.Redis, taken_port: int
) -> None:
    work = start_work(*ON_LOOPBACK, "--port", str(taken_port), ready=False)

    assert work.wait() == 1
    [line] = work.log_text().splitlines()
    assert line.startswith("pyqik: ")
    assert str(taken_port) in line
    assert work.started_children == []
    assert everything(redis) == {}


def test_an_address_of_the_sixth_version_is_served_too(start_work: StartWork, free_port: int) -> None:
    work = start_work("--host", "::1", "--port", str(free_port))

    with urllib.request.urlopen(f"http://[::1]:{free_port}/readyz", timeout=5) as response:
        status = response.status

    assert status == 200
    assert work.status is None
