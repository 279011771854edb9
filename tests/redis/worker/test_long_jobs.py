"""Long jobs in the real engine: interrupted, and gone on with, over the state that Sidekiq knows."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis as redis_py

import pyqik
from pyqik import enumerators
from pyqik.core.config import Config
from pyqik.core.events import events
from pyqik.wire.schedule import promote
from pyqik.worker.launcher import Launcher
from tests.redis.worker.engine import Book, listening, payload, push, running, waiting
from tests.support.wait import wait_until

JID = "1".rjust(24, "0")
STATE = f"it-{JID}"
ITEMS = list(range(10))


class Stand:
    """Where a job stops at one item until the test lets it go on; and what it has done."""

    def __init__(self) -> None:
        self.at: int | None = None
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self.done: list[Any] = []
        self.called: list[str] = []

    def do(self, item: Any) -> None:
        """Called by the job for each item."""
        if item == self.at:
            self.at = None
            self.reached.set()
            assert self.go_on.wait(20), "nobody let the job go on"
        self.done.append(item)

    def wait(self) -> None:
        """Wait until the job is at that item."""
        assert self.reached.wait(15), "the job did not come to its item"

    def stop_at(self, item: int) -> None:
        """Have the job stand still at `item`."""
        self.at = item
        self.reached.clear()
        self.go_on.clear()


@pytest.fixture
def stand() -> Stand:
    return Stand()


@pytest.fixture
def book() -> Iterator[Book]:
    with listening() as book:
        yield book


def as_function(stand: Stand) -> None:
    @pyqik.job("Long")
    def long(number: int) -> None:
        for item in pyqik.each(enumerators.array(ITEMS)):
            stand.do(item)


def as_class(stand: Stand) -> None:
    class Long(pyqik.IterableJob):
        def build_enumerator(self, number: int, *, cursor: int | None) -> pyqik.Source[int, int]:
            return enumerators.array(ITEMS)

        def each_iteration(self, item: int, number: int) -> None:
            stand.do(item)


def as_generator(stand: Stand) -> None:
    def numbers(cursor: int | None) -> Iterator[tuple[int, int]]:
        for number in range(cursor or 0, 10):
            yield number, number

    @pyqik.job("Long")
    def long(number: int) -> None:
        for item in pyqik.each(numbers):
            stand.do(item)


def as_checkpoints(stand: Stand) -> None:
    @pyqik.job("Long")
    def long(number: int) -> None:
        for item in range(pyqik.resume(0), 10):
            stand.do(item)
            pyqik.checkpoint(item + 1)


def as_async_loop(stand: Stand) -> None:
    @pyqik.job("Long")
    async def long(number: int) -> None:
        async for item in pyqik.each(enumerators.array(ITEMS)):
            stand.do(item)


def as_async_class(stand: Stand) -> None:
    class Long(pyqik.IterableJob):
        def build_enumerator(self, number: int, *, cursor: int | None) -> pyqik.Source[int, int]:
            return enumerators.array(ITEMS)

        async def each_iteration(self, item: int, number: int) -> None:
            stand.do(item)


def as_async_generator(stand: Stand) -> None:
    async def numbers(cursor: int | None) -> Any:
        for number in range(cursor or 0, 10):
            yield number, number

    @pyqik.job("Long")
    async def long(number: int) -> None:
        async for item in pyqik.each(numbers):
            stand.do(item)


STYLES = [as_function, as_class, as_generator, as_checkpoints, as_async_loop, as_async_class, as_async_generator]
Style = Callable[[Stand], None]
each_style = pytest.mark.parametrize("style", STYLES, ids=lambda style: style.__name__)


def state(redis: redis_py.Redis) -> dict[str, str]:
    """The state of the job, without what changes from run to run."""
    fields: Any = redis.hgetall(STATE)
    return {name.decode(): value.decode() for name, value in fields.items() if name not in (b"rt", b"stops", b"items")}


def interrupt_at(redis_url: str, stand: Stand, item: int, **config: Any) -> None:
    """Run the job in a process of its own that quiets down while it is at `item`, and stops."""
    stand.stop_at(item)
    with running(redis_url, "a", **config) as launcher:
        stand.wait()
        launcher.quiet()
        stand.go_on.set()


def finish(redis_url: str, book: Book, **config: Any) -> None:
    """Run the job to its end."""
    before = book.count("job.done")
    with running(redis_url, "a", **config):
        book.wait_for("job.done", before + 1)


@each_style
def test_an_interrupted_job_goes_on_where_it_was(
    style: Style, redis: redis_py.Redis, redis_url: str, stand: Stand, book: Book
) -> None:
    style(stand)
    push(redis, "a", [1], "Long")
    raw: Any = redis.lindex("queue:a", 0)

    interrupt_at(redis_url, stand, 3)

    assert stand.done == [0, 1, 2, 3]
    assert redis.lrange("queue:a", 0, -1) == [raw]
    assert state(redis) == {"ex": "1", "c": "4"}
    assert redis.ttl(STATE) > 2_591_000

    interrupt_at(redis_url, stand, 6)

    assert state(redis) == {"ex": "2", "c": "7"}

    finish(redis_url, book)

    assert stand.done == ITEMS
    assert not redis.exists(STATE)
    assert [fields["reason"] for fields in book.fields("job.interrupted")] == ["stop", "stop"]


@each_style
def test_a_failed_job_is_retried_from_the_item_that_failed(
    style: Style, redis: redis_py.Redis, redis_url: str, stand: Stand, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    style(stand)
    do = stand.do

    def fail_once(item: int) -> None:
        monkeypatch.setattr(stand, "do", do)
        raise ValueError(item)

    monkeypatch.setattr(stand, "do", lambda item: fail_once(item) if item == 5 else do(item))
    push(redis, "a", [1], "Long")
    with running(redis_url, "a"):
        book.wait_for("job.failed")

    assert state(redis) == {"ex": "1", "c": "5"}

    redis.lpush("queue:a", payload(1, "Long"))
    finish(redis_url, book)

    assert stand.done == ITEMS


@each_style
def test_the_cursor_of_sidekiq_is_where_it_begins(
    style: Style, redis: redis_py.Redis, redis_url: str, stand: Stand, book: Book
) -> None:
    style(stand)
    redis.hset(STATE, mapping={"ex": "1", "c": "7", "rt": "12.5"})
    push(redis, "a", [1], "Long")

    finish(redis_url, book)

    assert stand.done == [7, 8, 9]


@each_style
def test_a_cancelled_job_ends_at_its_next_item(
    style: Style, redis: redis_py.Redis, redis_url: str, stand: Stand, book: Book
) -> None:
    style(stand)
    push(redis, "a", [1], "Long")
    stand.stop_at(3)

    with running(redis_url, "a", flush_interval=0), pyqik.Client(redis_url) as client:
        stand.wait()
        client.cancel(JID)
        stand.go_on.set()
        book.wait_for("job.done")

    assert stand.done in ([0, 1, 2, 3], [0, 1, 2, 3, 4])
    assert not redis.exists(STATE)
    assert not redis.exists("retry", "queue:a")


@each_style
def test_a_job_that_is_cancelled_while_it_waits_does_nothing(
    style: Style, redis: redis_py.Redis, redis_url: str, stand: Stand, book: Book
) -> None:
    style(stand)
    push(redis, "a", [1], "Long")
    with pyqik.Client(redis_url) as client:
        since = client.cancel(JID)
        assert client.cancel(JID) == since

    assert set(state(redis)) == {"cancelled", "c", "ex"}

    finish(redis_url, book)

    assert stand.done == []
    assert not redis.exists(STATE)


def test_a_job_that_is_cancelled_while_its_process_drains_does_nothing_more(
    redis: redis_py.Redis, redis_url: str, stand: Stand, book: Book
) -> None:
    as_class(stand)
    push(redis, "a", [1], "Long")
    stand.stop_at(3)

    with running(redis_url, "a") as launcher, pyqik.Client(redis_url) as client:
        stand.wait()
        launcher.quiet()
        client.cancel(JID)
        stand.go_on.set()
    # It may have heard of it in time.
    if redis.exists("queue:a"):
        finish(redis_url, book)

    assert stand.done == [0, 1, 2, 3]
    assert not redis.exists(STATE)


def test_a_job_that_is_cancelled_while_it_waits_for_its_retry_does_nothing_more(
    redis: redis_py.Redis, redis_url: str, stand: Stand, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_class(stand)
    monkeypatch.setattr(stand, "do", lambda item: stand.done.append(10 // (5 - item)))
    push(redis, "a", [1], "Long")

    with running(redis_url, "a"):
        book.wait_for("job.failed")
    with pyqik.Client(redis_url) as client:
        client.cancel(JID)
    [retry] = redis.zrange("retry", 0, -1)
    redis.lpush("queue:a", retry)
    finish(redis_url, book)

    assert stand.done == [2, 2, 3, 5, 10]
    assert not redis.exists(STATE)


def test_a_hash_that_holds_only_a_cancellation_is_no_obstacle(
    redis: redis_py.Redis, redis_url: str, stand: Stand, book: Book
) -> None:
    """Ruby's `cancel!` leaves it, and Ruby itself fails on it."""
    as_class(stand)
    redis.hset(STATE, "cancelled", "1795320000")
    push(redis, "a", [1], "Long")

    finish(redis_url, book)

    assert stand.done == []


