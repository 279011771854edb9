"""A push whose reply is lost happens once; a push that did not happen is made up for or reported."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis as redis_py
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from pyqik.wire import pushing
from pyqik.wire.pushing import Batch, Pusher
from tests.redis.jobs.conftest import Pushes
from tests.support.proxy import RedisProxy
from tests.support.redis_server import RedisServer
from tests.support.wait import wait_until

Connect = Callable[..., Pushes]


def jobs_in(redis: redis_py.Redis, queue: str = "default") -> list[list[Any]]:
    """The arguments of a queue's jobs, the first to run first."""
    return [json.loads(raw)["args"] for raw in reversed(redis.lrange(f"queue:{queue}", 0, -1))]


@pytest.fixture
def proxied(connect: Connect, redis_proxy: RedisProxy) -> Pushes:
    """A client behind the proxy; the server knows its script already."""
    pushes = connect(redis_proxy.url, timeout=0.3)
    pushes.push("Warm", queue="warm")
    return pushes


def test_a_push_whose_reply_was_lost_happens_once(
    proxied: Pushes, redis_proxy: RedisProxy, redis: redis_py.Redis
) -> None:
    redis_proxy.cut_after_request(command="EVALSHA")

    jid = proxied.push("Foo", 1)

    assert redis_proxy.cuts == 1
    assert jobs_in(redis) == [[1]]
    assert json.loads(redis.lrange("queue:default", 0, 0)[0])["jid"] == jid


def test_a_push_that_was_lost_on_its_way_is_sent_again(
    proxied: Pushes, redis_proxy: RedisProxy, redis: redis_py.Redis
) -> None:
    redis_proxy.cut_before_request(command="EVALSHA")

    proxied.push("Foo", 1)

    assert redis_proxy.cuts == 1
    assert jobs_in(redis) == [[1]]


def test_several_lost_replies_in_a_row_are_survived(
    proxied: Pushes, redis_proxy: RedisProxy, redis: redis_py.Redis
) -> None:
    redis_proxy.cut_after_request(1, command="EVALSHA")
    redis_proxy.cut_after_request(2, command="EVALSHA")
    redis_proxy.cut_before_request(3, command="EVALSHA")

    proxied.push("Foo", 1)

    assert redis_proxy.cuts == 3
    assert jobs_in(redis) == [[1]]


def test_a_reply_lost_while_the_script_is_taught_does_no_harm(
    connect: Connect, redis_proxy: RedisProxy, redis: redis_py.Redis
) -> None:
    redis.script_flush()
    redis_proxy.cut_after_request(command="EVAL")

    connect(redis_proxy.url).push("Foo", 1)

    assert redis_proxy.cuts == 1
    assert jobs_in(redis) == [[1]]


def test_every_batch_of_a_bulk_is_pushed_once_wherever_a_reply_is_lost(
    proxied: Pushes, redis_proxy: RedisProxy, redis: redis_py.Redis
) -> None:
    for n in (1, 3, 4):
        redis_proxy.cut_after_request(n, command="EVALSHA")

    jids = proxied.push_bulk("Foo", ([n] for n in range(50)), batch_size=10)

    assert redis_proxy.cuts == 3
    assert jobs_in(redis) == [[n] for n in range(50)]
    assert len(set(jids)) == 50


def test_a_scheduled_push_whose_reply_was_lost_happens_once(
    proxied: Pushes, redis_proxy: RedisProxy, redis: redis_py.Redis
) -> None:
    redis_proxy.cut_after_request(command="EVALSHA")

    proxied.push("Foo", 1, at=4_000_000_000.5)

    entries: Any = redis.zrange("schedule", 0, -1, withscores=True)
    assert [score for _, score in entries] == [4_000_000_000.5]


def test_an_attempt_that_arrives_late_does_nothing_more(
    proxied: Pushes, redis_proxy: RedisProxy, redis: redis_py.Redis
) -> None:
    before = redis_proxy.requests.count("EVALSHA")
    redis_proxy.pause()
    pushing_thread = threading.Thread(target=proxied.push, args=("Foo", 1))
    pushing_thread.start()
    # The first attempt hangs until its reply is overdue, then a second one comes in on another connection.
    wait_until(lambda: redis_proxy.requests.count("EVALSHA") >= before + 1)
    wait_until(lambda: len(redis_proxy.requests) > before + 1)

    redis_proxy.restore()
    pushing_thread.join()

    wait_until(lambda: jobs_in(redis))
    assert jobs_in(redis) == [[1]]


