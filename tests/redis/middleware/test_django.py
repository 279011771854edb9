"""`django_connections` with a real Django and a database in a file: what a job leaves behind meets no other job."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection, connections, transaction
from django.db.backends.sqlite3.base import DatabaseWrapper

import pyqik
from pyqik.middleware import django_connections
from tests.redis.middleware.conftest import RunJobs


def nothing_around(payload: pyqik.Payload) -> Iterator[None]:
    """What a process without the middleware has."""
    yield


@pytest.fixture(scope="module")
def project() -> None:
    """A Django project; there can be one in a process."""
    settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "nowhere"}})
    django.setup()


@pytest.fixture(autouse=True)
def table(project: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The project's database for this test, with an empty table `note`."""
    file = tmp_path / "db.sqlite3"
    monkeypatch.setitem(connections.settings["default"], "NAME", str(file))
    own = sqlite3.connect(file)
    own.execute("CREATE TABLE note (number)")
    own.close()
    yield file
    for each in connections.all(initialized_only=True):
        each.close()
        del connections[each.alias]


@pytest.fixture
def persistent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are kept from one job to the next."""
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", None)


def rows(file: Path) -> list[int]:
    """What has been committed, seen from outside."""
    own = sqlite3.connect(file)
    try:
        return [number for (number,) in own.execute("SELECT number FROM note ORDER BY number")]
    finally:
        own.close()


def insert(number: int) -> None:
    """Write a row in the current connection."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO note VALUES (%s)", [number])


def is_closed(raw: Any) -> bool:
    """Whether a connection of sqlite3's own has been closed."""
    try:
        raw.execute("SELECT 1")
    except sqlite3.ProgrammingError:
        return True
    return False


# Plain jobs.


@pytest.mark.usefixtures("persistent")
def test_a_connection_that_is_fit_is_kept(run_jobs: RunJobs) -> None:
    seen: list[Any] = []

    def look() -> None:
        insert(1)
        seen.append(connection.connection)

    run_jobs(django_connections, look, look)

    assert seen[0] is seen[1]


def test_a_connection_that_is_too_old_is_replaced(run_jobs: RunJobs) -> None:
    seen: list[Any] = []

    def look() -> None:
        insert(1)
        seen.append(connection.connection)

    run_jobs(django_connections, look, look)

    assert seen[0] is not seen[1]
    assert all(map(is_closed, seen))


def break_connection() -> None:
    insert(1)
    # As if the server had gone away.
    connection.connection.close()
    insert(2)