@pytest.mark.parametrize("where", ["configuration", "payload"])
def test_a_job_whose_time_slice_is_over_goes_to_the_back(
    redis: redis_py.Redis, redis_url: str, stand: Stand, book: Book, where: str
) -> None:
    @pyqik.job("Long")
    def long(number: int) -> None:
        for item in pyqik.each(enumerators.array(ITEMS)):
            threading.Event().wait(0.02)
            stand.do((number, item))

    fields = {"max_iteration_runtime": 0.05} if where == "payload" else {}
    config = {"max_iteration_runtime": 0.05} if where == "configuration" else {}
    push(redis, "a", [1, 2], "Long", **fields)

    with running(redis_url, "a", concurrency=1, **config):
        book.wait_for("job.done", 2)

    assert sorted(stand.done) == [(number, item) for number in (1, 2) for item in ITEMS]
    first = [number for number, _ in stand.done]
    assert first.index(2) < 10, "the second job waited until the first was done"
    assert {fields["reason"] for fields in book.fields("job.interrupted")} == {"time_slice"}


def test_two_stops_in_a_row_send_a_job_to_the_back(
    redis: redis_py.Redis, redis_url: str, stand: Stand, book: Book
) -> None:
    as_function(stand)
    push(redis, "a", [1], "Long")

    interrupt_at(redis_url, stand, 3)
    push(redis, "a", [2, 3])

    assert waiting(redis, "a") == [1, 2, 3]

    interrupt_at(redis_url, stand, 5, concurrency=1)

    assert waiting(redis, "a") == [2, 3, 1]
    assert len(json.loads(redis.hget(STATE, "stops") or b"")) == 2