def test_when_redis_stays_away_the_connection_error_is_raised(
    proxied: Pushes, redis_proxy: RedisProxy, redis: redis_py.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushing, "REPEATS", (0.0, 0.1))
    redis_proxy.refuse()

    with pytest.raises(redis_py.ConnectionError):
        proxied.push("Foo", 1)

    redis_proxy.restore()
    assert jobs_in(redis) == []
    assert proxied.push("Foo", 2)


def test_a_wrong_password_is_reported_at_once(connect: Connect) -> None:
    with RedisServer("--requirepass", "right") as server:
        pushes = connect(server.url.replace("//", "//:wrong@"))

        with pytest.raises(redis_py.AuthenticationError):
            pushes.push("Foo")


def test_pushes_one_after_another_share_one_fence_that_expires(pushes: Pushes, redis: redis_py.Redis) -> None:
    for n in range(5):
        pushes.push("Foo", n)

    fences = redis.keys("pyqik:push:*")
    assert len(fences) == 1
    assert redis.get(fences[0]) == b"5"
    assert 0 < redis.ttl(fences[0]) <= 60


def test_pushes_at_the_same_time_do_not_fence_each_other(redis: redis_py.Redis) -> None:
    pusher = Pusher(redis)
    start = threading.Barrier(4)

    def push_many(name: str) -> None:
        start.wait()
        for n in range(50):
            batch = Batch()
            batch.enqueue("default", json.dumps({"args": [name, n]}).encode())
            pusher.push(batch)

    threads = [threading.Thread(target=push_many, args=(f"thread {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert redis.llen("queue:default") == 200
    assert len(redis.keys("pyqik:push:*")) <= 4


def test_a_client_made_before_a_fork_serves_both_processes(redis: redis_py.Redis, redis_url: str) -> None:
    script = f"""
import os, pyqik
client = pyqik.Client({redis_url!r})
client.push("Foo", "before")
child = os.fork()
for n in range(3):
    client.push("Foo", "child" if child == 0 else "parent", n)
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
"""

    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)

    pushed = jobs_in(redis)
    assert len(pushed) == 7
    assert [args for args in pushed if args[0] == "child"] == [["child", n] for n in range(3)]
    assert [args for args in pushed if args[0] == "parent"] == [["parent", n] for n in range(3)]


class Failover(redis_py.Redis):
    """A client of a server that refuses a write; the refusal is followed by `cure`, as a failover would be."""

    cure: tuple[str, ...] = ()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # untyped in redis-py
        except NoScriptError:
            raise
        except ResponseError:
            if self.cure:
                super().execute_command(*self.cure)  # type: ignore[no-untyped-call]  # likewise
            raise


@pytest.fixture
def failover() -> Iterator[Failover]:
    """A `Failover` on a server of its own."""
    with RedisServer() as server:
        client = Failover(port=server.port)
        yield client
        client.close()


@pytest.mark.parametrize(
    ("refusal", "cure"),
    [
        pytest.param(("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"), id="READONLY"),
        pytest.param(
            ("CONFIG", "SET", "min-replicas-to-write", "1"),
            ("CONFIG", "SET", "min-replicas-to-write", "0"),
            id="NOREPLICAS",
        ),
    ],
)
def test_a_write_refused_during_a_failover_is_tried_once_more(
    failover: Failover, refusal: tuple[str, ...], cure: tuple[str, ...]
) -> None:
    batch = Batch()
    batch.enqueue("default", b"{}")
    failover.execute_command(*refusal)
    failover.cure = cure

    Pusher(failover).push(batch)

    assert failover.llen("queue:default") == 1


def test_a_write_refused_twice_is_an_error(failover: Failover) -> None:
    batch = Batch()
    batch.enqueue("default", b"{}")
    failover.execute_command("REPLICAOF", "127.0.0.1", "1")

    with pytest.raises(ReadOnlyError):
        Pusher(failover).push(batch)


def test_a_push_that_redis_refuses_leaves_no_fence_behind(pushes: Pushes, redis: redis_py.Redis) -> None:
    redis.set("queue:default", "not a list")

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        pushes.push("Foo")

    assert redis.keys("pyqik:push:*") == []


def test_a_batch_larger_than_lua_can_unpack_keeps_its_order(pushes: Pushes, redis: redis_py.Redis) -> None:
    pushes.push_bulk("Foo", [[n] for n in range(12_345)], batch_size=20_000)

    assert jobs_in(redis) == [[n] for n in range(12_345)]
