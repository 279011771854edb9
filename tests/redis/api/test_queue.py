"""Queues as `pyqik.api` shows them: the newest job first, each once, while jobs come and go."""

from __future__ import annotations

import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import redis as redis_py

from pyqik.api import Queue
from pyqik.wire.connection import open_redis
from pyqik.wire.queue_jobs import PAGE_SIZE
from tests.redis.wire.database import contents
from tests.support.proxy import RedisProxy

#: More than two pages.
MANY = 2 * PAGE_SIZE + 50


def job(number: int) -> bytes:
    return b'{"class":"A","args":[%d],"jid":"j%d"}' % (number, number)


def push(redis: redis_py.Redis, numbers: Iterator[int] | range) -> None:
    """Push jobs to the queue "low", the first to run first."""
    redis.sadd("queues", "low")
    redis.lpush("queue:low", *map(job, numbers))


@pytest.fixture
def low(redis: redis_py.Redis) -> Queue:
    return Queue("low", redis=redis)


def test_every_queue_is_found_by_name(redis: redis_py.Redis) -> None:
    redis.sadd("queues", "low", "größe", "critical")

    assert [queue.name for queue in Queue.all(redis=redis)] == ["critical", "größe", "low"]


def test_an_unknown_queue_is_empty(low: Queue) -> None:
    assert (low.size, len(low), low.latency, low.paused, list(low)) == (0, 0, 0.0, False, [])


def test_without_a_name_it_is_the_default_queue(redis: redis_py.Redis) -> None:
    assert Queue(redis=redis).name == "default"


def test_a_paused_queue_says_so(redis: redis_py.Redis, low: Queue) -> None:
    redis.sadd("paused", "low")

    assert low.paused


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(lambda then: {"enqueued_at": then}, id="float seconds (6 and 7)"),
        pytest.param(lambda then: {"enqueued_at": int(then * 1000)}, id="integer milliseconds (8)"),
    ],
)
def test_the_latency_is_that_of_the_job_that_is_next(
    redis: redis_py.Redis, low: Queue, fields: Callable[[float], dict[str, float]]
) -> None:
    now = time.time()
    for age in (60, 30):
        redis.lpush("queue:low", json.dumps({"class": "A", **fields(now - age)}))

    assert low.latency == pytest.approx(60, abs=5)


@pytest.mark.parametrize("raw", [b"{not json", b"5", b"{}", b'{"class":"A","enqueued_at":"x"}'], ids=repr)
def test_the_latency_is_zero_when_nobody_knows(redis: redis_py.Redis, low: Queue, raw: bytes) -> None:
    redis.lpush("queue:low", raw)

    assert low.latency == 0.0


def test_its_jobs_are_seen_from_the_newest_to_the_oldest(redis: redis_py.Redis, low: Queue) -> None:
    push(redis, range(MANY))

    seen = [(entry.args[0], entry.queue) for entry in low]

    assert seen == [(number, "low") for number in reversed(range(MANY))]


@pytest.mark.parametrize("count", [PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 2 * PAGE_SIZE])
def test_a_queue_of_any_size_is_seen_as_a_whole(redis: redis_py.Redis, low: Queue, count: int) -> None:
    push(redis, range(count))

    assert [entry.args[0] for entry in low] == list(reversed(range(count)))


def test_it_is_read_page_by_page(redis: redis_py.Redis, redis_proxy: RedisProxy) -> None:
    push(redis, range(MANY))
    client = open_redis(redis_proxy.url)

    jobs = iter(Queue("low", redis=client))
    next(jobs)
    after_one = redis_proxy.requests.count("LRANGE")
    assert len(list(jobs)) == MANY - 1

    assert (after_one, redis_proxy.requests.count("LRANGE")) == (1, 3)
    client.close()


def deleting_what_is_seen(redis: redis_py.Redis, low: Queue) -> Iterator[int]:
    for entry in low:
        assert entry.delete()
        yield entry.args[0]


def beside_pushes(redis: redis_py.Redis, low: Queue) -> Iterator[int]:
    new = itertools.count(MANY)
    for entry in low:
        push(redis, range(number := next(new), number + 1))
        yield entry.args[0]


def beside_many_pushes(redis: redis_py.Redis, low: Queue) -> Iterator[int]:
    for index, entry in enumerate(low):
        if index % PAGE_SIZE == 7:
            push(redis, range(10_000 * (index + 1), 10_000 * (index + 1) + 1000))
        yield entry.args[0]


def deleting_beside_pushes(redis: redis_py.Redis, low: Queue) -> Iterator[int]:
    new = itertools.count(MANY)
    for entry in low:
        push(redis, range(number := next(new), number + 1))
        assert entry.delete()
        yield entry.args[0]