def test_jobs_that_are_interrupted_together_go_back_in_their_order(
    redis: redis_py.Redis, redis_url: str, book: Book
) -> None:
    gates = [threading.Event() for _ in range(6)]
    arrived = threading.Semaphore(0)
    is_settling, ended = threading.Event(), threading.Event()

    @pyqik.job("Short")
    def short(number: int) -> None:
        arrived.release()
        assert gates[number].wait(20)

    @pyqik.job("Long")
    def long(number: int) -> None:
        for _ in pyqik.each(enumerators.array(ITEMS)):
            arrived.release()
            assert gates[number].wait(20)

    def hold_up_the_fetcher(**_: object) -> None:
        is_settling.set()
        ended.wait(20)

    push(redis, "a", [0], "Short")
    push(redis, "a", range(1, 6), "Long")
    with running(redis_url, "a", concurrency=6) as launcher, ExitStack() as stack:
        for _ in gates:
            assert arrived.acquire(timeout=15)
        launcher.quiet()
        stack.callback(events.subscribe("job.settled", hold_up_the_fetcher))
        gates[0].set()
        assert is_settling.wait(15)
        for number in range(1, 6):
            gates[number].set()
            book.wait_for("job.interrupted", number)
        ended.set()

    assert waiting(redis, "a") == [1, 2, 3, 4, 5]


