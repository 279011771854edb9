"""Counters and metrics as they stand in Redis after a flush."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import redis as redis_py

from pyqik.wire.statistics import DAY_TTL, MINUTE_TTL, TEN_MINUTES_TTL, Executions, flush
from tests.redis.wire.database import contents

#: 2026-11-22, 04:01:30 UTC.
NOW = datetime(2026, 11, 22, 4, 1, 30, tzinfo=UTC).timestamp()


def executed() -> Executions:
    executions = Executions()
    executions.add("Ok::Job", 0.025, failed=False)
    executions.add("Ok::Job", 0.010, failed=False)
    executions.add("Ok::Job", 5.0, failed=True)
    executions.add(None, 0.0, failed=True)
    return executions


def test_everything_is_written_under_the_keys_of_7_and_of_8(redis: redis_py.Redis) -> None:
    flush(redis, executed(), NOW)

    counters = {b"Ok::Job|p": b"3", b"Ok::Job|f": b"1", b"Ok::Job|ms": b"35"}
    histogram = b"\x00\x01\x00\x01"
    assert contents(redis) == {
        "stat:processed": b"4",
        "stat:processed:2026-11-22": b"4",
        "stat:failed": b"2",
        "stat:failed:2026-11-22": b"2",
        "j|20261122|4:1": counters,
        "j|261122|4:01": counters,
        "j|261122|4:0": counters,
        "Ok::Job-22-04:1": histogram,
        "h|Ok::Job-22-4:1": histogram,
    }


@pytest.mark.parametrize(
    ("key", "ttl"),
    [
        ("stat:processed", None),
        ("stat:failed", None),
        ("stat:processed:2026-11-22", DAY_TTL),
        ("stat:failed:2026-11-22", DAY_TTL),
        ("j|20261122|4:1", MINUTE_TTL),
        ("j|261122|4:01", MINUTE_TTL),
        ("j|261122|4:0", TEN_MINUTES_TTL),
        ("Ok::Job-22-04:1", MINUTE_TTL),
        ("h|Ok::Job-22-4:1", MINUTE_TTL),
    ],
)
def test_every_key_lives_as_long_as_sidekiqs(redis: redis_py.Redis, key: str, ttl: int | None) -> None:
    flush(redis, executed(), NOW)

    assert redis.ttl(key) == (-1 if ttl is None else pytest.approx(ttl, abs=5))


def test_flushes_add_up(redis: redis_py.Redis) -> None:
    flush(redis, executed(), NOW)
    flush(redis, executed(), NOW)

    assert redis.get("stat:processed") == b"8"
    assert redis.hget("j|261122|4:01", "Ok::Job|ms") == b"70"
    assert redis.get("h|Ok::Job-22-4:1") == b"\x00\x02\x00\x02"


def test_a_full_histogram_counter_stays_full(redis: redis_py.Redis) -> None:
    redis.execute_command("BITFIELD", "h|Ok::Job-22-4:1", "SET", "u16", "#0", 65_535)

    flush(redis, executed(), NOW)

    value: Any = redis.execute_command("BITFIELD_RO", "h|Ok::Job-22-4:1", "GET", "u16", "#0")
    assert value == [65_535]


def test_a_class_that_only_failed_has_no_histogram_and_no_time(redis: redis_py.Redis) -> None:
    executions = Executions()
    executions.add("Bad::Job", 1.0, failed=True)

    flush(redis, executions, NOW)

    assert contents(redis)["j|261122|4:01"] == {b"Bad::Job|p": b"1", b"Bad::Job|f": b"1"}
    assert not redis.keys("*Bad::Job*")


def test_a_key_of_another_type_stops_none_of_the_others(redis: redis_py.Redis) -> None:
    redis.set("j|261122|4:01", "somebody else's")

    errors = flush(redis, executed(), NOW)

    assert redis.get("stat:processed") == b"4"
    assert {type(error) for error in errors} == {redis_py.ResponseError}


def test_a_full_server_adds_nothing_and_says_so(redis: redis_py.Redis) -> None:
    before = contents(redis)
    redis.config_set("maxmemory", "1")

    try:
        with pytest.raises(redis_py.OutOfMemoryError):
            flush(redis, executed(), NOW)
    finally:
        redis.config_set("maxmemory", "0")

    assert contents(redis) == before
