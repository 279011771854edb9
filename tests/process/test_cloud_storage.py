"""Exports into Cloud Storage by real processes that are stopped and killed, and a store that fails, at every step."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis as redis_py

from pyqik.api import RetrySet
from tests.process.conftest import StartWork
from tests.support.cloud_storage import CloudStorage, Fault, Operation, cloud_storage
from tests.support.process import WorkProcess
from tests.support.wait import wait_until

COUNT = 100
JID = "c" * 24
TEXT = 'text, "quoted" and\nin two lines ä' * 3

StartCloud = Callable[..., WorkProcess]


@pytest.fixture
def server() -> Iterator[CloudStorage]:
    with cloud_storage("parts", "exports") as server:
        yield server
        assert server.unexpected == []


@pytest.fixture
def start_cloud(start_work: StartWork, server: CloudStorage, redis_url: str, tmp_path: Path) -> StartCloud:
    """`pyqik work` with the exports."""
    (tmp_path / "pyqik.toml").write_text('flush_interval = 0.02\nfiles = "gs://parts/scratch"\n')
    environment = {
        "TOLD": redis_url,
        "STORAGE_EMULATOR_HOST": server.url,
        "DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA": "true",
    }

    def start(*options: str) -> WorkProcess:
        given = ("-q", "cloud", "-c", "4", "-C", str(tmp_path / "pyqik.toml"), *options)
        return start_work(*given, modules=["tests.support.cloud_jobs"], environment=environment)

    return start


def push(redis: redis_py.Redis, job_class: str = "Cloud::Export", jid: str = JID) -> None:
    payload = {"class": job_class, "args": [COUNT], "jid": jid, "retry": True, "queue": "cloud", "created_at": 1.5}
    redis.lpush("queue:cloud", json.dumps(payload))


def wait_for_item(redis: redis_py.Redis, number: int, jid: str = JID) -> None:
    wait_until(lambda: int(redis.hget(f"told:{jid}", "item") or 0) >= number, 30, f"item {number}")


def wait_for_end(redis: redis_py.Redis, server: CloudStorage, name: str) -> None:
    """Until it is published, and nothing else is left of the job."""
    jid = name.partition(".")[0]
    wait_until(lambda: name in server.objects("exports"), 60, f"{name} is published")
    wait_until(lambda: not redis.exists(f"it-{jid}"), 30, "the end of its state")
    assert not any(f"/{jid}/" in part for part in server.objects("parts"))


def whole() -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([number, TEXT] for number in range(COUNT))
    return text.getvalue().encode()


@pytest.mark.parametrize("job_class", ["Cloud::Export", "Cloud::AsyncExport"])
@pytest.mark.parametrize("how", ["deploys", "kills"])
def test_an_export_is_the_same_whatever_happens_to_its_processes(
    start_cloud: StartCloud, redis: redis_py.Redis, server: CloudStorage, job_class: str, how: str
) -> None:
    push(redis, job_class)
    work = start_cloud()
    for item in (15, 45, 75):
        wait_for_item(redis, item)
        if how == "kills":
            os.kill(int(redis.hget(f"told:{JID}", "pid") or 0), signal.SIGKILL)
        else:
            work.end()
            work = start_cloud()
    wait_for_end(redis, server, f"{JID}.csv")

    found = server.object("exports", f"{JID}.csv")
    assert found.data == whole()
    assert found.content_type == "text/csv"


def test_a_database_has_each_row_once_whatever_happens_to_its_processes(
    start_cloud: StartCloud, redis: redis_py.Redis, server: CloudStorage, tmp_path: Path
) -> None:
    push(redis, "Cloud::Database")
    work = start_cloud()
    for item, how in ((15, "kill"), (40, "deploy"), (70, "kill"), (90, "deploy")):
        wait_for_item(redis, item)
        if how == "kill":
            os.kill(int(redis.hget(f"told:{JID}", "pid") or 0), signal.SIGKILL)
        else:
            work.end()
            work = start_cloud()
    wait_for_end(redis, server, f"{JID}.sqlite")

    (tmp_path / "rows.sqlite").write_bytes(server.object("exports", f"{JID}.sqlite").data)
    with closing(sqlite3.connect(tmp_path / "rows.sqlite")) as database:
        assert database.execute("SELECT number FROM rows ORDER BY rowid").fetchall() == [(n,) for n in range(COUNT)]


#: One operation of a job, as it is counted: a verb, and how many-th of that verb.
STEPS = [("put", 1), ("put", 4), ("compose", 1), ("copy", 1), ("list", 1), ("delete", 1), ("delete", 2)]


class Killing:
    """Kills the process that asks for the n-th operation of this verb of a job; once a job."""

    def __init__(self, redis: redis_py.Redis, plans: dict[str, tuple[str, int, bool]]) -> None:
        self._redis = redis
        self._plans = dict(plans)
        self._counts: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()
        self.killed: list[str] = []

    def __call__(self, operation: Operation) -> Fault | None:
        jid = next((jid for jid in self._plans if jid in operation.name), None)
        if jid is None:
            return None
        verb, number, after = self._plans[jid]
        with self._lock:
            count = self._counts[jid, operation.verb] = self._counts.get((jid, operation.verb), 0) + 1
            if (operation.verb, count) != (verb, number) or jid in self.killed:
                return None
            self.killed.append(jid)
        os.kill(int(self._redis.hget(f"told:{jid}", "pid") or 0), signal.SIGKILL)
        return Fault(broken=True, after=after)


@pytest.mark.parametrize("after", [False, True], ids=["before it is done", "when it is done"])
def test_a_kill_at_every_step_changes_no_byte(
    start_cloud: StartCloud, redis: redis_py.Redis, server: CloudStorage, after: bool
) -> None:
    plans = {f"{number:024x}": (verb, count, after) for number, (verb, count) in enumerate(STEPS, 0xABC0)}
    server.fault = killing = Killing(redis, plans)
    for jid in plans:
        # A worker for each: one whose children crash again and again starts them later and later.
        work = start_cloud("-c", "1")
        push(redis, jid=jid)
        wait_for_end(redis, server, f"{jid}.csv")
        work.end()

    assert sorted(killing.killed) == sorted(plans)
    assert server.objects("exports") == {f"{jid}.csv": whole() for jid in plans}
    wait_until(lambda: server.objects("parts") == {}, 20, "nothing is left of their parts")


@pytest.mark.parametrize("verb", ["put", "compose", "copy", "list", "delete"])
def test_a_store_that_is_away_for_a_while_holds_the_job_up(
    start_cloud: StartCloud, redis: redis_py.Redis, server: CloudStorage, verb: str
) -> None:
    left = [4]

    def fault(operation: Operation) -> Fault | None:
        if operation.verb != verb or not left[0]:
            return None
        left[0] -= 1
        return Fault(status=503)

    server.fault = fault
    push(redis)
    start_cloud()
    wait_for_end(redis, server, f"{JID}.csv")
    assert left == [0]
    assert server.objects("exports") == {f"{JID}.csv": whole()}


@pytest.mark.parametrize("verb", ["put", "copy"])
def test_a_store_that_refuses_leaves_the_job_in_retry_and_nothing_published(
    start_cloud: StartCloud, redis: redis_py.Redis, server: CloudStorage, verb: str
) -> None:
    def fault(operation: Operation) -> Fault | None:
        return Fault(status=403) if operation.verb == verb and JID in operation.name else None

    server.fault = fault
    push(redis)
    start_cloud()
    retries = RetrySet(redis=redis)
    wait_until(lambda: retries.size == 1, 30, "the job is in retry")
    [entry] = retries
    assert entry.error_class == "pyqik.Refused"
    assert "Storage Object User" in (entry.error_message or "")
    assert server.objects("exports") == {}

    server.fault = lambda operation: None
    retries.retry_all()
    wait_for_end(redis, server, f"{JID}.csv")
    assert server.objects("exports") == {f"{JID}.csv": whole()}


def test_a_stop_does_not_wait_for_a_store_that_hangs(
    start_cloud: StartCloud, redis: redis_py.Redis, server: CloudStorage
) -> None:
    stall = threading.Event()
    hangs = threading.Event()

    def fault(operation: Operation) -> Fault | None:
        if hangs.is_set() and operation.verb == "put":
            return Fault(stall=stall, broken=True)
        return None

    server.fault = fault
    push(redis)
    work = start_cloud()
    wait_for_item(redis, 30)
    hangs.set()
    wait_for_item(redis, 40)
    work.end()
    assert redis.llen("queue:cloud") == 1

    hangs.clear()
    stall.set()
    start_cloud()
    wait_for_end(redis, server, f"{JID}.csv")
    assert server.objects("exports") == {f"{JID}.csv": whole()}