def test_a_job_that_did_no_item_goes_to_the_back(
    redis: redis_py.Redis, redis_url: str, stand: Stand, book: Book
) -> None:
    """Its first item takes longer than the stop waits."""

    @pyqik.job("Long")
    def long(number: int) -> None:
        for _ in pyqik.each(enumerators.array(ITEMS)):
            stand.reached.set()
            while True:
                threading.Event().wait(0.001)

    push(redis, "a", [1], "Long")
    with running(redis_url, "a", timeout=0.1, concurrency=1):
        stand.wait()
        push(redis, "a", [2])

    assert waiting(redis, "a") == [2, 1]
    assert state(redis) == {"ex": "1", "c": "0"}


def test_counters_and_cursor_agree_after_an_item_that_failed(
    redis: redis_py.Redis, redis_url: str, stand: Stand, book: Book
) -> None:
    failed: list[int] = []

    @pyqik.job("Long")
    def long(number: int) -> None:
        for item in pyqik.each(enumerators.array(ITEMS)):
            pyqik.counters["begun"] += 1
            if item == 4 and not failed:
                failed.append(item)
                raise ValueError
        stand.done.append(pyqik.counters["begun"])

    push(redis, "a", [1], "Long")
    with running(redis_url, "a"):
        book.wait_for("job.failed")

    assert json.loads(redis.hget(STATE, "counters") or b"") == {"begun": 4}

    redis.lpush("queue:a", payload(1, "Long"))
    finish(redis_url, book)

    assert stand.done == [10]


def test_the_older_of_two_runs_of_a_jid_hears_that_it_has_lost(
    redis: redis_py.Redis, redis_url: str, stand: Stand, book: Book
) -> None:
    as_function(stand)
    push(redis, "a", [1], "Long")
    stand.stop_at(3)

    with running(redis_url, "a", flush_interval=0):
        stand.wait()
        first, go_on = threading.Event(), stand.go_on
        stand.go_on = first
        redis.lpush("queue:a", payload(1, "Long"))
        book.wait_for("job.done")
        go_on.set()
        book.wait_for("job.interrupted")

    assert not redis.exists(STATE)
    assert redis.zcard("schedule") == 1


def test_a_state_is_written_while_the_job_runs(redis: redis_py.Redis, redis_url: str, stand: Stand, book: Book) -> None:
    as_function(stand)
    push(redis, "a", [1], "Long")
    stand.stop_at(9)

    with running(redis_url, "a", flush_interval=0):
        stand.wait()
        wait_until(lambda: redis.hget(STATE, "c") == b"9", 10)
        assert state(redis)["ex"] == "1"
        stand.go_on.set()
        book.wait_for("job.done")


def test_steps_that_are_finished_are_not_done_again(
    redis: redis_py.Redis, redis_url: str, stand: Stand, book: Book
) -> None:
    @pyqik.job("Long")
    def long(number: int) -> None:
        with pyqik.step("load") as step:
            stand.called.append("load")
            for item in range(step.resume(0), 3):
                stand.do(item)
                step.checkpoint(item + 1)
        with pyqik.step("send"):
            stand.called.append("send")
            for item in pyqik.each(enumerators.array([10, 11, 12])):
                stand.do(item)
        with pyqik.step("tell"):
            stand.called.append("tell")

    push(redis, "a", [1], "Long")
    interrupt_at(redis_url, stand, 1)

    assert redis.hget(STATE, "c") == b'{"load":2}'

    interrupt_at(redis_url, stand, 11)

    assert redis.hget(STATE, "c") == b'{"send":2}'

    finish(redis_url, book)

    assert stand.done == [0, 1, 2, 10, 11, 12]
    assert stand.called == ["load", "load", "send", "send", "tell"]


