"""The schedule, retry and dead sets as `pyqik.api` shows them, and what an operator does with their entries."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis as redis_py

import pyqik
from pyqik.api import DeadSet, RetrySet, ScheduledSet, SortedEntry
from pyqik.wire.connection import open_redis
from pyqik.wire.job_set import PAGE_SIZE, JobSet
from pyqik.wire.schedule import promote
from tests.redis.wire.database import contents, fill
from tests.support.proxy import RedisProxy

MANY = 2 * PAGE_SIZE + 50
AT = 1_795_320_000.5

#: With everything that a careless round trip would change.
JOB = b'{"class":"A","args":[1.10,1180591620717411303424,%d],"queue":"low","jid":"j%d","retry_count":3,"x":1e5}'


def job(number: int) -> bytes:
    return JOB % (number, number)


def number_of(entry: SortedEntry) -> int:
    number: int = entry.args[2]
    return number


def the_entry(jobs: JobSet, jid: str) -> SortedEntry:
    entry = jobs.find_job(jid)
    assert entry is not None
    return entry


def pushed(raw: bytes) -> tuple[bytes, float]:
    """A payload without its `enqueued_at`, which is the last field; and that."""
    text, _, enqueued_at = raw.rpartition(b',"enqueued_at":')
    return text + b"}", float(enqueued_at.rstrip(b"}"))


@pytest.fixture
def retries(redis: redis_py.Redis) -> RetrySet:
    return RetrySet(redis=redis)


@pytest.mark.parametrize(("kind", "key"), [(ScheduledSet, "schedule"), (RetrySet, "retry"), (DeadSet, "dead")])
def test_each_set_is_read_from_its_key(redis: redis_py.Redis, kind: Callable[..., JobSet], key: str) -> None:
    fill(redis, {key: {job(1): AT}})

    jobs = kind(redis=redis)

    assert (jobs.name, jobs.size, len(jobs)) == (key, 1, 1)
    assert [(entry.jid, entry.at, entry.queue) for entry in jobs] == [("j1", AT, "low")]


def test_an_empty_set_has_nothing(retries: RetrySet) -> None:
    assert (retries.size, list(retries), list(retries.scan("x")), retries.find_job("x")) == (0, [], [], None)


def test_entries_are_seen_from_the_latest_to_the_earliest(redis: redis_py.Redis, retries: RetrySet) -> None:
    fill(redis, {"retry": {job(number): AT + number / 7 for number in range(MANY)}})

    assert [number_of(entry) for entry in retries] == list(reversed(range(MANY)))


def test_entries_of_the_same_time_are_each_seen_once(redis: redis_py.Redis, retries: RetrySet) -> None:
    fill(redis, {"retry": {job(number): AT for number in range(MANY)}})

    assert Counter(map(number_of, retries)) == dict.fromkeys(range(MANY), 1)


def test_a_set_is_read_page_by_page(redis: redis_py.Redis, redis_proxy: RedisProxy) -> None:
    fill(redis, {"retry": {job(number): AT + number for number in range(MANY)}})
    client = open_redis(redis_proxy.url)

    entries = iter(RetrySet(redis=client))
    next(entries)
    after_one = redis_proxy.requests.count("EVALSHA")
    assert len(list(entries)) == MANY - 1

    assert (after_one, redis_proxy.requests.count("EVALSHA")) == (1, 4)
    client.close()


@pytest.mark.parametrize("spread", [0, 1], ids=["all of one time", "each of its own"])
@pytest.mark.parametrize("act", ["delete", "retry", "kill"])
def test_each_entry_is_seen_once_although_it_leaves_the_set(
    redis: redis_py.Redis, retries: RetrySet, act: str, spread: int
) -> None:
    fill(redis, {"retry": {job(number): AT + spread * number for number in range(MANY)}})

    seen = [number_of(entry) for entry in retries if getattr(entry, act)()]

    assert Counter(seen) == dict.fromkeys(range(MANY), 1)
    assert retries.size == 0


@pytest.mark.parametrize("later", [1e6, -1e6], ids=["to later", "to earlier"])
def test_the_iteration_ends_although_entries_are_rescheduled(
    redis: redis_py.Redis, retries: RetrySet, later: float
) -> None:
    fill(redis, {"retry": {job(number): AT + number for number in range(MANY)}})
    # To earlier: they come again, behind the others, and are left as they are then.
    moved = {number_of(entry) for entry in retries if entry.at >= AT and entry.reschedule(entry.at + later)}

    assert moved == set(range(MANY))


@pytest.mark.parametrize("seed", range(10))
def test_whatever_happens_what_stays_is_seen_exactly_once(redis: redis_py.Redis, retries: RetrySet, seed: int) -> None:
    chance = random.Random(seed)
    # Many of the same time.
    fill(redis, {"retry": {job(number): AT + chance.randrange(5) for number in range(MANY)}})
    stay = set(range(MANY))

    seen: Counter[int] = Counter()
    for new, entry in enumerate(retries, start=MANY):
        seen[number_of(entry)] += 1
        match chance.randrange(4):
            case 0:
                redis.zadd("retry", {job(new): AT + chance.randrange(5)})
            case 1:
                entry.delete()
                stay.discard(number_of(entry))
            case 2:
                victim = chance.choice(sorted(stay))
                redis.zrem("retry", job(victim))
                stay.discard(victim)

    assert {number: seen[number] for number in stay} == dict.fromkeys(stay, 1)
    assert max(seen.values()) == 1


def test_what_is_no_job_is_an_entry_like_any_other(redis: redis_py.Redis, retries: RetrySet) -> None:
    fill(redis, {"retry": {b"\xff{": 3.0, b"[1]": 2.0, job(1): 1.0}})

    entries = list(retries)

    assert [bool(entry.invalid) for entry in entries] == [True, True, False]
    assert [entry.delete() for entry in entries if entry.invalid] == [True, True]
    assert contents(redis) == {"retry": {job(1): 1.0}}


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        pytest.param("Billing::", {"b"}, id="a part of the text"),
        pytest.param('*"class":"A"*', {"a"}, id="a pattern"),
        pytest.param("nothing", set(), id="nothing"),
    ],
)
def test_a_scan_finds_entries_by_their_text(
    redis: redis_py.Redis, retries: RetrySet, match: str, expected: set[str]
) -> None:
    fill(redis, {"retry": {b'{"class":"A","jid":"a"}': 1.5, b'{"class":"Billing::B","jid":"b"}': 2.5}})

    found = list(retries.scan(match))

    assert {entry.jid for entry in found} == expected
    assert all(entry.at in (1.5, 2.5) for entry in found)


@pytest.mark.parametrize("jid", ["j17", "a*", "[b]", "c\\d?"])
def test_an_entry_is_found_by_its_jid(redis: redis_py.Redis, retries: RetrySet, jid: str) -> None:
    others = {json.dumps({"class": "A", "jid": other, "args": [jid]}).encode(): 1.0 for other in ("x", "ab", "b", "c")}
    wanted = b'{"class":"A","jid":"%s"}' % jid.replace("\\", "\\\\").encode()
    fill(redis, {"retry": {**others, wanted: 2.0, job(170): 2.0}})

    # A backslash is doubled in JSON, and the text is what Redis looks through.
    found = retries.find_job(jid) if "\\" not in jid else next(each for each in retries if each.jid == jid)

    assert found is not None
    assert found.raw == wanted


def test_entries_are_fetched_by_their_time_the_earliest_first(redis: redis_py.Redis, retries: RetrySet) -> None:
    fill(redis, {"retry": {job(number): AT + number for number in range(5)}})

    found = [retries.fetch(AT + 1), retries.fetch((AT + 1, AT + 3)), retries.fetch((AT, AT + 9), "j4")]

    assert [[number_of(entry) for entry in entries] for entries in found] == [[1], [1, 2, 3], [4]]
    assert retries.fetch(AT + 0.5) == []


def test_a_retried_entry_is_last_in_its_queue_and_the_retry_is_not_counted(
    redis: redis_py.Redis, retries: RetrySet
) -> None:
    fill(redis, {"retry": {job(1): AT, job(2): AT}, "queue:low": [b"x"]})
    before = time.time()

    answer = the_entry(retries, "j1").retry()

    found = contents(redis)
    text, enqueued_at = pushed(redis.lindex("queue:low", 0))  # type: ignore[arg-type] # not awaitable here
    assert answer
    assert text == job(1).replace(b'"retry_count":3', b'"retry_count":2')
    assert before <= enqueued_at <= time.time()
    assert found == {"queues": {b"low"}, "queue:low": [redis.lindex("queue:low", 0), b"x"], "retry": {job(2): AT}}


def test_an_entry_that_is_added_to_its_queue_keeps_its_count(redis: redis_py.Redis) -> None:
    fill(redis, {"schedule": {job(1): AT}})

    answer = the_entry(ScheduledSet(redis=redis), "j1").add_to_queue()

    (raw,) = contents(redis)["queue:low"]
    assert answer
    assert pushed(bytes(raw))[0] == job(1)


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, -1), (25, 24), (None, None), ("3", "3"), (True, True), (2**70, 2**70)],
    ids=["never", "often", "null", "text", "true", "absurd"],
)
def test_a_count_that_is_one_is_given_back(
    redis: redis_py.Redis, retries: RetrySet, count: object, expected: object
) -> None:
    fill(redis, {"retry": {json.dumps({"class": "A", "jid": "x", "retry_count": count}).encode(): AT}})

    the_entry(retries, "x").retry()

    (raw,) = contents(redis)["queue:default"]
    assert json.loads(bytes(raw))["retry_count"] == expected


def test_a_killed_entry_is_in_the_dead_set_as_it_was(redis: redis_py.Redis, retries: RetrySet) -> None:
    fill(redis, {"retry": {job(1): AT, job(2): AT}})

    answer = the_entry(retries, "j1").kill()

    (entry,) = DeadSet(redis=redis)
    assert answer
    assert (entry.raw, entry.at) == (job(1), pytest.approx(time.time(), abs=10))
    assert [entry.raw for entry in retries] == [job(2)]


def test_a_kill_trims_the_dead_set_to_what_is_configured(redis: redis_py.Redis, redis_url: str) -> None:
    pyqik.configure(pyqik.Config(redis=redis_url, dead_max_jobs=3, dead_timeout=100))
    now = time.time()
    fill(redis, {"retry": {job(1): AT}, "dead": {b"old": now - 200, b"a": now - 3, b"b": now - 2, b"c": now - 1}})

    RetrySet().find_job("j1").kill()  # type: ignore[union-attr]

    # As in Sidekiq: one fewer than the limit.
    assert [entry.raw for entry in DeadSet()] == [job(1), b"c"]


@pytest.mark.parametrize("later", [AT + 100, datetime.fromtimestamp(AT + 100, UTC)], ids=["seconds", "a datetime"])
def test_a_rescheduled_entry_has_another_time_and_the_same_text(
    redis: redis_py.Redis, retries: RetrySet, later: float | datetime
) -> None:
    fill(redis, {"retry": {job(1): AT, job(2): AT}})
    entry = the_entry(retries, "j1")

    answer = entry.reschedule(later)

    assert (answer, entry.at) == (True, AT + 100)
    assert contents(redis) == {"retry": {job(1): AT + 100, job(2): AT}}


def test_a_time_without_a_zone_is_refused(redis: redis_py.Redis, retries: RetrySet) -> None:
    fill(redis, {"retry": {job(1): AT}})

    with pytest.raises(ValueError, match="has no time zone"):
        the_entry(retries, "j1").reschedule(datetime(2027, 1, 1))


ACTS: list[Any] = [
    pytest.param(lambda entry: entry.retry(), id="retry"),
    pytest.param(lambda entry: entry.add_to_queue(), id="add_to_queue"),
    pytest.param(lambda entry: entry.kill(), id="kill"),
    pytest.param(lambda entry: entry.delete(), id="delete"),
    pytest.param(lambda entry: entry.reschedule(AT + 5), id="reschedule"),
]
#: Each act, and where the entry is afterwards.
ENDS = list(zip(ACTS, [["queue:low"], ["queue:low"], ["dead"], [], ["retry"]], strict=True))


@pytest.mark.parametrize("act", ACTS)
def test_an_entry_that_has_gone_is_left_alone(
    redis: redis_py.Redis, retries: RetrySet, act: Callable[[SortedEntry], bool]
) -> None:
    fill(redis, {"retry": {job(1): AT, job(2): AT}})
    entry = the_entry(retries, "j1")
    redis.zrem("retry", job(1))

    answer = act(entry)

    assert (answer, entry.at) == (False, AT)
    assert contents(redis) == {"retry": {job(2): AT}}


@pytest.mark.parametrize("act", ACTS[:4])
def test_of_two_operators_one_is_faster(
    redis: redis_py.Redis, retries: RetrySet, act: Callable[[SortedEntry], bool]
) -> None:
    fill(redis, {"retry": {job(1): AT}})
    mine, theirs = the_entry(retries, "j1"), the_entry(retries, "j1")

    answers = [act(theirs), mine.retry()]

    assert answers == [True, False]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("act", "places"), [pytest.param(*act.values, where, id=act.id) for act, where in ENDS])
def test_an_act_whose_reply_was_lost_may_be_repeated(
    redis: redis_py.Redis, redis_proxy: RedisProxy, act: Callable[[SortedEntry], bool], places: list[str], when: str
) -> None:
    fill(redis, {"retry": {job(1): AT, job(2): AT}})
    client = open_redis(redis_proxy.url)
    retries = RetrySet(redis=client)
    entry = the_entry(retries, "j1")
    act(the_entry(retries, "j2"))  # The server knows the script from now on.
    (redis_proxy.cut_before_request if when == "before" else redis_proxy.cut_after_request)()
    with pytest.raises(redis_py.ConnectionError):
        act(entry)

    act(entry)

    found = [key for key, values in contents(redis).items() for value in values if b'"jid":"j1"' in bytes(value)]
    assert found == places
    client.close()


@pytest.mark.parametrize("raw", [b"{not json", b"[1]", b"{}"], ids=repr)
@pytest.mark.parametrize("act", ACTS[:2])
def test_what_is_no_job_is_not_put_into_a_queue(
    redis: redis_py.Redis, retries: RetrySet, raw: bytes, act: Callable[[SortedEntry], bool]
) -> None:
    fill(redis, {"retry": {raw: AT}})
    (entry,) = retries

    with pytest.raises(pyqik.InvalidPayload, match=r"no job: .*delete\(\) it"):
        act(entry)

    assert contents(redis) == {"retry": {raw: AT}}


@pytest.mark.parametrize(("raw", "wrapped"), [(b"{not json", False), (b"[1]", True)])
def test_what_is_no_job_is_killed_in_a_form_that_the_dead_page_can_show(
    redis: redis_py.Redis, retries: RetrySet, raw: bytes, wrapped: bool
) -> None:
    fill(redis, {"retry": {raw: AT}})
    (entry,) = retries

    answer = entry.kill()

    (dead,) = DeadSet(redis=redis)
    assert answer
    assert dead.invalid
    assert (dead.raw == raw, dead.args) == (not wrapped, [raw.decode()])
    assert retries.size == 0


def test_all_are_retried_the_earliest_first(redis: redis_py.Redis, retries: RetrySet) -> None:
    fill(redis, {"retry": {job(number): AT + number for number in range(MANY)}})

    count = retries.retry_all()

    queue: Any = redis.lrange("queue:low", 0, -1)
    assert count == MANY
    assert [json.loads(raw)["args"][2] for raw in queue] == list(reversed(range(MANY)))
    assert retries.size == 0


def test_what_is_no_job_stays_when_all_are_retried(redis: redis_py.Redis, retries: RetrySet) -> None:
    invalid = {b"x%d" % number: AT + 2 * number for number in range(MANY)}
    fill(redis, {"retry": {**invalid, **{job(number): AT + 2 * number + 1 for number in range(MANY)}}})

    count = retries.retry_all()

    assert (count, redis.llen("queue:low")) == (MANY, MANY)
    assert contents(redis)["retry"] == invalid


def test_operators_and_a_poller_that_move_the_same_entries_at_once_move_each_once(
    redis: redis_py.Redis, redis_url: str
) -> None:
    fill(redis, {"retry": {job(number): AT + number for number in range(MANY)}})
    start = threading.Barrier(3)
    moved: list[int] = []

    def move(act: Callable[[redis_py.Redis], int]) -> None:
        client = open_redis(redis_url)
        start.wait()
        moved.append(act(client))
        client.close()

    acts: list[Callable[[redis_py.Redis], int]] = [
        lambda client: RetrySet(redis=client).retry_all(),
        lambda client: sum(entry.retry() for entry in RetrySet(redis=client)),
        lambda client: sum(promote(client, "retry", AT + MANY)[1] for _ in range(3)),
    ]
    threads = [threading.Thread(target=move, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    queue: Any = redis.lrange("queue:low", 0, -1)
    assert Counter(json.loads(raw)["jid"] for raw in queue) == {f"j{number}": 1 for number in range(MANY)}
    assert (sum(moved), redis.zcard("retry")) == (MANY, 0)


def test_all_are_killed(redis: redis_py.Redis, retries: RetrySet) -> None:
    fill(redis, {"retry": {b"[1]": 1.0, **{job(number): AT for number in range(MANY)}}, "dead": {b"x": time.time()}})

    count = retries.kill_all()

    assert (count, retries.size, DeadSet(redis=redis).size) == (MANY + 1, 0, MANY + 2)


def test_the_dead_are_counted_once_when_all_are_killed_again(redis: redis_py.Redis) -> None:
    fill(redis, {"dead": {job(number): time.time() - 10 for number in range(MANY)}})
    dead = DeadSet(redis=redis)

    count = dead.kill_all()

    assert (count, dead.size) == (MANY, MANY)


def failing_again(redis: redis_py.Redis, retries: RetrySet) -> Iterator[int]:
    """Retries all, while whatever is retried fails at once."""
    for new, entry in enumerate(retries, start=MANY):
        redis.zadd("retry", {job(new): time.time() + 1000})
        assert entry.retry()
        yield number_of(entry)


def test_the_iteration_ends_although_what_is_retried_fails_again(redis: redis_py.Redis, retries: RetrySet) -> None:
    fill(redis, {"retry": {job(number): AT + number for number in range(MANY)}})

    seen = list(failing_again(redis, retries))

    assert sorted(seen) == list(range(MANY))


def test_a_cleared_set_is_empty_and_no_other(redis: redis_py.Redis, retries: RetrySet) -> None:
    fill(redis, {"retry": {job(1): AT}, "dead": {job(2): AT}})

    retries.clear()

    assert contents(redis) == {"dead": {job(2): AT}}