@pytest.mark.usefixtures("persistent")
@pytest.mark.parametrize(
    ("middleware", "ending"),
    [pytest.param(django_connections, "job.done", id="with"), pytest.param(nothing_around, "job.failed", id="without")],
)
def test_a_connection_that_broke_in_one_job_is_replaced_for_the_next(
    run_jobs: RunJobs,
    table: Path,
    middleware: pyqik.ServerMiddleware,
    ending: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Django takes a file for something that never goes away; other databases are asked.
    monkeypatch.setattr(DatabaseWrapper, "is_usable", lambda self: not is_closed(self.connection))

    endings = run_jobs(middleware, break_connection, lambda: insert(3))

    assert endings == ["job.failed", ending]
    assert (3 in rows(table)) == (ending == "job.done")


def leave_autocommit_off() -> None:
    transaction.set_autocommit(False)


def leave_atomic() -> None:
    transaction.atomic().__enter__()


ERRORS = [ValueError("no"), SystemExit(1), pyqik.Shutdown("stop")]


@pytest.mark.usefixtures("persistent")
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("leave", [leave_autocommit_off, leave_atomic])
@pytest.mark.parametrize("middleware", [django_connections, nothing_around], ids=["with", "without"])
def test_a_transaction_that_was_left_open_does_not_leak_into_the_next_job_of_the_thread(
    run_jobs: RunJobs,
    table: Path,
    middleware: pyqik.ServerMiddleware,
    leave: Callable[[], None],
    error: BaseException,
) -> None:
    threads: list[threading.Thread] = []

    def first() -> None:
        threads.append(threading.current_thread())
        if len(threads) == 1:
            leave()
            insert(1)
            raise error

    def second() -> None:
        threads.append(threading.current_thread())
        insert(2)

    run_jobs(middleware, first, second)

    assert len(set(threads)) == 1
    assert rows(table) == ([2] if middleware is django_connections else [])


def test_a_transaction_that_ends_in_the_job_is_the_jobs_own(run_jobs: RunJobs, table: Path) -> None:
    def commit() -> None:
        with transaction.atomic():
            insert(1)

    def fail() -> None:
        with transaction.atomic():
            insert(2)
            raise ValueError("no")

    run_jobs(django_connections, fail, commit)

    assert rows(table) == [1]


@pytest.mark.usefixtures("persistent")
def test_the_log_of_queries_begins_anew_with_each_job(run_jobs: RunJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "DEBUG", True)
    counts: list[int] = []

    def look() -> None:
        insert(1)
        counts.append(len(connection.queries))

    run_jobs(django_connections, look, look)

    assert counts[0] == counts[1]


def test_a_test_that_runs_jobs_within_its_own_transaction_keeps_it(table: Path) -> None:
    with transaction.atomic():
        insert(1)
        around = django_connections(pyqik.Payload({}))
        next(around)
        insert(2)
        next(around, None)

        assert connection.in_atomic_block
        transaction.set_rollback(True)

    assert rows(table) == []


# Async jobs.


def test_an_async_job_uses_connections_of_its_own_that_are_closed_at_its_end(run_jobs: RunJobs, table: Path) -> None:
    seen: list[Any] = []

    def look(number: int) -> None:
        insert(number)
        seen.append((connection.connection, threading.current_thread()))

    async def first() -> None:
        await sync_to_async(look)(1)
        await sync_to_async(look)(2)

    async def second() -> None:
        await sync_to_async(look)(3)

    endings = run_jobs(django_connections, first, second)

    assert endings == ["job.done"] * 2
    assert rows(table) == [1, 2, 3]
    for _, thread in seen:
        thread.join(5)
    assert all(is_closed(raw) for raw, _ in seen)
    assert len({id(raw) for raw, _ in seen}) == 2


@pytest.mark.parametrize("error", [ValueError("no"), pyqik.Shutdown("stop")], ids=lambda error: type(error).__name__)
def test_what_an_async_job_left_open_does_not_leak_into_the_next(
    run_jobs: RunJobs, table: Path, error: BaseException
) -> None:
    runs: list[int] = []

    async def first() -> None:
        runs.append(1)
        if len(runs) == 1:
            await sync_to_async(leave_autocommit_off)()
            await sync_to_async(insert)(1)
            raise error

    async def second() -> None:
        await sync_to_async(insert)(2)

    run_jobs(django_connections, first, second)

    assert rows(table) == [2]


def test_async_jobs_beside_each_other_have_different_threads_and_connections(run_jobs: RunJobs) -> None:
    barrier = threading.Barrier(2)
    seen: list[Any] = []

    def look() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        seen.append((connection.connection, threading.current_thread()))
        # On one thread the second would never come.
        barrier.wait(10)

    async def body() -> None:
        await sync_to_async(look)()

    async def other() -> None:
        await sync_to_async(look)()

    endings = run_jobs(django_connections, body, other, together=True)

    assert endings == ["job.done"] * 2
    assert len({thread for _, thread in seen}) == len({id(raw) for raw, _ in seen}) == 2


def test_a_query_that_still_runs_at_the_end_of_its_job_does_not_block_the_loop(run_jobs: RunJobs) -> None:
    gate, began = threading.Event(), threading.Event()
    tasks: list[asyncio.Task[Any]] = []

    def slow_query() -> None:
        insert(1)
        began.set()
        assert gate.wait(10), "nobody opened the gate"

    async def leaves_a_query() -> None:
        tasks.append(asyncio.create_task(sync_to_async(slow_query)()))
        while not began.is_set():
            await asyncio.sleep(0)

    async def goes_on() -> None:
        # It can only run once the loop is free.
        gate.set()
        await tasks[0]

    endings = run_jobs(django_connections, leaves_a_query, goes_on)

    assert endings == ["job.done"] * 2