def test_a_rolling_deploy_over_ten_workers_interrupts_a_job_at_most_twice(
    redis: redis_py.Redis, redis_url: str, book: Book
) -> None:
    """Each time the very worker is stopped that has it. Nothing else waits, so that any of them could have it at once:
    those that are older than the deploy leave it to those that are not.
    """
    at_work, is_over = threading.Event(), threading.Event()

    @pyqik.job("Long")
    def long(number: int) -> None:
        for _ in pyqik.each(enumerators.array(list(range(100_000)))):
            at_work.set()
            threading.Event().wait(0.001)
            if is_over.is_set():
                break

    def started() -> Launcher:
        launcher = Launcher(Config(redis=redis_url, queues=["a"], poll=False, timeout=10, concurrency=1))
        launcher.start()
        wait_until(lambda: redis.hexists(launcher.identity, "info"), 10)
        return launcher

    def has_it(launcher: Launcher) -> bool:
        fields: Any = redis.hkeys(f"pyqik:in-flight:{launcher.identity}")
        return any(b":" in field for field in fields)

    def is_at_work() -> bool:
        promote(redis, "schedule", time.time() + 60)
        return at_work.is_set()

    old, new = [started() for _ in range(10)], []
    push(redis, "a", [1], "Long")
    try:
        while old:
            at_work.clear()
            wait_until(is_at_work, 20)
            victim = next((each for each in old if has_it(each)), old[0])
            old.remove(victim)
            assert victim.stop()
            new.append(started())
        is_over.set()
        book.wait_for("job.done")
    finally:
        for each in (*old, *new):
            each.stop()

    reasons = [fields["reason"] for fields in book.fields("job.interrupted")]
    assert reasons.count("stop") == 2


def test_short_jobs_do_not_wait_behind_all_of_many_that_were_interrupted(
    redis: redis_py.Redis, redis_url: str, book: Book
) -> None:
    """Half of the slots of the process that stops, and ten at least, is what it puts in front of the others."""
    at_work = threading.Semaphore(0)

    @pyqik.job("Long")
    def long(number: int) -> None:
        for item in pyqik.each(enumerators.array(list(range(100_000)))):
            if item == 1:
                at_work.release()
            threading.Event().wait(0.01)

    push(redis, "a", range(40), "Long")
    with running(redis_url, "a", concurrency=40):
        for _ in range(40):
            assert at_work.acquire(timeout=30)
        push(redis, "a", range(100, 105))

    order = waiting(redis, "a")
    assert sorted(order) == [*range(40), *range(100, 105)]
    # At most 20 before each: a short job that had been taken already goes back to the front, between long ones.
    before = [sum(number < 40 for number in order[: order.index(short)]) for short in range(100, 105)]
    assert max(before) == before[-1] == 20


def test_a_job_that_asks_for_it_goes_on_later(redis: redis_py.Redis, redis_url: str, stand: Stand, book: Book) -> None:
    asked: list[int] = []

    @pyqik.job("Long")
    def long(number: int) -> None:
        for item in pyqik.each(enumerators.array(ITEMS)):
            if item == 4 and not asked:
                asked.append(item)
                raise pyqik.ContinueIn(1000)
            stand.do(item)

    push(redis, "a", [1], "Long", enqueued_at=1.5, retry_count=2)
    with running(redis_url, "a"):
        book.wait_for("job.interrupted")

    [(raw, due)] = redis.zrange("schedule", 0, -1, withscores=True)
    entry = json.loads(raw)
    assert 900 < due - time.time() < 1100
    assert "enqueued_at" not in entry
    assert (entry["jid"], entry["retry_count"]) == (JID, 2)
    assert state(redis) == {"ex": "1", "c": "4"}

    promote(redis, "schedule", time.time() + 2000)
    finish(redis_url, book)
    assert stand.done == ITEMS


def test_a_throttled_job_goes_on_later(redis: redis_py.Redis, redis_url: str, stand: Stand, book: Book) -> None:
    busy = iter([True, False])

    @pyqik.job("Long")
    def long(number: int) -> None:
        try:
            for item in pyqik.each(enumerators.limit(enumerators.array(ITEMS), when=lambda: next(busy))):
                stand.do(item)
        except Exception:
            stand.called.append("swallowed")

    push(redis, "a", [1], "Long")
    with running(redis_url, "a"):
        book.wait_for("job.interrupted")

    assert redis.zcard("schedule") == 1
    promote(redis, "schedule", time.time() + 100)
    finish(redis_url, book)

    assert stand.done == ITEMS
    assert stand.called == []


