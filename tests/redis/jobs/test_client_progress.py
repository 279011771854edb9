"""`progress` and `rows` of both clients: what they read of a long job, while it runs and after its end."""

from __future__ import annotations

import asyncio
import json
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
import redis as redis_py

import pyqik
from pyqik import enumerators
from tests.redis.worker.engine import Book, Gate, listening, push, running
from tests.support.wait import wait_until

JID = "1".rjust(24, "0")
STATE, PROGRESS, ROWS, ERRORS = f"it-{JID}", f"progress/{JID}", f"rows/{JID}", f"errors/{JID}"
DAY, WEEK, MONTH = 86_400, 604_800, 2_592_000


class Reads(Protocol):
    """What both clients are asked here."""

    def progress(self, jid: str) -> pyqik.Progress | None: ...
    def rows(self, jid: str) -> pyqik.FailedRows | None: ...


class ReadsAsync:
    """The same of an `AsyncClient`, in an event loop of its own."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner()
        self._client = pyqik.AsyncClient(url)

    def progress(self, jid: str) -> pyqik.Progress | None:
        return self._runner.run(self._client.progress(jid))

    def rows(self, jid: str) -> pyqik.FailedRows | None:
        return self._runner.run(self._client.rows(jid))

    def close(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()


@pytest.fixture(params=[pyqik.Client, ReadsAsync], ids=["blocking", "asyncio"])
def reads(request: pytest.FixtureRequest, redis_url: str) -> Iterator[Reads]:
    """A client of either kind on the emptied server."""
    client = request.param(redis_url)
    yield client
    client.close()


@pytest.fixture
def book() -> Iterator[Book]:
    with listening() as book:
        yield book


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


def declare_long(gate: Gate) -> None:
    @pyqik.job("Long")
    def long(number: int) -> None:
        pyqik.progress.total, pyqik.progress.note = 40, "wörking"
        for item in pyqik.each(enumerators.array([1, 2, 3, 4])):
            pyqik.progress.advance(10)
            if item == 3:
                gate.pass_through()


@pytest.fixture
def imported(gate: Gate, tmp_path: Path) -> bytes:
    """The CSV file that the job `Import` reads; its third row comes with the gate."""
    path = tmp_path / "customers.csv"
    path.write_bytes(b"name,age\na,1\nb,x\nc,3\nd,y\n")

    @pyqik.job("Import")
    def job(number: int) -> None:
        rows = pyqik.rows()
        for row in pyqik.each(enumerators.csv_rows(path)):
            if row["name"] == "c":
                gate.pass_through()
            if not row["age"].isdigit():
                rows.fail("is no number", field="age")

    return path.read_bytes()


def test_it_is_read_while_the_job_runs(
    reads: Reads, redis: redis_py.Redis, redis_url: str, gate: Gate, book: Book
) -> None:
    declare_long(gate)
    push(redis, "a", [1], "Long")
    with running(redis_url, "a", flush_interval=0):
        gate.wait_for_arrivals(1)

        said = reads.progress(JID)
        assert said is not None
        assert (said.jid, said.done, said.total, said.percent) == (JID, 20, 40, 50.0)
        assert (said.note, said.cursor, said.executions, said.failed_rows) == ("wörking", 2, 1, 0)
        assert said.updated_at is not None
        assert said.ended_at is None
        assert MONTH - 60 < redis.ttl(PROGRESS) <= MONTH

        gate.open()
        book.wait_for("job.done")


def test_it_is_read_for_a_day_after_the_end(
    reads: Reads, redis: redis_py.Redis, redis_url: str, gate: Gate, book: Book
) -> None:
    declare_long(gate)
    gate.open()
    push(redis, "a", [1], "Long")
    with running(redis_url, "a"):
        book.wait_for("job.done")
        wait_until(lambda: not redis.exists(STATE))

    said = reads.progress(JID)
    assert said is not None
    assert (said.done, said.total, said.note, said.executions, said.eta) == (40, 40, "wörking", 1, None)
    assert said.ended_at is not None
    assert DAY - 60 < redis.ttl(PROGRESS) <= DAY
    assert reads.rows(JID) is None


def test_it_is_read_between_two_runs(
    reads: Reads, redis: redis_py.Redis, redis_url: str, gate: Gate, book: Book
) -> None:
    declare_long(gate)
    push(redis, "a", [1], "Long")
    with running(redis_url, "a") as launcher:
        gate.wait_for_arrivals(1)
        launcher.quiet()
        gate.open()

    said = reads.progress(JID)
    assert said is not None
    assert (said.done, said.total, said.cursor, said.executions, said.ended_at) == (30, 40, 3, 1, None)
    assert said.runtime > 0

    with running(redis_url, "a"):
        book.wait_for("job.done")
    said = reads.progress(JID)
    assert said is not None
    assert (said.done, said.executions) == (40, 2)


def test_of_a_job_that_does_not_use_it_the_items_are_read(
    reads: Reads, redis: redis_py.Redis, redis_url: str, gate: Gate, book: Book
) -> None:
    @pyqik.job("Long")
    def long(number: int) -> None:
        for item in pyqik.each(enumerators.array([1, 2, 3, 4])):
            if item == 3:
                gate.pass_through()

    push(redis, "a", [1], "Long")
    with running(redis_url, "a", flush_interval=0):
        gate.wait_for_arrivals(1)
        assert reads.progress(JID) == pyqik.Progress(JID, 2, cursor=2, executions=1)
        gate.open()
        book.wait_for("job.done")
        wait_until(lambda: not redis.exists(STATE))

    assert reads.progress(JID) is None
    assert not redis.exists(PROGRESS)


def test_rows_are_read_while_the_job_runs(
    reads: Reads, redis: redis_py.Redis, redis_url: str, gate: Gate, book: Book, imported: bytes
) -> None:
    push(redis, "a", [1], "Import")
    with running(redis_url, "a", flush_interval=0):
        gate.wait_for_arrivals(1)

        found, said = reads.rows(JID), reads.progress(JID)
        assert found is not None
        assert (found.failed_count, found.done_count) == (1, 1)
        assert [error.messages for error in found.errors()] == [(("is no number", "age"),)]
        assert said is not None
        assert (said.failed_rows, said.done) == (1, 2)
        assert MONTH - 60 < redis.ttl(ROWS) <= MONTH

        gate.open()
        book.wait_for("job.done")


def test_rows_are_read_for_a_week_after_the_end(
    reads: Reads, redis: redis_py.Redis, redis_url: str, gate: Gate, book: Book, imported: bytes
) -> None:
    gate.open()
    push(redis, "a", [1], "Import")
    with running(redis_url, "a"):
        book.wait_for("job.done")
        wait_until(lambda: not redis.exists(STATE))

    found = reads.rows(JID)
    assert found is not None
    assert (found.failed_count, found.done_count) == (2, 2)
    assert found.failed_csv().read() == b"name,age,errors\nb,x,age: is no number\nd,y,age: is no number\n"
    assert WEEK - 60 < redis.ttl(ROWS) <= WEEK
    assert WEEK - 60 < redis.ttl(ERRORS) <= WEEK


@pytest.mark.parametrize("jid", [JID, "", "no jid at all", "ü"])
def test_of_an_unknown_job_nothing_is_known(reads: Reads, redis: redis_py.Redis, jid: str) -> None:
    assert reads.progress(jid) is None
    assert reads.rows(jid) is None
    assert redis.keys("*") == []


def test_of_a_job_in_ruby_its_cursor_is_read(reads: Reads, redis: redis_py.Redis) -> None:
    redis.hset(STATE, mapping={"ex": "3", "c": json.dumps({"id": [1, "ü"]}), "rt": "12.5"})

    assert reads.progress(JID) == pyqik.Progress(JID, 0, cursor={"id": [1, "ü"]}, executions=3, runtime=12.5)
    assert reads.rows(JID) is None


def test_a_cancelled_job_that_never_began_has_done_nothing(reads: Reads, redis_url: str) -> None:
    with pyqik.Client(redis_url) as client:
        client.cancel(JID)

    assert reads.progress(JID) == pyqik.Progress(JID, 0)


def test_what_is_no_hash_is_an_error_of_redis(reads: Reads, redis: redis_py.Redis) -> None:
    redis.set(PROGRESS, "somebody else's")

    with pytest.raises(redis_py.RedisError):
        reads.progress(JID)


def test_rows_that_no_job_has_written_are_refused(reads: Reads, redis: redis_py.Redis) -> None:
    redis.hset(ROWS, mapping={"failed": "1", "f0": "b\x02"})
    redis.hset(ERRORS, mapping={"1": "rubbish"})

    with pytest.raises(ValueError, match="block of failed rows"):
        reads.rows(JID)


def test_all_of_it_is_of_one_instant(reads: Reads, redis: redis_py.Redis) -> None:
    """What is written in one command is read in one: nobody sees one half of it."""
    over = threading.Event()

    def write() -> None:
        number = 0
        while not over.is_set():
            number += 1
            with redis.pipeline(transaction=True) as pipe:
                pipe.hset(STATE, mapping={"c": str(number), "ex": "1", "rt": "0"})
                pipe.hset(PROGRESS, mapping={"done": str(number)})
                pipe.execute()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        wait_until(lambda: redis.exists(PROGRESS))
        found = [reads.progress(JID) for _ in range(200)]
    finally:
        over.set()
        writer.join(10)

    assert all(said is not None and said.done == said.cursor for said in found)


@pytest.mark.parametrize("verb", ["progress", "rows"])
def test_the_blocking_form_warns_in_an_event_loop(redis_url: str, verb: str) -> None:
    async def ask(client: pyqik.Client) -> Any:
        call: Callable[[str], Any] = getattr(client, verb)
        return call(JID)

    with pyqik.Client(redis_url) as client, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        assert asyncio.run(ask(client)) is None

    [warning] = caught
    assert f"write `await pyqik.AsyncClient.{verb}(...)`" in str(warning.message)
    assert warning.filename == __file__
