"""The rescuer against a real server: it takes over what a dead process held, once, and clears it away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import redis as redis_py

from pyqik.core.clock import SystemClock
from pyqik.wire.broker import Broker, DeadLimits
from pyqik.wire.connection import open_redis
from pyqik.worker.upkeep import rescue
from pyqik.worker.upkeep.rescue import Rescuer
from tests.redis.wire.database import contents, fill, record
from tests.redis.wire.test_presence import IDENTITY, beat
from tests.redis.worker.engine import Book
from tests.support.proxy import RedisProxy
from tests.support.wait import wait_until

LEASE = 0.6
RECORD = f"pyqik:in-flight:{IDENTITY}"
ENDED = "pyqik:in-flight:host:1:abc"

#: Starts a rescuer on the server at this address.
StartRescuer = Callable[[str], Rescuer]


@pytest.fixture
def start_rescuer() -> Iterator[StartRescuer]:
    with ExitStack() as closing:

        def start(url: str) -> Rescuer:
            client = closing.enter_context(open_redis(url))
            rescuer = Rescuer(client, SystemClock(), LEASE)
            closing.callback(rescuer.stop, 10)
            rescuer.start()
            return rescuer

        yield start


@pytest.fixture
def short_aftermath(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear away at once what was taken over."""
    monkeypatch.setattr(rescue, "AFTERMATH", 0.0)


def die(redis: redis_py.Redis, lease: float = LEASE) -> None:
    """A process that beat once, took one of two jobs, had another one landed, and is heard of no more."""
    fill(redis, {"queue:a": [b"2", b"1"]})
    broker = Broker(redis, IDENTITY, DeadLimits(), lease=lease)
    broker.exchange([], 1, ["a"], adopt=False, now=1.0)
    broker.close()
    fill(redis, {f"pyqik:landing:{IDENTITY}:default:a": [b"landed"]})
    beat(redis, lease=lease)


@pytest.mark.usefixtures("short_aftermath")
def test_everything_goes_back_and_the_dead_one_is_cleared_away(
    start_rescuer: StartRescuer, redis_url: str, redis: redis_py.Redis, book: Book
) -> None:
    die(redis)

    start_rescuer(redis_url)
    book.wait_for("process.rescued")

    wait_until(lambda: not redis.exists("pyqik:leases"))
    redis.delete(IDENTITY)
    assert contents(redis) == {
        "queues": {b"a"},
        "queue:a": [b"2", b"landed", b"1"],
        RECORD: record(1, "a", ended=True),
    }
    assert [fields["count"] for fields in book.fields("process.rescued")] == [2]


def test_what_still_lands_in_the_aftermath_goes_back_too(
    start_rescuer: StartRescuer, redis_url: str, redis: redis_py.Redis, book: Book
) -> None:
    die(redis)
    start_rescuer(redis_url)
    book.wait_for("process.rescued")

    fill(redis, {f"pyqik:landing:{IDENTITY}:default:a": [b"late"]})

    wait_until(lambda: redis.lrange("queue:a", 0, -1) == [b"2", b"landed", b"1", b"late"])
    assert "processes" not in contents(redis)
    assert redis.zscore("pyqik:leases", IDENTITY) is not None


@pytest.mark.usefixtures("short_aftermath")
def test_of_several_rescuers_each_job_goes_back_once(
    start_rescuer: StartRescuer, redis_url: str, redis: redis_py.Redis, book: Book
) -> None:
    die(redis)

    for _ in range(5):
        start_rescuer(redis_url)
    wait_until(lambda: not redis.exists("pyqik:leases"))

    assert contents(redis)["queue:a"] == [b"2", b"landed", b"1"]
    assert sum(fields["count"] for fields in book.fields("process.rescued")) == 2


@pytest.mark.usefixtures("short_aftermath")
def test_a_rescue_that_broke_off_half_way_is_finished_by_another_rescuer(
    start_rescuer: StartRescuer, redis_url: str, redis: redis_py.Redis
) -> None:
    die(redis)
    redis.hset(RECORD, "ended", "1")

    start_rescuer(redis_url)

    wait_until(lambda: not redis.exists("pyqik:leases"))
    assert contents(redis)["queue:a"] == [b"2", b"landed", b"1"]


@pytest.mark.usefixtures("short_aftermath")
def test_the_lease_is_there_until_the_jobs_are_back(
    start_rescuer: StartRescuer, redis_proxy: RedisProxy, redis: redis_py.Redis
) -> None:
    """Whatever command the connection breaks at: a whole lease later all is done, and nothing twice."""
    die(redis)
    for number in range(1, 5):
        # Those of a look are two; then come the declaration, the recovery, and the farewell.
        redis_proxy.cut_after_request(number * 3, "EVALSHA")
        redis_proxy.cut_before_request(number, "EXEC")

    start_rescuer(redis_proxy.url)

    wait_until(lambda: not redis.exists("pyqik:leases"), 60)
    assert contents(redis)["queue:a"] == [b"2", b"landed", b"1"]


def test_the_living_are_left_alone_however_often_the_rescuer_looks(
    start_rescuer: StartRescuer, redis_proxy: RedisProxy, redis: redis_py.Redis, book: Book
) -> None:
    die(redis, lease=500)
    start_rescuer(redis_proxy.url)

    wait_until(lambda: redis_proxy.requests.count("INFO") > 3 * rescue.LOOKS_PER_LEASE)

    assert book.count("process.rescued") == 0
    assert b"ended" not in contents(redis)[RECORD]


def test_a_rescuer_that_loses_redis_all_the_time_rescues_nobody(
    start_rescuer: StartRescuer, redis_proxy: RedisProxy, redis: redis_py.Redis, book: Book
) -> None:
    die(redis, lease=0.0)
    start_rescuer(redis_proxy.url)

    for cut in range(20):
        wait_until(lambda seen=cut: redis_proxy.requests.count("INFO") > 3 * (seen + 1))
        redis_proxy.cut_all()

    assert book.count("process.rescued") == 0
    assert b"ended" not in contents(redis)[RECORD]