@pytest.mark.parametrize(
    "walk",
    [deleting_what_is_seen, beside_pushes, beside_many_pushes, deleting_beside_pushes],
    ids=lambda walk: walk.__name__.replace("_", " "),
)
def test_each_job_is_seen_once_although_the_queue_moves(
    redis: redis_py.Redis, low: Queue, walk: Callable[[redis_py.Redis, Queue], Iterator[int]]
) -> None:
    push(redis, range(MANY))

    seen = list(walk(redis, low))

    assert seen == list(reversed(range(MANY)))


def test_what_is_taken_meanwhile_is_not_seen_and_nothing_else_is_missed(redis: redis_py.Redis, low: Queue) -> None:
    push(redis, range(MANY))

    seen = []
    for entry in low:
        seen.append(entry.args[0])
        redis.rpop("queue:low")

    # The reader comes from one end and the takers from the other: they meet in the middle, give or take a page.
    assert seen == list(reversed(range(MANY)))[: len(seen)]
    assert MANY // 2 <= len(seen) <= MANY // 2 + PAGE_SIZE


def test_the_iteration_ends_although_jobs_are_pushed_and_taken_for_ever(redis: redis_py.Redis, low: Queue) -> None:
    push(redis, range(MANY))
    new = itertools.count(MANY)

    seen = []
    for entry in low:
        seen.append(entry.args[0])
        redis.rpop("queue:low", 3)
        push(redis, itertools.islice(new, 3))

    assert len(seen) == len(set(seen)) <= MANY


def test_two_operators_who_delete_everything_at_once_leave_nothing(redis: redis_py.Redis, low: Queue) -> None:
    push(redis, range(2 * MANY))
    other = iter(Queue("low", redis=redis))

    for entry in low:
        # The other one is faster, and gets ahead.
        for theirs in itertools.islice(other, 2):
            theirs.delete()
        entry.delete()

    assert low.size == 0


# The last five have found mistakes.
@pytest.mark.parametrize("seed", [*range(10), 130, 135, 158, 172, 1037])
def test_whatever_happens_what_stays_is_seen_exactly_once(redis: redis_py.Redis, low: Queue, seed: int) -> None:
    chance = random.Random(seed)
    push(redis, range(MANY))
    stay = set(range(MANY))
    new = itertools.count(MANY)
    often = chance.choice([6, 12, 30])

    seen: Counter[int] = Counter()
    for entry in low:
        seen[entry.args[0]] += 1
        match chance.randrange(often):
            case 0:
                push(redis, itertools.islice(new, chance.choice([1, 3, 300])))
            case 1:
                entry.delete()
                stay.discard(entry.args[0])
            case 2:
                # Another operator deletes.
                victim = chance.choice(sorted(stay))
                redis.lrem("queue:low", 1, job(victim).decode())
                stay.discard(victim)
            case 3:
                taken = redis.rpop("queue:low")
                stay.discard(json.loads(taken)["args"][0] if taken else -1)

    assert {number: seen[number] for number in stay} == dict.fromkeys(stay, 1)
    assert not [number for number, times in seen.items() if times > 1 and number < MANY]


def test_the_same_text_many_times_is_seen_as_often(redis: redis_py.Redis, low: Queue) -> None:
    redis.lpush("queue:low", *[b"x"] * MANY)

    assert sum(1 for _ in low) == MANY


def test_what_is_no_job_is_an_entry_like_any_other(redis: redis_py.Redis, low: Queue) -> None:
    redis.lpush("queue:low", job(1), b"\xff{not json", b"[1]", job(2))

    entries = list(low)

    assert [bool(entry.invalid) for entry in entries] == [False, True, True, False]
    assert [entry.delete() for entry in entries if entry.invalid] == [True, True]
    assert contents(redis) == {"queue:low": [job(2), job(1)]}


def test_a_job_is_deleted_once_and_no_other(redis: redis_py.Redis, low: Queue) -> None:
    push(redis, range(3))
    entry = low.find_job("j1")
    assert entry is not None

    answers = [entry.delete(), entry.delete()]

    assert answers == [True, False]
    assert contents(redis) == {"queues": {b"low"}, "queue:low": [job(2), job(0)]}


def test_a_job_is_found_by_its_jid(redis: redis_py.Redis, low: Queue) -> None:
    push(redis, range(MANY))
    redis.lpush("queue:low", b'{"class":"A","args":["j17"],"jid":"other"}', b"j17")

    found = low.find_job("j17")

    assert found is not None
    assert (found.jid, found.args) == ("j17", [17])


def test_a_job_that_is_not_there_is_not_found(redis: redis_py.Redis, low: Queue) -> None:
    push(redis, range(3))

    assert low.find_job("j") is None


def test_a_cleared_queue_is_gone_and_no_other(redis: redis_py.Redis, low: Queue) -> None:
    push(redis, range(3))
    redis.sadd("queues", "high")
    redis.lpush("queue:high", job(5))

    low.clear()

    assert contents(redis) == {"queues": {b"high"}, "queue:high": [job(5)]}
