"""Redis goes away, freezes, fills up, forgets, fails over: the engine survives, and goes on when it can."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_py

import pyqik
from pyqik.wire.broker import Superseded, recover
from pyqik.worker.engine import fetcher
from tests.redis.worker.engine import Book, Gate, left_behind, payload, push, running, waiting
from tests.support.redis_server import RedisServer
from tests.support.wait import wait_until


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconnect quickly, so that outages take little time."""
    monkeypatch.setattr(fetcher, "RECONNECT", (0.01, 0.05))


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of the test's own."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis_py.Redis]:
    """A client of that server; with redis-py's own retries, as it is none of the engine's."""
    client = redis_py.Redis.from_url(server.url)
    yield client
    client.close()


def declare_gated(gate: Gate, book: Book) -> None:
    @pyqik.job("Gated")
    def gated(number: int) -> None:
        gate.pass_through()
        book.note(number)


def impatient_url(server: RedisServer) -> str:
    return f"{server.url}?socket_timeout=0.5"


def ran(book: Book, count: int) -> None:
    wait_until(lambda: sum(book.runs.values()) >= count, 20, f"{count} runs")


def test_a_server_that_comes_back_empty_is_served_on(
    server: RedisServer, client: redis_py.Redis, book: Book, gate: Gate
) -> None:
    declare_gated(gate, book)
    push(client, "a", [1, 2], "Gated")
    with running(server.url, "a", concurrency=2):
        gate.wait_for_arrivals(2)
        server.restart()
        gate.open()
        book.wait_for("redis.restored")
        push(client, "a", [3])
        ran(book, 3)

    assert book.runs == {1: 1, 2: 1, 3: 1}
    assert left_behind(client) == {}


def test_a_database_that_is_flushed_in_the_middle_is_served_on(
    server: RedisServer, client: redis_py.Redis, book: Book, gate: Gate
) -> None:
    declare_gated(gate, book)
    push(client, "a", [1, 2], "Gated")
    with running(server.url, "a", "b", concurrency=3):
        gate.wait_for_arrivals(2)
        client.flushall()
        push(client, "b", [3])
        gate.open()
        ran(book, 3)
        push(client, "a", [4])
        ran(book, 4)

    assert book.runs == {1: 1, 2: 1, 3: 1, 4: 1}
    assert left_behind(client) == {}


def test_jobs_finish_while_the_server_is_frozen_and_are_settled_when_it_thaws(
    server: RedisServer, client: redis_py.Redis, book: Book, gate: Gate
) -> None:
    declare_gated(gate, book)
    push(client, "a", [1, 2], "Gated")
    push(client, "a", [3])
    with running(impatient_url(server), "a", concurrency=2):
        gate.wait_for_arrivals(2)
        server.freeze()
        gate.open()
        ran(book, 2)
        book.wait_for("redis.lost")
        server.thaw()
        ran(book, 3)

    assert book.runs == {1: 1, 2: 1, 3: 1}
    assert left_behind(client) == {}


def test_takes_that_a_frozen_server_still_runs_after_it_was_given_up_take_nothing_away(
    server: RedisServer, client: redis_py.Redis, book: Book
) -> None:
    with running(impatient_url(server), "a", concurrency=1):
        for number in range(3):
            book.wait_for("fetch.idle")
            push(client, "a", range(number * 10, number * 10 + 5))
            server.freeze()
            book.wait_for("redis.lost", number + 1)
            server.thaw()
            push(client, "a", range(number * 10 + 5, number * 10 + 10))
            ran(book, number * 10 + 10)

    assert book.runs == dict.fromkeys(range(30), 1)
    assert left_behind(client) == {}


def test_a_full_server_refuses_outcomes_until_there_is_room_and_none_is_lost(
    server: RedisServer, client: redis_py.Redis, book: Book, gate: Gate
) -> None:
    @pyqik.job("Fails")
    def fails(number: int) -> None:
        gate.pass_through()
        raise ValueError("no")

    push(client, "a", [1, 2], "Fails")
    with running(server.url, "a", concurrency=2):
        gate.wait_for_arrivals(2)
        client.config_set("maxmemory", "1")
        gate.open()
        book.wait_for("redis.lost")
        assert client.zcard("retry") == 0
        client.config_set("maxmemory", "0")
        book.wait_for("redis.restored")
        wait_until(lambda: client.zcard("retry") == 2, message="both failures are in the retry set")

    assert left_behind(client) == {}


def test_a_full_server_lets_nothing_be_taken_and_nothing_be_lost(
    server: RedisServer, client: redis_py.Redis, book: Book
) -> None:
    push(client, "a", range(20))
    client.config_set("maxmemory", "1")
    with running(server.url, "a"):
        book.wait_for("redis.lost")
        assert client.llen("queue:a") == 20
        client.config_set("maxmemory", "0")
        ran(book, 20)

    assert book.runs == dict.fromkeys(range(20), 1)


def test_a_master_that_becomes_a_replica_and_master_again_is_served_on(
    server: RedisServer, client: redis_py.Redis, book: Book, gate: Gate
) -> None:
    declare_gated(gate, book)
    push(client, "a", [1, 2], "Gated")
    with RedisServer() as other, running(server.url, "a", concurrency=2):
        gate.wait_for_arrivals(2)
        # A master that cannot be reached: the data stay as they are.
        dead_port = other.port
        other.kill()
        client.replicaof("127.0.0.1", dead_port)
        gate.open()
        book.wait_for("redis.lost")
        ran(book, 2)
        client.replicaof("NO", "ONE")
        book.wait_for("redis.restored")
        push(client, "a", [3])
        ran(book, 3)

    assert book.runs == {1: 1, 2: 1, 3: 1}
    assert left_behind(client) == {}


