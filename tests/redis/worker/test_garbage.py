"""Keys of the wrong type and other rubbish where Sidekiq keeps its things: the engine neither dies nor spins."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis as redis_py

import pyqik
from pyqik.core.clock import SystemClock
from pyqik.wire.connection import open_redis
from pyqik.worker.engine.outcome import Outcome
from pyqik.worker.engine.processor import Processor, Run
from pyqik.worker.upkeep.recovery import Recovery
from pyqik.worker.upkeep.scheduled import Poller
from tests.redis.worker.engine import Book, payload, push, running
from tests.support.wait import wait_until

#: Commands in a second that an engine may send while it can do nothing: ten attempts, each of a few commands.
BOUND = 400

Spoil = Callable[[redis_py.Redis], object]


def calls(redis: redis_py.Redis) -> int:
    """How many commands the server has run."""
    stats: Any = redis.info("stats")
    return int(stats["total_commands_processed"])


def commands_of_a_second(redis: redis_py.Redis) -> int:
    """How many commands the server runs in a second, beside those that this asks with."""
    before = calls(redis)
    threading.Event().wait(1.0)
    return calls(redis) - before


SPOILT: list[tuple[str, Spoil]] = [
    ("a queue is a string", lambda redis: redis.set("queue:a", "x")),
    ("a queue is a hash", lambda redis: redis.hset("queue:a", "x", "y")),
    ("paused is a list", lambda redis: redis.rpush("paused", "a")),
    ("processes is a string", lambda redis: redis.set("processes", "x")),
    ("queues is a string", lambda redis: redis.set("queues", "x")),
    ("retry is a string", lambda redis: redis.set("retry", "x")),
    ("dead is a list", lambda redis: redis.rpush("dead", "x")),
    ("leases is a string", lambda redis: redis.set("pyqik:leases", "x")),
    ("stat:processed is a text", lambda redis: redis.set("stat:processed", "many")),
]


@pytest.mark.parametrize("spoil", [spoil for _, spoil in SPOILT], ids=[name for name, _ in SPOILT])
def test_a_key_of_the_wrong_type_neither_kills_the_engine_nor_makes_it_spin(
    spoil: Spoil, redis_url: str, redis: redis_py.Redis, book: Book
) -> None:
    spoil(redis)
    with running(redis_url, "a", "b", clean=False, timeout=0.2):
        wait_until(lambda: book.count("fetch.idle") or book.count("redis.lost"), message="it runs")

        assert commands_of_a_second(redis) < BOUND

        redis.flushall()
        push(redis, "b", [1])
        wait_until(lambda: book.runs[1] == 1, message="it serves what is left, once the key is mended")


def test_a_queue_of_the_wrong_type_does_not_keep_the_others_from_being_served(
    redis_url: str, redis: redis_py.Redis, book: Book
) -> None:
    redis.set("queue:a", "x")
    with running(redis_url, "a", "b", clean=False, timeout=0.2):
        push(redis, "b", range(5))
        wait_until(lambda: sum(book.runs.values()) == 5, message="the jobs of the other queue have run")


def test_a_statistics_key_that_holds_something_else_stops_no_heartbeat_and_is_counted_once(
    redis_url: str, redis: redis_py.Redis, book: Book
) -> None:
    redis.set("stat:processed", "many")
    push(redis, "a", range(3))
    with running(redis_url, "a") as launcher:
        book.wait_settled(3)
        for _ in range(3):
            beat = redis.hget(launcher.identity, "beat")
            launcher._heartbeat.poke()
            wait_until(lambda beat=beat: redis.hget(launcher.identity, "beat") != beat, message="another beat")

    counts = {key: redis.get(key) for key in redis.keys("stat:processed:*")}
    assert list(counts.values()) == [b"3"]


def test_rubbish_in_a_queue_is_put_away_and_the_jobs_beside_it_run(
    redis_url: str, redis: redis_py.Redis, book: Book
) -> None:
    rubbish = [b"%d{" % number for number in range(50)]
    for number, junk in enumerate(rubbish):
        redis.lpush("queue:a", junk, payload(number))

    with running(redis_url, "a"):
        wait_until(lambda: sum(book.runs.values()) == 50, message="all jobs have run")

    assert sorted(redis.zrange("dead", 0, -1)) == sorted(rubbish)


# The poller and the recovery, each in its own thread.


@pytest.mark.parametrize(
    ("spoil", "due"),
    [
        pytest.param(lambda redis: redis.set("processes", "x"), "retry", id="processes is a string"),
        pytest.param(lambda redis: redis.zadd("retry", {b"{": 1.0, b"[1]": 2.0, b"": 3.0}), "retry", id="rubbish"),
    ],
)
def test_the_poller_promotes_beside_rubbish(spoil: Spoil, due: str, redis_url: str, redis: redis_py.Redis) -> None:
    redis.set("process_cleanup", "1")
    spoil(redis)
    redis.zadd(due, {payload(1, queue="a"): 5.0})
    client = open_redis(redis_url)
    poller = Poller(client, SystemClock(), average=0.01, scheduled_average=5.0)

    poller.poll()

    assert redis.llen("queue:a") == 1
    client.close()


def test_the_poller_outlives_keys_of_the_wrong_type(
    redis_url: str, redis: redis_py.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyqik.worker.upkeep.scheduled.INITIAL_SPREAD", 0.0)
    redis.set("retry", "x")
    client = open_redis(redis_url)
    poller = Poller(client, SystemClock(), average=0.01, scheduled_average=0.01)
    poller.start()
    wait_until(lambda: redis.exists("process_cleanup"), message="it has polled")
    redis.zadd("schedule", {payload(1, queue="a"): 5.0})

    redis.delete("retry")

    wait_until(lambda: redis.llen("queue:a") == 1, message="it polls on")
    poller.stop()
    poller.join(5)
    client.close()


@pytest.mark.parametrize("job_class", ["Plain", "Async"])
def test_a_run_that_a_bug_breaks_off_is_retried_unchanged(
    redis_url: str, redis: redis_py.Redis, book: Book, monkeypatch: pytest.MonkeyPatch, job_class: str
) -> None:
    @pyqik.job("Plain")
    def plain(number: int) -> None:
        book.note(number)

    @pyqik.job("Async")
    async def not_plain(number: int) -> None:
        book.note(number)

    def buggy(processor: Processor, run: Run) -> Outcome:
        raise ZeroDivisionError

    with monkeypatch.context() as patched, running(redis_url, "a"):
        patched.setattr(Processor, "_done", buggy)
        push(redis, "a", [1], job_class)
        wait_until(lambda: redis.zcard("retry") == 1, message="it is retried")
        patched.undo()
        push(redis, "a", [2], job_class)
        book.wait_for("job.done")

    assert redis.zrange("retry", 0, -1) == [payload(1, job_class)]
    assert book.order == [1, 2]


@pytest.mark.parametrize("job_class", ["Keeps", "Fails", "KeepsInLoop"])
def test_what_a_job_had_in_its_hands_is_gone_when_it_has_ended(
    redis_url: str, redis: redis_py.Redis, job_class: str
) -> None:
    gone: list[str] = []

    class Heavy:
        def __del__(self) -> None:
            gone.append(threading.current_thread().name)

    class Keeps(pyqik.Job):
        def perform(self, number: int) -> None:
            self.heavy = Heavy()

    class KeepsInLoop(pyqik.Job):
        async def perform(self, number: int) -> None:
            self.heavy = Heavy()

    @pyqik.job("Fails")
    def fails(number: int) -> None:
        heavy = Heavy()
        raise ValueError(heavy)

    push(redis, "a", [1], job_class)
    with running(redis_url, "a", concurrency=1):
        wait_until(lambda: gone, message="its objects are gone, although no other job has come")

    [thread] = gone
    assert thread.startswith("pyqik-loop" if job_class == "KeepsInLoop" else "pyqik-job")


def test_the_recovery_tries_until_it_can(redis_url: str, redis: redis_py.Redis) -> None:
    redis.set("queue:a", "x")
    redis.hset("pyqik:in-flight:host:1:abc", mapping={"take.default": "1", "1:1": b"a\n1"})
    client = open_redis(redis_url)
    recovery = Recovery(client, SystemClock())
    recovery.start()
    counts: list[int] = []
    recovery.give_back("host:1:abc", counts.append)

    assert commands_of_a_second(redis) < BOUND
    assert counts == []
    redis.delete("queue:a")

    wait_until(lambda: counts == [1], message="it has given the job back")
    assert redis.lrange("queue:a", 0, -1) == [b"1"]
    recovery.stop(5)
    client.close()