def test_a_job_that_says_so_is_complete(redis: redis_py.Redis, redis_url: str, stand: Stand, book: Book) -> None:
    @pyqik.job("Long")
    def long(number: int) -> None:
        for item in pyqik.each(enumerators.array(ITEMS)):
            if item == 4:
                raise pyqik.Complete
            stand.do(item)

    push(redis, "a", [1], "Long")
    finish(redis_url, book)

    assert stand.done == [0, 1, 2, 3]
    wait_until(lambda: not redis.exists(STATE), 10)
    assert not redis.exists("retry", "dead", "schedule")


def test_a_dead_job_keeps_its_state_for_whoever_retries_it(
    redis: redis_py.Redis, redis_url: str, stand: Stand, book: Book
) -> None:
    @pyqik.job("Long")
    def long(number: int) -> None:
        for item in pyqik.each(enumerators.array(ITEMS)):
            if item == 4 and not stand.called:
                stand.called.append("failed")
                raise pyqik.Kill("a person has to look")
            stand.do(item)

    push(redis, "a", [1], "Long")
    with running(redis_url, "a"):
        book.wait_for("job.died")

    assert redis.zcard("dead") == 1
    assert state(redis) == {"ex": "1", "c": "4"}

    redis.lpush("queue:a", payload(1, "Long"))
    finish(redis_url, book)
    assert stand.done == ITEMS


def test_a_job_that_is_dropped_leaves_no_state(redis: redis_py.Redis, redis_url: str, stand: Stand, book: Book) -> None:
    @pyqik.job("Long")
    def long(number: int) -> None:
        for item in pyqik.each(enumerators.array(ITEMS)):
            stand.do(item)
            raise pyqik.Discard("the account is closed")

    push(redis, "a", [1], "Long")
    with running(redis_url, "a"):
        book.wait_for("job.discarded")

    assert not redis.exists(STATE)


def test_middleware_is_left_as_at_any_end(redis: redis_py.Redis, redis_url: str, stand: Stand, book: Book) -> None:
    def around(job: pyqik.Payload) -> Iterator[None]:
        stand.called.append("enter")
        try:
            yield
        except BaseException as error:
            stand.called.append(type(error).__name__)
            raise
        finally:
            stand.called.append("leave")

    as_function(stand)
    push(redis, "a", [1], "Long")
    interrupt_at(redis_url, stand, 3, server_middleware=[around])
    with pyqik.Client(redis_url) as client:
        client.cancel(JID)
    finish(redis_url, book, server_middleware=[around])

    assert stand.called == ["enter", "Interrupted", "leave", "enter", "leave"]


def test_an_interruption_counts_as_nothing(redis: redis_py.Redis, redis_url: str, stand: Stand, book: Book) -> None:
    as_function(stand)
    push(redis, "a", [1], "Long")
    interrupt_at(redis_url, stand, 3)
    interrupt_at(redis_url, stand, 5)
    finish(redis_url, book)

    assert redis.get("stat:processed") == b"1"
    assert int(redis.get("stat:failed") or 0) == 0


def test_a_long_job_without_a_jid_runs_and_says_that_nothing_is_kept(
    redis: redis_py.Redis, redis_url: str, stand: Stand, book: Book
) -> None:
    as_function(stand)
    redis.lpush("queue:a", b'{"class":"Long","args":[1],"retry":true}')
    finish(redis_url, book)

    assert stand.done == ITEMS
    assert not redis.keys("it-*")


def test_a_state_that_is_no_state_fails_the_job_and_is_left_alone(
    redis: redis_py.Redis, redis_url: str, stand: Stand, book: Book
) -> None:
    as_function(stand)
    redis.set(STATE, "somebody else's")
    push(redis, "a", [1], "Long")
    with running(redis_url, "a"):
        book.wait_for("job.failed")

    [entry] = redis.zrange("retry", 0, -1)
    assert json.loads(entry)["error_class"] == "pyqik.InvalidCursor"
    assert redis.get(STATE) == b"somebody else's"
    assert stand.done == []