def test_an_idle_engine_survives_a_failover_too(server: RedisServer, client: redis_py.Redis, book: Book) -> None:
    with running(server.url, "a", "b"):
        book.wait_for("fetch.idle")
        client.replicaof("127.0.0.1", 1)
        book.wait_for("redis.lost")
        client.replicaof("NO", "ONE")
        book.wait_for("redis.restored")
        push(client, "a", [1])
        ran(book, 1)

    assert book.runs == {1: 1}


def test_every_connection_killed_again_and_again_loses_and_doubles_nothing(
    server: RedisServer, client: redis_py.Redis, book: Book
) -> None:
    with running(server.url, "a", "b", concurrency=3):
        for first in range(0, 100, 10):
            push(client, "a", range(first, first + 5))
            client.client_kill_filter(_type="normal", skipme=True)
            push(client, "b", range(first + 5, first + 10))
            ran(book, first + 10)

    assert book.runs == dict.fromkeys(range(100), 1)
    assert left_behind(client) == {}


def test_a_server_without_leave_for_client_commands_is_served(
    server: RedisServer, client: redis_py.Redis, book: Book, gate: Gate
) -> None:
    declare_gated(gate, book)
    client.execute_command("ACL", "SETUSER", "lame", "on", ">pw", "~*", "&*", "+@all", "-client")
    with running(server.url.replace("redis://", "redis://lame:pw@"), "a", "b", "c", concurrency=1):
        book.wait_for("fetch.idle")
        push(client, "a", [1, 2], "Gated")
        push(client, "b", [3])
        gate.wait_for_arrivals(1)
        push(client, "c", [4, 5])
        gate.open()
        ran(book, 5)

    assert book.runs == dict.fromkeys(range(1, 6), 1)
    assert book.count("redis.lost") == 0
    assert left_behind(client) == {}


def test_a_server_that_needs_a_moment_to_load_is_waited_for(
    server: RedisServer, client: redis_py.Redis, book: Book
) -> None:
    server.kill()
    with running(server.url, "a"):
        book.wait_for("redis.lost")
        server.start()
        push(client, "a", [1])
        ran(book, 1)

    assert book.runs == {1: 1}


def test_a_stop_while_the_server_is_away_ends_and_says_that_it_was_not_clean(
    server: RedisServer, client: redis_py.Redis, book: Book, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyqik.worker.launcher.UNWIND", 0.3)
    declare_gated(gate, book)
    push(client, "a", [1], "Gated")
    with running(server.url, "a", timeout=0.2, clean=False, concurrency=1) as launcher:
        gate.wait_for_arrivals(1)
        server.kill()
        gate.open()
        ran(book, 1)

        assert launcher.stop() is False

        # Only now may its threads end: there is a server that takes the outcome.
        server.start()


def test_who_was_taken_for_dead_interrupts_its_jobs_and_goes_on_under_another_name(
    server: RedisServer, client: redis_py.Redis, book: Book, gate: Gate
) -> None:
    declare_gated(gate, book)
    push(client, "a", [1, 2, 3], "Gated")
    with running(server.url, "a", concurrency=2, lease=3) as launcher:
        gate.wait_for_arrivals(2)
        first = launcher.identity
        recover(client, first)
        book.wait_for("process.superseded")
        gate.wait_for_arrivals(2)
        gate.open()
        ran(book, 3)
        wait_until(lambda: client.smembers("processes") == {launcher.identity.encode()}, message="one is listed")

    assert launcher.identity != first
    assert book.runs == {1: 1, 2: 1, 3: 1}
    assert (waiting(client, "a"), left_behind(client)) == ([], {})
    assert issubclass(Superseded, pyqik.PyqikError)


def test_a_launcher_that_is_quiet_and_was_taken_for_dead_interrupts_its_jobs_and_takes_no_more(
    server: RedisServer, client: redis_py.Redis, book: Book, gate: Gate
) -> None:
    declare_gated(gate, book)
    push(client, "a", [1], "Gated")
    with running(server.url, "a", concurrency=1, lease=3) as launcher:
        gate.wait_for_arrivals(1)
        launcher.quiet()
        recover(client, launcher.identity)
        book.wait_for("process.superseded")
        gate.open()
        book.wait_for("job.interrupted")

    assert (book.runs, waiting(client, "a")) == ({}, [1])
    assert client.zcard("pyqik:leases") == 0


def test_what_a_failover_brought_back_is_given_back(server: RedisServer, client: redis_py.Redis, book: Book) -> None:
    """The new master has an older state: a unit that was settled stands in the record again."""
    push(client, "a", [1])
    with running(server.url, "a") as launcher:
        book.wait_settled(1)
        record = f"pyqik:in-flight:{launcher.identity}"
        client.hset(record, "1:1", b"a\n" + payload(1))
        client.client_kill_filter(_type="normal", skipme=True)
        ran(book, 2)

    assert book.runs == {1: 2}
    assert left_behind(client) == {}


def test_events_tell_of_an_outage_once(server: RedisServer, client: redis_py.Redis, book: Book) -> None:
    with running(server.url, "a"):
        book.wait_for("fetch.idle")
        server.kill()
        book.wait_for("redis.lost")
        server.start()
        book.wait_for("redis.restored")
        downtime: Any = book.fields("redis.restored")[0]["downtime"]

    assert (book.count("redis.lost"), book.count("redis.restored")) == (1, 1)
    assert 0 < downtime < 20
    assert json.dumps(downtime)
