"""Capsules: queues with threads of their own inside one process, which do not get in each other's way."""

from __future__ import annotations

import threading

import redis as redis_py

import pyqik
from tests.redis.worker.engine import Book, Gate, declare_gated, declare_note, left_behind, push, running, waiting
from tests.support.wait import wait_until


def test_a_capsule_whose_threads_are_all_busy_holds_up_no_other(
    redis_url: str, redis: redis_py.Redis, book: Book
) -> None:
    gate = Gate()
    declare_gated(gate)
    declare_note(book)
    push(redis, "slow", range(5), "Gated")
    push(redis, "quick", range(100, 200))
    reports = pyqik.Capsule(name="reports", queues=["slow"], concurrency=2)

    with running(redis_url, "quick", concurrency=1, capsules=[reports]):
        gate.wait_for_arrivals(2)
        wait_until(lambda: len(book.order) == 100, message="the quick ones have run")
        assert waiting(redis, "slow") == [2, 3, 4]
        gate.open()
        book.wait_settled(105)

    assert (book.order, left_behind(redis)) == (list(range(100, 200)), {})


def test_a_capsule_takes_from_its_own_queues_alone(redis_url: str, redis: redis_py.Redis, book: Book) -> None:
    gate = Gate()
    declare_gated(gate)
    reports = pyqik.Capsule(name="reports", queues=["slow"], concurrency=3)
    push(redis, "own", range(3), "Gated")

    with running(redis_url, "own", concurrency=1, capsules=[reports]):
        gate.wait_for_arrivals(1)
        book.wait_for_next("fetch.idle")
        assert waiting(redis, "own") == [1, 2]
        gate.open()


def test_jobs_that_wake_several_capsules_at_a_time_all_run_once(
    redis_url: str, redis: redis_py.Redis, book: Book
) -> None:
    declare_note(book)
    capsules = [pyqik.Capsule(name=f"c{number}", queues=[f"q{number}", "both"]) for number in range(3)]

    with running(redis_url, "a", capsules=capsules):
        book.wait_for("fetch.idle", 4)
        for number in range(0, 300, 5):
            for offset, queue in enumerate(("a", "q0", "q1", "q2", "both")):
                push(redis, queue, [number + offset])
        book.wait_settled(300)

    assert (len(book.runs), set(book.runs.values()), left_behind(redis)) == (300, {1}, {})


def test_a_stop_gives_back_what_every_capsule_runs(redis_url: str, redis: redis_py.Redis, book: Book) -> None:
    arrived = threading.Semaphore(0)

    @pyqik.job("Endless")
    def endless(number: int) -> None:
        arrived.release()
        while True:
            threading.Event().wait(0.01)

    push(redis, "a", [1], "Endless")
    push(redis, "b", [2], "Endless")
    other = pyqik.Capsule(name="other", queues=["b"], concurrency=1)

    with running(redis_url, "a", capsules=[other], timeout=0):
        assert arrived.acquire(timeout=10)
        assert arrived.acquire(timeout=10)

    assert (waiting(redis, "a"), waiting(redis, "b"), left_behind(redis)) == ([1], [2], {})


def test_each_capsule_is_shown_with_its_threads_and_queues(redis_url: str, redis: redis_py.Redis, book: Book) -> None:
    other = pyqik.Capsule(name="other", queues={"b": 3, "c": 1}, concurrency=7)

    with running(redis_url, "a", concurrency=2, capsules=[other]) as launcher:
        wait_until(lambda: redis.hexists(launcher.identity, "info"), message="it is registered")
        shown = redis.hmget(launcher.identity, "concurrency", "info")

    assert shown[0] == b"9"
    assert b'"other":{"concurrency":7,"mode":"weighted","weights":{"b":3,"c":1}}' in (shown[1] or b"")
