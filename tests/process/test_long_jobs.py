"""Long jobs in real processes: deployed over, killed, cut off from Redis, grown too large."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

import pyqik
from tests.process.conftest import StartWork
from tests.support.process import WorkProcess
from tests.support.redis_server import RedisServer
from tests.support.wait import wait_until

COUNT = 300
JID = "a" * 24

StartLong = Callable[..., WorkProcess]


@pytest.fixture
def start_long(start_work: StartWork, redis_url: str) -> StartLong:
    """`pyqik work` with the long jobs."""

    def start(*options: str, **more: Any) -> WorkProcess:
        more.setdefault("environment", {"LEDGER": redis_url})
        return start_work("-q", "long", "-c", "2", *options, modules=["tests.support.long_jobs"], **more)

    return start


def push(redis: redis_py.Redis, job_class: str, count: float = COUNT, jid: str = JID) -> None:
    payload = {"class": job_class, "args": [count], "jid": jid, "retry": True, "queue": "long", "created_at": 1.5}
    redis.lpush("queue:long", json.dumps(payload))


def done(redis: redis_py.Redis) -> list[str]:
    items: Any = redis.lrange("ledger", 0, -1)
    return [item.decode() for item in items]


def wait_for_items(redis: redis_py.Redis, count: int) -> None:
    wait_until(lambda: redis.llen("ledger") >= count, 30, f"{count} items in the ledger")


def wait_for_end(redis: redis_py.Redis) -> None:
    wait_until(lambda: redis.exists("completed"), 60, "the end of the job")


NUMBERS = [str(number) for number in range(COUNT)]


@pytest.mark.parametrize("job_class", ["Long::Loop", "Long::Safe", "Long::LoopOnLoop", "Long::Callbacks"])
def test_a_job_that_is_deployed_over_twice_does_each_item_once(
    start_long: StartLong, redis: redis_py.Redis, job_class: str
) -> None:
    push(redis, job_class)
    for items in (50, 150):
        work = start_long()
        wait_for_items(redis, items)
        work.end()
        assert redis.llen("queue:long") == 1

    start_long()
    wait_for_end(redis)

    assert done(redis) == NUMBERS
    assert redis.get("completed") == b"1"
    wait_until(lambda: not redis.exists(f"it-{JID}"), 10)
    assert not redis.exists("retry", "dead", "stat:failed")
    if job_class == "Long::Callbacks":
        callbacks: Any = redis.lrange("callbacks", 0, -1)
        runs = [b"on_start", b"on_stop", b"on_resume", b"on_stop", b"on_resume", b"on_stop", b"on_complete"]
        assert callbacks == runs


@pytest.mark.parametrize("job_class", ["Long::Loop", "Long::Callbacks", "Long::LoopOnLoop"])
def test_a_killed_process_costs_the_items_since_the_last_write(
    start_long: StartLong, redis: redis_py.Redis, job_class: str, tmp_path: Path
) -> None:
    (tmp_path / "pyqik.toml").write_text("flush_interval = 0.1\n")
    push(redis, job_class)
    work = start_long("-C", str(tmp_path / "pyqik.toml"))
    wait_for_items(redis, 150)
    work.send_to_child(signal.SIGKILL)
    wait_for_end(redis)

    counts = Counter(done(redis))
    twice = [item for item in NUMBERS if counts[item] > 1]
    assert set(counts) == set(NUMBERS)
    # 2 ms an item: what is done again is what a tenth of a second, and the way of a write, hold.
    assert len(twice) < 100
    assert twice == NUMBERS[int(twice[0]) :][: len(twice)] if twice else True


@pytest.mark.parametrize("how", ["deploys", "kills"])
def test_what_is_kept_beside_the_cursor_agrees_with_it(
    start_long: StartLong, redis: redis_py.Redis, redis_url: str, tmp_path: Path, how: str
) -> None:
    table, exported, store = tmp_path / "table.csv", tmp_path / "good.csv", tmp_path / "store"
    table.write_text("number\n" + "".join(f"{number}\n" for number in range(COUNT)))
    environment = {"LEDGER": redis_url, "TABLE": str(table), "EXPORT": str(exported), "PYQIK_FILES": str(store)}
    (tmp_path / "pyqik.toml").write_text("flush_interval = 0.1\n")
    options = ("-C", str(tmp_path / "pyqik.toml"))
    push(redis, "Long::Import")
    work = start_long(*options, environment=environment)
    for items in (60, 140, 220):
        wait_for_items(redis, items + random.randrange(30))
        if how == "kills":
            os.kill(work.children[-1], signal.SIGKILL)
        else:
            work.end()
            work = start_long(*options, environment=environment)
    wait_for_end(redis)

    assert exported.read_text() == "".join(f"{n},{'x' * 100}\n" for n in range(COUNT) if n % 7)
    client = pyqik.Client(redis)
    rows = client.rows(JID)
    assert rows is not None
    said = [(error.row, [str(message) for message in error.messages]) for error in rows.errors()]
    assert said == [(n + 2, ["number: seven", "again"]) for n in range(0, COUNT, 7)]
    wait_until(lambda: not redis.exists(f"it-{JID}"), message="the end of its state")
    progress = client.progress(JID)
    assert progress is not None
    assert (progress.done, progress.total, progress.failed_rows) == (COUNT, COUNT, len(said))
    assert progress.ended_at is not None
    assert not redis.exists(f"{JID}/row")
    assert [path for path in store.rglob("*") if path.is_file()] == []


def test_with_each_item_safe_a_kill_repeats_one_at_most(start_long: StartLong, redis: redis_py.Redis) -> None:
    push(redis, "Long::Safe")
    work = start_long()
    for items in (30, 80, 130):
        wait_for_items(redis, items + random.randrange(20))
        # The one that has the job was started last: what was in a crash runs alone next.
        os.kill(work.children[-1], signal.SIGKILL)
    wait_for_end(redis)

    counts = Counter(done(redis))
    assert set(counts) == set(NUMBERS)
    assert sum(count - 1 for count in counts.values()) <= 3


def test_effects_in_sql_happen_exactly_once_whatever_is_killed_when(
    start_long: StartLong, redis: redis_py.Redis, redis_url: str, tmp_path: Path
) -> None:
    books = tmp_path / "books.db"
    with closing(sqlite3.connect(books)) as connection:
        connection.executescript("CREATE TABLE total (amount INTEGER); CREATE TABLE posted (item INTEGER)")
        connection.execute("INSERT INTO total VALUES (0)")
        connection.commit()
    push(redis, "Long::Post", 600)
    work = start_long(environment={"LEDGER": redis_url, "BOOKS": str(books)})
    for kill in range(1, 5):
        wait_for_items(redis, kill * 100 + random.randrange(60))
        if kill % 3:
            os.kill(work.children[-1], signal.SIGKILL)
        else:
            work.end()
            work = start_long(environment={"LEDGER": redis_url, "BOOKS": str(books)})
    wait_for_end(redis)

    with closing(sqlite3.connect(books)) as connection:
        posted = [item for (item,) in connection.execute("SELECT item FROM posted ORDER BY rowid")]
        [total] = connection.execute("SELECT amount FROM total").fetchone()
    assert posted == list(range(600))
    assert total == sum(range(600))


def test_steps_and_counters_survive_a_deploy_and_a_kill(
    start_long: StartLong, redis: redis_py.Redis, tmp_path: Path
) -> None:
    (tmp_path / "pyqik.toml").write_text("flush_interval = 0\n")
    push(redis, "Long::Steps", 100)
    work = start_long("-C", str(tmp_path / "pyqik.toml"))
    wait_for_items(redis, 40)
    work.end()
    work = start_long("-C", str(tmp_path / "pyqik.toml"))
    wait_for_items(redis, 140)
    work.send_to_child(signal.SIGKILL)
    wait_for_end(redis)

    counts = Counter(done(redis))
    assert set(counts) == {f"{step} {number}" for step in ("first", "second") for number in range(100)}
    assert all(counts[f"first {number}"] == 1 for number in range(100))
    assert redis.get("counted") == b"100"


def test_the_hard_deadline_keeps_the_last_cursor(start_long: StartLong, redis: redis_py.Redis) -> None:
    """The item in hand is cut off; those before it are not done again."""
    push(redis, "Long::SlowItem", 60)
    work = start_long("-t", "0.5")
    wait_for_items(redis, 1)
    work.end()

    assert redis.llen("queue:long") == 1
    assert redis.hget(f"it-{JID}", "c") == b"0"
    assert redis.hget(f"it-{JID}", "ex") == b"1"
    assert not redis.hexists(f"it-{JID}", "owner")


def test_a_process_that_grows_too_large_hands_its_long_jobs_on(
    start_long: StartLong, redis: redis_py.Redis, tmp_path: Path
) -> None:
    (tmp_path / "pyqik.toml").write_text("max_memory = 300\n")
    push(redis, "Long::Grows", 60)
    work = start_long("-C", str(tmp_path / "pyqik.toml"))
    wait_for_end(redis)

    assert done(redis) == [str(number) for number in range(60)]
    assert len(work.started_children) >= 2
    assert work.lines("this process has grown too large; it ends after its jobs")
    assert not redis.exists("retry", "dead")


def test_a_slow_item_is_named_in_the_log(start_long: StartLong, redis: redis_py.Redis) -> None:
    push(redis, "Long::SlowItem", 8)
    work = start_long("-t", "0.5")
    work.wait_for_event("one item takes longer than a stop would wait; it would be cut off and done again")
    wait_for_end(redis)


def test_an_outage_of_redis_stops_no_item(
    start_long: StartLong, own_server: RedisServer, own_redis: redis_py.Redis, redis: redis_py.Redis, redis_url: str
) -> None:
    """The ledger is on a server that lives on."""
    payload = {"class": "Long::Loop", "args": [1500], "jid": JID, "retry": True, "queue": "long", "created_at": 1.5}
    own_redis.lpush("queue:long", json.dumps(payload))
    work = start_long(url=own_server.url, environment={"LEDGER": redis_url})
    wait_for_items(redis, 100)
    own_server.kill()
    wait_for_items(redis, 900)
    own_server.restart()
    wait_for_end(redis)

    assert done(redis) == [str(number) for number in range(1500)]
    wait_until(lambda: not own_redis.exists(f"it-{JID}"), 20)
    work.end()
