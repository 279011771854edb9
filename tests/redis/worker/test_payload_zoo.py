"""Whatever stands in a queue ends where it should, is kept, and harms nothing that stands behind it."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import redis as redis_py
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pyqik
from pyqik.core.clock import SystemClock
from pyqik.core.errors import InvalidPayload
from pyqik.jobs.registry import registry
from pyqik.wire.broker import UnitOfWork
from pyqik.wire.payload import INVALID_PAYLOAD_CLASS, decode
from pyqik.worker.engine.outcome import Outcome
from pyqik.worker.engine.processor import Policy, Processor
from tests.redis.wire.database import contents
from tests.redis.worker.engine import Book, left_behind, payload, running

DIGITS = b"9" * 5000


def run(raw: bytes, url: str, redis: redis_py.Redis, book: Book, **config: Any) -> dict[str, Any]:
    """Run `raw`, and an ordinary job behind it; the database afterwards, without what belongs to processes."""
    redis.lpush("queue:a", raw, payload("behind"))
    with running(url, "a", concurrency=1, **config):
        book.wait_settled(2, timeout=90)
    assert book.runs["behind"] == 1
    assert left_behind(redis) == {}
    return {key: value for key, value in contents(redis).items() if key in ("dead", "retry", "queue:a")}


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"{not json", id="no JSON"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x00\x01\xff", id="binary"),
        pytest.param(b'{"class":"Note","args":["\xff"]}', id="no UTF-8"),
        pytest.param(b'{"class":"Note","args":[NaN]}', id="NaN"),
        pytest.param(b'{"class":"Note","args":["\\ud800"', id="cut off"),
        pytest.param(b"[" * 200 + b"]" * 200, id="200 nested arrays"),
        pytest.param(b'{"class":"Note","args":' + b"[" * 200 + b"]" * 200 + b"}", id="200 nested args"),
        pytest.param(b"[" * 1_000_000, id="a million brackets"),
        pytest.param(b'{"class":"Note","args":[1e400],"jid":"a"}', id="a number beyond a float"),
        pytest.param(b'{"class":"Note","args":[' + DIGITS + b'],"jid":"a"}', id="5,000 digits"),
        pytest.param(b'{"class":"Note","args":["' + b"x" * 1_000_000, id="a megabyte cut off"),
        pytest.param(b"\xef\xbb\xbf" + payload(1), id="a byte order mark"),
    ],
)
def test_what_is_not_json_is_kept_in_the_dead_set_byte_for_byte(
    raw: bytes, redis_url: str, redis: redis_py.Redis, book: Book
) -> None:
    database = run(raw, redis_url, redis, book)

    assert list(database) == ["dead"]
    assert list(database["dead"]) == [raw]
    assert book.count("payload.invalid") == 1


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"null", id="null"),
        pytest.param(b"5", id="a number"),
        pytest.param(b'"x"', id="a text"),
        pytest.param(b"[1]", id="an array"),
        pytest.param(b"[1e400]", id="an array that only Ruby reads"),
        pytest.param(b"{}", id="an empty object"),
        pytest.param(b'{"args":[1],"jid":"a"}', id="no class"),
        pytest.param(b'{"class":null,"args":[1]}', id="class null"),
        pytest.param(b'{"class":"","args":[1]}', id="class empty"),
        pytest.param(b'{"class":["Note"],"args":[1]}', id="class an array"),
    ],
)
def test_json_that_is_no_job_is_kept_in_the_dead_set_wrapped(
    raw: bytes, redis_url: str, redis: redis_py.Redis, book: Book
) -> None:
    database = run(raw, redis_url, redis, book)

    (entry,) = (json.loads(member) for member in database["dead"])
    assert (entry["class"], entry["args"], entry["queue"]) == (INVALID_PAYLOAD_CLASS, [raw.decode()], "a")


@pytest.mark.parametrize(
    ("raw", "args"),
    [
        pytest.param(b'{"class":"Any"}', [], id="args missing"),
        pytest.param(b'{"class":"Any","args":null}', [], id="args null"),
        pytest.param(b'{"class":"Any","args":{"a":1,"b":[2]}}', [["a", 1], ["b", [2]]], id="args an object"),
        pytest.param(b'{"class":"Any","args":7}', [7], id="args a number"),
        pytest.param(b'{"class":"Any","args":[1180591620717411303424]}', [2**70], id="beyond 64 bits"),
        pytest.param(b'{"class":"Any","args":[1.10,-0.0,1E5]}', [1.1, -0.0, 1e5], id="floats"),
        pytest.param(b'{"class":"Any","args":[[[[1]]]]}', [[[[1]]]], id="nested"),
        pytest.param('{"class":"Any","args":["\\ud83d\\ude00☃"]}'.encode(), ["😀☃"], id="a pair of surrogates"),
        pytest.param(b'{"class":"Other","args":[1],"class":"Any","args":[2]}', [2], id="keys twice: the last counts"),
        pytest.param(b' {"class" : "Any" , "args" : [ 1 ] }\n', [1], id="spaces"),
        pytest.param(b'{"class":"::Any","args":[1]}', [1], id="leading colons of Sidekiq 6"),
        pytest.param(b'{"class":"Any","args":[1],"jid":null,"queue":5,"tags":7,"retry":{}}', [1], id="odd fields"),
    ],
)
def test_an_odd_job_runs_with_the_arguments_that_ruby_would_give_it(
    raw: bytes, args: list[Any], redis_url: str, redis: redis_py.Redis, book: Book
) -> None:
    @pyqik.job("Any")
    def anything(*args: Any) -> None:
        book.events.append(("ran", {"args": list(args)}))

    database = run(raw, redis_url, redis, book)

    assert [fields["args"] for fields in book.fields("ran")] == [args]
    assert database == {}


@pytest.mark.parametrize(
    ("raw", "error_class"),
    [
        pytest.param(payload(1, "No::Such"), "pyqik.JobNotRegistered", id="unknown class"),
        pytest.param(payload(1, "No::Such", retry=False), "pyqik.JobNotRegistered", id="unknown class, retry false"),
        pytest.param(payload(1, "os.system"), "pyqik.JobNotRegistered", id="a function of Python's"),
        pytest.param(payload(1, "__import__"), "pyqik.JobNotRegistered", id="a builtin"),
        pytest.param(payload(1, "x" * 100_000), "pyqik.JobNotRegistered", id="a very long class"),
        pytest.param(b'{"class":"Note","args":[1,2,3]}', "pyqik.WrongArguments", id="too many arguments"),
        pytest.param(b'{"class":"Note","args":[]}', "pyqik.WrongArguments", id="too few arguments"),
    ],
)
def test_a_job_that_cannot_run_here_is_retried_with_every_byte_kept(
    raw: bytes, error_class: str, redis_url: str, redis: redis_py.Redis, book: Book
) -> None:
    database = run(raw, redis_url, redis, book)

    assert list(database) == ["retry"]
    (member,) = database["retry"]
    entry = json.loads(member)
    assert member.startswith(raw[:-1])
    assert entry["error_class"] == error_class
    assert len(entry["jid"]) == 24
    assert len(entry["error_message"]) <= 10_000


def test_the_error_of_a_wrong_call_shows_no_argument(redis_url: str, redis: redis_py.Redis, book: Book) -> None:
    database = run(b'{"class":"Note","args":["secret","secret"]}', redis_url, redis, book)

    (entry,) = (json.loads(member) for member in database["retry"])
    assert "secret" not in entry["error_message"]


def test_a_payload_of_50_mb_runs(redis_url: str, redis: redis_py.Redis, book: Book) -> None:
    sizes: list[int] = []

    @pyqik.job("Big")
    def big(text: str) -> None:
        sizes.append(len(text))

    run(payload("x" * 50_000_000, "Big"), redis_url, redis, book)

    assert sizes == [50_000_000]


def test_a_payload_of_5_mb_that_fails_is_kept(redis_url: str, redis: redis_py.Redis, book: Book) -> None:
    raw = payload("x" * 5_000_000, "No::Such")

    database = run(raw, redis_url, redis, book)

    (member,) = database["retry"]
    assert member.startswith(raw[:-1])


class Rude(BaseException):
    """Neither an error nor an interruption."""


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), Rude()], ids=repr)
def test_a_job_that_raises_beside_exception_is_retried_and_its_thread_lives(
    error: BaseException, redis_url: str, redis: redis_py.Redis, book: Book
) -> None:
    @pyqik.job("Exits")
    def exits(number: int) -> None:
        raise error

    database = run(payload(1, "Exits"), redis_url, redis, book)

    assert list(database) == ["retry"]


@pytest.mark.parametrize("hook", ["retry_in", "retries_exhausted"])
@pytest.mark.parametrize("error", [ValueError("in the hook"), SystemExit(1)], ids=repr)
def test_an_error_in_a_hook_changes_nothing_and_its_thread_lives(
    hook: str, error: BaseException, redis_url: str, redis: redis_py.Redis, book: Book
) -> None:
    class Hooked(pyqik.Job, name="Hooked"):
        def perform(self, number: int) -> None:
            raise LookupError("the job's own")

        def retry_in(self, count: int, failure: Exception) -> pyqik.RetryDecision:
            if hook == "retry_in":
                raise error
            return None

        def retries_exhausted(self, failure: Exception) -> None:
            raise error

    retry = 0 if hook == "retries_exhausted" else 5
    database = run(payload(1, "Hooked", retry=retry), redis_url, redis, book)

    (place,) = database
    (entry,) = (json.loads(member) for member in database[place])
    assert (place, entry["error_message"]) == ("retry" if retry else "dead", "the job's own")


class Unspeakable(Exception):
    """An error whose very class cannot be written down."""


Unspeakable.__qualname__ = "Un\ud800speakable"


def test_a_job_whose_end_cannot_be_judged_is_kept_for_later_byte_for_byte(
    redis_url: str, redis: redis_py.Redis, book: Book
) -> None:
    @pyqik.job("Odd")
    def odd(number: int) -> None:
        raise Unspeakable

    raw = payload(1, "Odd")
    database = run(raw, redis_url, redis, book)

    assert list(database) == ["retry"]
    assert list(database["retry"]) == [raw]


# Fuzzing: what `open` makes of any bytes, and what `decide` makes of any fields.


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=3), SCALARS, max_size=2)
KNOWN = st.sampled_from(
    [
        *("class", "args", "jid", "queue", "retry", "retry_count", "retry_for", "retry_queue", "dead", "backtrace"),
        *("failed_at", "retried_at", "tags", "wrapped", "error_message", "created_at"),
    ]
)


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Processor:
    """A processor that logs nothing, with the job `Fails`."""
    silent = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    monkeypatch.setattr("pyqik.worker.engine.processor.log", silent)

    @pyqik.job("Fails")
    def fails(*args: Any) -> None:
        raise ValueError("no")

    return Processor(registry, Policy(), SystemClock(), stopping=lambda: False)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(KNOWN, VALUES, max_size=8), st.sampled_from(["Fails", "No::Such"]))
def test_any_fields_end_in_an_outcome_that_can_be_written_and_read_again(
    processor: Processor, fields: dict[str, Any], job_class: str
) -> None:
    raw = json.dumps({**fields, "class": job_class}, ensure_ascii=False).encode("utf-8", "replace")
    outcome = perform(processor, raw)

    place = outcome.place
    assert place.verb in ("add", "drop")
    if place.verb == "add":
        assert place.key in ("retry", "dead")
        assert 0 < place.score < 1e11
        if place.payload and place.key == "retry":
            decode(place.payload)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=80) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_end_in_an_outcome(processor: Processor, raw: bytes) -> None:
    outcome = perform(processor, raw)

    assert outcome.place.key in ("retry", "dead")


def perform(processor: Processor, raw: bytes) -> Outcome:
    opened = processor.open(UnitOfWork(b"1:1", "a", raw))
    if isinstance(opened, Outcome):
        with pytest.raises(InvalidPayload):
            decode(raw)
        return opened
    return processor.perform(opened)
