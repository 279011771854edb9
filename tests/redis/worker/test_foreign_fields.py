"""What Sidekiq Pro, Enterprise and gems write into payloads: kept whatever happens, and what README.md says of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_py
from structlog.testing import capture_logs

import pyqik
from tests.redis.worker.engine import Book, payload, running
from tests.support.running import run_queued
from tests.support.wait import wait_until

#: The text of each field as another writer might have it: digits and spaces that a re-encoding would change.
FIELDS = {
    "bid": b'"bid": "Nx2kdqXq9CKGnA"',
    "unique_for": b'"unique_for": 600.0',
    "unique_until": b'"unique_until":"start"',
    "lock": b'"lock":"until_executed"',
    "lock_digest": b'"lock_digest": "uniquejobs:0d4a"',
    "lock_ttl": b'"lock_ttl":null',
    "lock_args": b'"lock_args":[1,{"a": 1.10}]',
    "expires_in": b'"expires_in":3600',
    "expiry": b'"expiry":1.0000000000000001',
    "overrated": b'"overrated":3',
    "cattr": b'"cattr":[[{"_aj_serialized":"ActiveJob::Serializers::SymbolSerializer","value":"user_id"},42]]',
    "cattr_1": b'"cattr_1":{"tenant":"acme"}',
    "locale": b'"locale":"de"',
    "log_level": b'"log_level":"debug"',
    "profile": b'"profile":"mike"',
    "profiler_options": b'"profiler_options":{"mode":"wall"}',
    "interrupted_count": b'"interrupted_count":2',
    "on_conflict": b'"on_conflict":{"client":"log","server":"reject"}',
}

fields = pytest.mark.parametrize("text", FIELDS.values(), ids=FIELDS)


def with_field(raw: bytes, text: bytes) -> bytes:
    """`raw` with one more field, in the middle."""
    return raw.replace(b'"jid"', text + b' , "jid"')


class Fails(pyqik.Job, name="Foreign::Fails"):
    """Fails each time."""

    def perform(self, number: int) -> None:
        raise ValueError("no")


@fields
@pytest.mark.parametrize(("retry", "place"), [(5, "retry"), (0, "dead")])
def test_a_foreign_field_is_kept_when_a_job_fails(
    text: bytes, retry: int, place: str, redis_url: str, redis: redis_py.Redis
) -> None:
    redis.lpush("queue:a", with_field(payload(1, "Foreign::Fails", retry=retry), text))

    run_queued(redis_url, ["a"])

    (entry,) = redis.zrange(place, 0, -1)
    name, _, value = text.partition(b":")
    assert name.strip() + b":" + value.strip() in entry


def test_all_foreign_fields_come_back_unchanged_from_an_interruption(
    book: Book, redis_url: str, redis: redis_py.Redis
) -> None:
    @pyqik.job("Foreign::Spins")
    def spins(number: int) -> None:
        book.note(number)
        while True:
            pass

    raw = payload(1, "Foreign::Spins")
    for text in FIELDS.values():
        raw = with_field(raw, text)
    redis.lpush("queue:a", raw)

    with running(redis_url, "a", timeout=0.1):
        wait_until(lambda: book.order, message="it runs")

    assert redis.lrange("queue:a", 0, -1) == [raw]


def test_a_job_with_foreign_fields_runs_and_middleware_may_read_them(
    book: Book, redis_url: str, redis: redis_py.Redis
) -> None:
    seen: list[Any] = []

    def reading(payload: pyqik.Payload) -> Iterator[None]:
        seen.append((payload["locale"], payload["cattr_1"], payload["expiry"]))
        yield

    raw = payload(1)
    for text in FIELDS.values():
        raw = with_field(raw, text)
    redis.lpush("queue:a", raw)

    endings = run_queued(redis_url, ["a"], server_middleware=[reading])

    assert (endings, book.order) == (["job.done"], [1])
    assert seen == [("de", {"tenant": "acme"}, 1.0)]


def test_what_an_author_sets_is_written_for_ruby_to_read(redis_url: str, redis: redis_py.Redis) -> None:
    pyqik.configure(pyqik.Config(redis=redis_url))

    Fails.set(expires_in=60, unique_for=600, queue="a").perform_async(1)

    (raw,) = redis.lrange("queue:a", 0, -1)
    job = json.loads(raw)
    assert (job["expires_in"], job["unique_for"]) == (60, 600)


def test_a_job_of_a_batch_runs_with_one_warning_for_each_class(redis_url: str, redis: redis_py.Redis) -> None:
    for name in ("Foreign::One", "Foreign::Two"):
        pyqik.job(name)(lambda number: None)
    for number in range(3):
        redis.lpush("queue:a", payload(number, "Foreign::One", bid="b1"), payload(number, "Foreign::Two", bid="b2"))

    with capture_logs() as lines:
        endings = run_queued(redis_url, ["a"], jobs=6)

    warnings = [line for line in lines if line["log_level"] == "warning"]
    assert endings == ["job.done"] * 6
    assert [(line["class"], line["bid"]) for line in warnings] == [("Foreign::One", "b1"), ("Foreign::Two", "b2")]
    assert all("never completes" in line["event"] for line in warnings)


def test_encrypted_arguments_reach_no_job(redis_url: str, redis: redis_py.Redis, book: Book) -> None:
    redis.lpush("queue:a", payload("BAhJIhFzZWNyZXQ=", encrypt=True))

    run_queued(redis_url, ["a"])

    (entry,) = (json.loads(raw) for raw in redis.zrange("retry", 0, -1))
    assert (book.order, entry["error_class"], entry["encrypt"]) == ([], "pyqik.WrongArguments", True)
    assert "encrypted by Sidekiq Enterprise" in entry["error_message"]
    assert "BAhJ" not in entry["error_message"]


@pytest.mark.parametrize("value", [False, None, "no"], ids=repr)
def test_a_job_that_is_not_encrypted_runs(value: object, redis_url: str, redis: redis_py.Redis, book: Book) -> None:
    redis.lpush("queue:a", payload(1, encrypt=value))

    run_queued(redis_url, ["a"])

    assert book.order == [1]
