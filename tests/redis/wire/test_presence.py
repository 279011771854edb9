"""Heartbeats, leaving, cleaning up, remote signals and deploy marks, field by field as Sidekiq's Web UI reads them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import redis as redis_py

from pyqik.wire import presence
from pyqik.wire.broker import Broker
from pyqik.wire.presence import CapsuleInfo, ProcessInfo, Running
from tests.redis.wire.database import contents, fill

IDENTITY = "host:1:abc"
NOW = 1_795_320_000.5
INFO = ProcessInfo(
    identity=IDENTITY,
    hostname="host",
    pid=1,
    started_at=NOW - 60,
    concurrency=5,
    capsules=[CapsuleInfo("default", 5, "strict", {"a": 0})],
    tag="shop",
    labels=[],
    version="pyqik 0",
)
RAW = '{"class":"A","args":["ü/\\u0000"],"big":1180591620717411303424}'.encode()


def beat(redis: redis_py.Redis, *running: Running, quiet: bool = False, lease: float = 30) -> str | None:
    return presence.beat(redis, INFO, running, now=NOW, quiet=quiet, rss_kb=4096, lease=lease)


def holding(broker: Broker, redis: redis_py.Redis) -> bytes:
    """The token of a unit that the process holds."""
    fill(redis, {"queue:a": [RAW]})
    (unit,) = broker.exchange([], 1, ["a"], adopt=False, now=NOW).units
    return unit.token


def hash_of(redis: redis_py.Redis, key: str) -> dict[bytes, bytes]:
    value: Any = redis.hgetall(key)
    fields: dict[bytes, bytes] = value
    return fields


def test_a_beat_writes_the_process_as_every_version_reads_it(redis: redis_py.Redis) -> None:
    signal = beat(redis)

    fields = hash_of(redis, IDENTITY)
    rtt = int(fields.pop(b"rtt_us"))
    assert signal is None
    assert redis.smembers("processes") == {IDENTITY.encode()}
    assert set(contents(redis)) == {"processes", IDENTITY, "pyqik:leases"}
    assert 0 < rtt < 5_000_000
    assert json.loads(fields.pop(b"info")) == json.loads(INFO.to_json())
    assert fields == {
        b"busy": b"0",
        b"beat": b"1795320000.5",
        b"quiet": b"false",
        b"rss": b"4096",
        b"concurrency": b"5",
    }


def test_a_quiet_process_says_true_and_not_1(redis: redis_py.Redis) -> None:
    beat(redis, quiet=True)

    assert redis.hget(IDENTITY, "quiet") == b"true"


def test_the_hashes_live_for_a_minute(broker: Broker, redis: redis_py.Redis) -> None:
    beat(redis, Running("t1", holding(broker, redis), 5))

    lives = {key: redis.ttl(key) for key in (IDENTITY, f"{IDENTITY}:work", f"{IDENTITY}:workers")}
    assert all(55 <= life <= 60 for life in lives.values()), lives
    assert redis.ttl("processes") == -1


def test_the_lease_is_counted_from_the_server_s_clock(redis: redis_py.Redis) -> None:
    clock: Any = redis.time()

    beat(redis, lease=30)

    score: Any = redis.zscore("pyqik:leases", IDENTITY)
    moment = clock[0] + clock[1] / 1_000_000
    assert moment + 30 <= score <= moment + 35


@pytest.mark.parametrize("key", ["processes", f"{IDENTITY}:work", f"{IDENTITY}-signals", IDENTITY])
def test_the_lease_is_renewed_whatever_may_be_wrong_with_the_rest(redis: redis_py.Redis, key: str) -> None:
    redis.set(key, "x") if key != f"{IDENTITY}:work" else redis.set("processes", "x")

    with pytest.raises(redis_py.ResponseError):
        beat(redis)

    assert redis.zscore("pyqik:leases", IDENTITY)


def test_a_lease_may_end_in_the_middle_of_a_second(redis: redis_py.Redis) -> None:
    beat(redis, lease=0.5)

    score: Any = redis.zscore("pyqik:leases", IDENTITY)
    clock: Any = redis.time()
    assert score <= clock[0] + clock[1] / 1_000_000 + 0.5
    assert score % 1


def test_what_runs_is_written_with_its_payload_as_a_text(broker: Broker, redis: redis_py.Redis) -> None:
    token = holding(broker, redis)

    beat(redis, Running("t1", token, 1_795_319_990))

    work = hash_of(redis, f"{IDENTITY}:work")
    assert json.loads(work[b"t1"]) == {"queue": "a", "payload": RAW.decode(), "run_at": 1_795_319_990}
    assert hash_of(redis, f"{IDENTITY}:workers") == work
    assert redis.hget(IDENTITY, "busy") == b"1"


def test_what_was_started_as_it_landed_is_shown_before_it_has_a_token(broker: Broker, redis: redis_py.Redis) -> None:
    broker.exchange([], 1, ["a", "b"], adopt=False, now=NOW)
    landing = f"pyqik:landing:{IDENTITY}:default"
    fill(redis, {f"{landing}:a": [b"later", RAW], f"{landing}:b": [b"other"]})

    beat(redis, Running("t1", b"", 5), Running("t2", b"9:9", 6), Running("t3", b"", 7))

    work = {tid: json.loads(entry) for tid, entry in hash_of(redis, f"{IDENTITY}:work").items()}
    assert work == {
        b"t1": {"queue": "a", "payload": RAW.decode(), "run_at": 5},
        b"t3": {"queue": "a", "payload": "later", "run_at": 7},
    }
    assert redis.llen(f"{landing}:a") == 2


def test_what_has_a_token_that_its_process_has_not_heard_of_is_shown(broker: Broker, redis: redis_py.Redis) -> None:
    """Others that nobody names merely wait for a slot: the one of the newest take is the one that runs."""
    fill(redis, {"queue:a": [b"4", b"3", b"2", b"1"]})
    (named,) = broker.exchange([], 1, ["a"], adopt=False, now=NOW).units
    broker.exchange([], 1, ["a"], adopt=False, now=NOW)
    broker.exchange([], 2, ["a"], adopt=False, now=NOW)

    beat(redis, Running("t1", b"", 5), Running("t2", named.token, 6))

    work = {tid: json.loads(entry)["payload"] for tid, entry in hash_of(redis, f"{IDENTITY}:work").items()}
    assert work == {b"t1": "3", b"t2": "1"}


def test_what_has_ended_is_no_longer_shown(broker: Broker, redis: redis_py.Redis) -> None:
    beat(redis, Running("t1", holding(broker, redis), 5))

    beat(redis)

    assert set(contents(redis)) == {"processes", IDENTITY, "pyqik:leases", f"pyqik:in-flight:{IDENTITY}"}


def test_a_unit_that_was_settled_a_moment_ago_is_not_shown(redis: redis_py.Redis) -> None:
    beat(redis, Running("t1", b"9:9", 5))

    assert f"{IDENTITY}:work" not in contents(redis)


def test_the_process_is_listed_again_after_somebody_took_it_for_dead(redis: redis_py.Redis) -> None:
    beat(redis)
    redis.srem("processes", IDENTITY)

    beat(redis)

    assert redis.smembers("processes") == {IDENTITY.encode()}


def test_one_remote_signal_is_taken_at_each_beat_the_oldest_first(redis: redis_py.Redis) -> None:
    presence.send_signal(redis, IDENTITY, "TSTP")
    presence.send_signal(redis, IDENTITY, "TERM")

    assert [beat(redis), beat(redis), beat(redis)] == ["TSTP", "TERM", None]


def test_a_remote_signal_is_forgotten_after_a_minute(redis: redis_py.Redis) -> None:
    presence.send_signal(redis, IDENTITY, "TSTP")

    assert 55 <= redis.ttl(f"{IDENTITY}-signals") <= 60
    assert redis.lrange(f"{IDENTITY}-signals", 0, -1) == [b"TSTP"]


def test_a_process_that_leaves_takes_everything_with_it_but_its_hash_which_expires(
    broker: Broker, redis: redis_py.Redis
) -> None:
    beat(redis, Running("t1", holding(broker, redis), 5))
    presence.send_signal(redis, IDENTITY, "TSTP")
    fill(redis, {"processes": {b"host:2:def"}, "pyqik:leases": {b"host:2:def": 5.0}})

    presence.leave(redis, IDENTITY)

    rest = contents(redis)
    assert set(rest) == {"processes", IDENTITY, "pyqik:leases", f"pyqik:in-flight:{IDENTITY}"}
    assert (rest["processes"], rest["pyqik:leases"]) == ({b"host:2:def"}, {b"host:2:def": 5.0})


def test_leaving_twice_is_leaving_once(redis: redis_py.Redis) -> None:
    beat(redis)
    presence.leave(redis, IDENTITY)
    once = contents(redis)

    presence.leave(redis, IDENTITY)

    assert contents(redis) == once


# Cleaning up.


def test_processes_whose_hash_has_expired_are_removed(redis: redis_py.Redis) -> None:
    fill(redis, {"processes": {b"dead:1:a", b"dead:2:b", IDENTITY.encode()}})
    beat(redis)

    count = presence.clean_up(redis)

    assert count == 2
    assert redis.smembers("processes") == {IDENTITY.encode()}
    assert redis.get("process_cleanup") == b"1"
    assert 55 <= redis.ttl("process_cleanup") <= 60


def test_only_one_process_cleans_up_within_a_minute(redis: redis_py.Redis) -> None:
    presence.clean_up(redis)
    fill(redis, {"processes": {b"dead:1:a"}})

    assert presence.clean_up(redis) == 0
    assert redis.smembers("processes") == {b"dead:1:a"}


def test_nothing_to_clean_up_is_fine(redis: redis_py.Redis) -> None:
    assert presence.clean_up(redis) == 0


def test_processes_are_counted_ruby_s_too(redis: redis_py.Redis) -> None:
    fill(redis, {"processes": {b"ruby:1:a", b"python:2:b"}})

    assert presence.count_processes(redis) == 2


# Deploy marks.


def test_a_deploy_is_marked_once_by_the_minute(redis: redis_py.Redis) -> None:
    marked = [presence.mark_deploy(redis, "v1", NOW), presence.mark_deploy(redis, "v1", NOW + 1)]

    moment = datetime.fromtimestamp(NOW, UTC)
    stamp = moment.strftime("%Y-%m-%dT%H:%M:00Z").encode()
    day = moment.strftime("%Y%m%d")
    assert marked == [True, False]
    assert contents(redis) == {"deploylock-v1": stamp, f"{day}-marks": {stamp: b"v1"}}
    assert 55 <= redis.ttl("deploylock-v1") <= 60
    assert redis.ttl(f"{day}-marks") == pytest.approx(90 * 86_400, abs=5)


def test_two_deploys_in_one_minute_leave_the_first_mark(redis: redis_py.Redis) -> None:
    presence.mark_deploy(redis, "v1", NOW)
    presence.mark_deploy(redis, "v2", NOW)

    day = datetime.fromtimestamp(NOW, UTC).strftime("%Y%m%d")
    marks = contents(redis)[f"{day}-marks"]
    assert isinstance(marks, dict)
    assert list(marks.values()) == [b"v1"]
