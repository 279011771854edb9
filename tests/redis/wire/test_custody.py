"""Custody: suspects are moved and never lost, crashes are counted once each, and whoever recovers it gives all back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis as redis_py

from pyqik.wire import custody as wire_custody
from pyqik.wire import keys
from pyqik.wire.broker import Broker, DeadLimits, Place, UnitOfWork, recover
from pyqik.wire.connection import open_redis
from pyqik.wire.custody import CRASH_LIMIT, CRASH_WINDOW, Custody, dead_entries_at
from pyqik.wire.presence import Running
from tests.redis.wire.database import contents, fill

PROCESS = "host:1:abc"
CUSTODY = "host:9:cus"
SOLO_LIST = f"pyqik:landing:{CUSTODY}:solo"
RECORD = f"pyqik:in-flight:{CUSTODY}"
DEAD = Place("add", keys.DEAD, 1000.5, b"the dead entry")
#: What is kept of a state that has neither a cursor nor a named loop.
NO_PROGRESS = "".join(f"{field}=\n" for field in wire_custody.PROGRESS_FIELDS).encode()


@pytest.fixture
def custody(redis_url: str) -> Iterator[Custody]:
    client = open_redis(redis_url)
    yield Custody(client, CUSTODY, 30.0, DeadLimits(max_age=1e12))
    client.close()


@pytest.fixture
def held(broker: Broker, redis: redis_py.Redis) -> list[UnitOfWork]:
    """Four units that the process holds, of two queues, the oldest first."""
    fill(redis, {"queue:a": [b"a2", b"a1"], "queue:b": [b"b2", b"b1"]})
    first = broker.exchange([], 2, ["a", "b"], adopt=False, now=1.0).units
    return [*first, *broker.exchange([], 2, ["b"], adopt=False, now=1.0).units]


def lease(redis: redis_py.Redis) -> float | None:
    """For how many seconds the custody has a lease, None if it has none."""
    score = redis.zscore("pyqik:leases", CUSTODY)
    return None if score is None else float(score) - float(redis.time()[0])  # type: ignore[arg-type, index]


def test_detained_units_wait_by_queue_the_oldest_next_and_have_left_the_record(
    custody: Custody, held: list[UnitOfWork], redis: redis_py.Redis
) -> None:
    count = custody.detain(PROCESS, held[:3])

    assert count == 3
    assert contents(redis)[f"{SOLO_LIST}:a"] == [b"a2", b"a1"]
    assert contents(redis)[f"{SOLO_LIST}:b"] == [b"b1"]
    assert [unit.token for unit in custody.held(PROCESS, [unit.token for unit in held])] == [held[3].token]
    assert 25 < (lease(redis) or 0) <= 31


def test_what_a_living_process_runs_is_found_by_its_token_or_else_by_the_last_heartbeat(
    custody: Custody, held: list[UnitOfWork], redis: redis_py.Redis
) -> None:
    shown = {"queue": "b", "payload": '{"jid":"ü"}', "run_at": 1}
    redis.hset(f"{PROCESS}:work", "t3", json.dumps(shown))

    named = custody.unit_of(PROCESS, Running("t1", held[1].token, 1))
    nameless = custody.unit_of(PROCESS, Running("t3", b"", 1))

    assert named is not None
    assert (named.token, named.raw) == (held[1].token, held[1].raw)
    assert nameless is not None
    assert (nameless.token, nameless.queue, nameless.raw) == (b"", "b", '{"jid":"ü"}'.encode())
    redis.hset(f"{PROCESS}:work", mapping={"t4": "[]", "t5": b"\xff", "t6": '{"queue":"b","payload":5}'})
    assert [custody.unit_of(PROCESS, Running(f"t{slot}", b"", 1)) for slot in (4, 5, 6, 7)] == [None] * 4
    assert custody.unit_of(PROCESS, Running("t3", b"9:9", 1)) is None


def test_later_suspects_wait_behind_earlier_ones(
    custody: Custody, held: list[UnitOfWork], redis: redis_py.Redis
) -> None:
    custody.detain(PROCESS, held[2:3])
    custody.detain(PROCESS, held[3:])

    assert contents(redis)[f"{SOLO_LIST}:b"] == [b"b2", b"b1"]


def test_what_is_detained_twice_is_there_once(custody: Custody, held: list[UnitOfWork], redis: redis_py.Redis) -> None:
    custody.detain(PROCESS, held)
    once = contents(redis)

    count = custody.detain(PROCESS, held)

    assert (count, contents(redis)) == (0, once)


def test_recovering_the_custody_gives_everything_back_to_the_front(
    custody: Custody, held: list[UnitOfWork], redis: redis_py.Redis
) -> None:
    custody.detain(PROCESS, held)
    fill(redis, {"queue:a": [b"a3"]})

    count = recover(redis, CUSTODY)

    assert count == 4
    assert contents(redis)["queue:a"] == [b"a3", b"a2", b"a1"]
    assert contents(redis)["queue:b"] == [b"b2", b"b1"]


def test_a_custody_that_somebody_recovered_can_be_used_and_recovered_again(
    custody: Custody, held: list[UnitOfWork], redis: redis_py.Redis
) -> None:
    custody.detain(PROCESS, held[:1])
    recover(redis, CUSTODY)

    custody.detain(PROCESS, held[2:])

    assert redis.ttl(RECORD) == -1
    assert recover(redis, CUSTODY) == 2
    assert contents(redis)["queue:b"] == [b"b2", b"b1"]


def test_a_solo_process_takes_from_the_custody_and_nothing_else(
    custody: Custody, held: list[UnitOfWork], redis: redis_py.Redis, redis_url: str
) -> None:
    custody.detain(PROCESS, held)
    fill(redis, {"queue:a": [b"a3"]})
    solo = Broker(open_redis(redis_url), "host:2:solo", DeadLimits(), custody=CUSTODY)

    taken = [unit.raw for _ in range(6) for unit in solo.exchange([], 1, ["a", "b"], adopt=False, now=1.0).units]

    assert taken == [b"a1", b"a2", b"b1", b"b2"]
    assert recover(redis, "host:2:solo") == 4
    assert contents(redis)["queue:a"] == [b"a3", b"a2", b"a1"]
    solo.close()


def test_tending_renews_the_lease_while_anything_waits(
    custody: Custody, held: list[UnitOfWork], redis: redis_py.Redis
) -> None:
    custody.detain(PROCESS, held)
    redis.zadd("pyqik:leases", {CUSTODY: 5.0})

    waiting = custody.tend()

    assert waiting == 4
    assert 25 < (lease(redis) or 0) <= 31


def test_tending_ends_an_empty_custody(
    custody: Custody, held: list[UnitOfWork], redis: redis_py.Redis, redis_url: str
) -> None:
    custody.detain(PROCESS, held[:1])
    redis.delete(f"{SOLO_LIST}:a")

    waiting = custody.tend()

    assert (waiting, lease(redis)) == (0, None)
    assert not redis.exists(RECORD)


def test_releasing_gives_everything_back_and_leaves_no_trace(
    custody: Custody, held: list[UnitOfWork], redis: redis_py.Redis
) -> None:
    custody.detain(PROCESS, held)

    count = custody.release()

    assert count == 4
    assert not [key for key in contents(redis) if CUSTODY in key]
    assert lease(redis) is None


def test_suspects_are_those_that_ran_the_oldest_first(custody: Custody, held: list[UnitOfWork]) -> None:
    tokens = [held[3].token, held[0].token, b"99:1"]

    suspects = custody.suspects(PROCESS, tokens, 0)

    assert [(unit.token, unit.queue, unit.raw) for unit in suspects] == [
        (held[0].token, "a", b"a1"),
        (held[3].token, "b", b"b2"),
    ]


def test_what_has_landed_is_suspect_if_something_without_a_token_ran(
    custody: Custody, held: list[UnitOfWork], redis: redis_py.Redis
) -> None:
    fill(redis, {f"pyqik:landing:{PROCESS}:default:b": [b"l2", b"l1"]})

    suspects = custody.suspects(PROCESS, [held[0].token], 1)
    again = custody.suspects(PROCESS, [held[0].token], 1)

    assert [unit.raw for unit in suspects] == [b"a1", b"l1", b"l2"]
    assert [unit.token for unit in again] == [unit.token for unit in suspects]
    assert not redis.exists(f"pyqik:landing:{PROCESS}:default:b")


def test_what_has_landed_is_innocent_if_everything_that_ran_had_a_token(
    custody: Custody, held: list[UnitOfWork], redis: redis_py.Redis
) -> None:
    fill(redis, {f"pyqik:landing:{PROCESS}:default:b": [b"l1"]})

    suspects = custody.suspects(PROCESS, [held[0].token], 0)

    assert [unit.raw for unit in suspects] == [b"a1"]


def test_a_run_that_had_its_token_but_did_not_know_is_among_those_of_the_last_take(
    custody: Custody, held: list[UnitOfWork]
) -> None:
    suspects = custody.suspects(PROCESS, [], 1)

    assert [unit.raw for unit in suspects] == [b"b1", b"b2"]


def test_bytes_and_queue_names_survive_custody(broker: Broker, custody: Custody, redis: redis_py.Redis) -> None:
    raw = bytes(range(256))
    fill(redis, {"queue:größe": [raw]})
    units = broker.exchange([], 1, ["größe"], adopt=False, now=1.0).units

    custody.detain(PROCESS, units)
    custody.release()

    assert contents(redis)["queue:größe"] == [raw]


# Charges.


@pytest.fixture
def crash(connect: Callable[..., Broker], redis: redis_py.Redis, redis_url: str, custody: Custody) -> Callable[[], int]:
    """A process takes the job `jid`, crashes, and is charged; how many crashes count now."""
    numbers = iter(range(1, 100))

    def crash() -> int:
        identity = f"host:{next(numbers)}:x"
        if not redis.llen("queue:a"):
            fill(redis, {"queue:a": [b"raw"]})
        [unit] = connect(redis_url, identity).exchange([], 1, ["a"], adopt=False, now=1.0).units
        count = custody.charge(identity, unit, "jid", DEAD)
        recover(redis, identity)
        return count

    return crash


def test_the_third_crash_moves_the_job_to_the_dead_set_and_forgets_the_count(
    crash: Callable[[], int], redis: redis_py.Redis
) -> None:
    counts = [crash() for _ in range(CRASH_LIMIT)]

    assert counts == [1, 2, 3]
    assert contents(redis)["dead"] == {b"the dead entry": 1000.5}
    assert not redis.exists("queue:a", keys.crashes("jid"))


def test_a_retry_by_hand_has_as_many_chances_again(crash: Callable[[], int]) -> None:
    counts = [crash() for _ in range(5)]

    assert counts == [1, 2, 3, 1, 2]


@pytest.mark.parametrize("odd", [lambda redis, key: redis.set(key, "x"), lambda redis, key: redis.hset(key, "a", "b")])
def test_a_crash_is_charged_whatever_stood_where_crashes_are_counted(
    crash: Callable[[], int], redis: redis_py.Redis, odd: Callable[[redis_py.Redis, str], object]
) -> None:
    odd(redis, keys.crashes("jid"))

    assert [crash(), crash()] == [1, 2]


def test_a_crash_that_is_charged_twice_counts_once(
    custody: Custody, held: list[UnitOfWork], redis: redis_py.Redis
) -> None:
    counts = [custody.charge(PROCESS, held[0], "jid", DEAD) for _ in range(3)]

    assert counts == [1, 1, 1]
    assert not redis.exists("dead")


def test_a_death_that_is_told_twice_happens_once(
    crash: Callable[[], int], custody: Custody, held: list[UnitOfWork], redis: redis_py.Redis
) -> None:
    fill(
        redis,
        {keys.crashes("jid"): {b"last": b"x", b"progress": NO_PROGRESS, b"times": b"%d %d" % (now(redis), now(redis))}},
    )

    counts = [custody.charge(PROCESS, held[0], "jid", DEAD) for _ in range(2)]

    assert counts == [3, 0]
    assert redis.zcard("dead") == 1


@pytest.mark.parametrize("field", ["ex", "rt", "cancelled", "owner"])
def test_what_changes_with_every_start_is_no_progress(
    crash: Callable[[], int], redis: redis_py.Redis, field: str
) -> None:
    counts = []
    for number in range(3):
        redis.hset("it-jid", mapping={"c": "7", field: number})
        counts.append(crash())

    assert counts == [1, 2, 3]


def test_another_cursor_starts_the_count_anew(crash: Callable[[], int], redis: redis_py.Redis) -> None:
    counts = []
    for cursor in ("1", "1", "2", "2", "1"):
        redis.hset("it-jid", "c", cursor)
        counts.append(crash())

    assert counts == [1, 2, 1, 2, 1]


def test_the_first_cursor_is_progress_too(crash: Callable[[], int], redis: redis_py.Redis) -> None:
    before = crash()
    redis.hset("it-jid", "c", "null")

    assert (before, crash()) == (1, 1)


def test_a_state_key_of_another_type_harms_nobody(crash: Callable[[], int], redis: redis_py.Redis) -> None:
    redis.set("it-jid", "not a hash")

    assert [crash() for _ in range(3)] == [1, 2, 3]


def test_a_crash_of_long_ago_does_not_count(crash: Callable[[], int], redis: redis_py.Redis) -> None:
    long_ago, recently = now(redis) - CRASH_WINDOW - 5, now(redis) - CRASH_WINDOW + 60
    fill(redis, {keys.crashes("jid"): crashed_at(long_ago, recently)})

    assert crash() == 2
    assert CRASH_WINDOW - 5 <= int(redis.ttl(keys.crashes("jid"))) <= CRASH_WINDOW  # type: ignore[arg-type]


def test_the_dead_set_keeps_its_limits(redis: redis_py.Redis, redis_url: str, held: list[UnitOfWork]) -> None:
    fill(redis, {"dead": {b"old": 1.0, b"new": 999.0, b"newer": 1000.0}})
    fill(
        redis,
        {keys.crashes("jid"): {b"last": b"x", b"progress": NO_PROGRESS, b"times": b"%d %d" % (now(redis), now(redis))}},
    )
    client = open_redis(redis_url)

    Custody(client, CUSTODY, 30.0, DeadLimits(most_entries=3, max_age=500.0)).charge(PROCESS, held[0], "jid", DEAD)

    assert contents(redis)["dead"] == {b"newer": 1000.0, b"the dead entry": 1000.5}
    client.close()


def test_the_entry_of_a_death_is_found_by_its_score(redis: redis_py.Redis, redis_url: str) -> None:
    fill(redis, {"dead": {b"a": 1234567890.1234567, b"b": 1234567890.1234570, b"c": 5.0}})
    client = open_redis(redis_url)

    entries = dead_entries_at(client, 1234567890.1234567)

    assert b"a" in entries
    assert b"c" not in entries
    client.close()


@pytest.mark.parametrize("field", wire_custody.PROGRESS_FIELDS)
def test_progress_is_told_by_the_cursor_and_by_the_places_of_named_loops(
    crash: Callable[[], int], redis: redis_py.Redis, field: str
) -> None:
    counts = []
    for place in ("1", "1", "2"):
        redis.hset("it-jid", field, place)
        counts.append(crash())

    assert counts == [1, 2, 1]


def crashed_at(*times: int) -> dict[bytes, Any]:
    """What is known of a job that crashed at these times and has no cursor."""
    return {b"last": b"x", b"progress": NO_PROGRESS, b"times": b" ".join(b"%d" % time for time in times)}


def now(redis: redis_py.Redis) -> int:
    """Redis's clock."""
    clock: Any = redis.time()
    return int(clock[0])
