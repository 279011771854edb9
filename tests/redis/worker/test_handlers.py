"""Which ending of a job calls which handlers, with what, and when."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis as redis_py

import pyqik
from tests.redis.worker.engine import Book, declare_endless, left_behind, payload, push, running, waiting
from tests.support.running import run_queued
from tests.support.wait import wait_until


class Diary:
    """What the handlers of a test were told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.errors: list[tuple[BaseException, pyqik.Payload | None]] = []
        self.deaths: list[tuple[pyqik.Payload, BaseException]] = []
        self.threads: list[str] = []

    def report(self, error: BaseException, payload: pyqik.Payload | None) -> None:
        """An error handler."""
        self.lines.append("error")
        self.errors.append((error, payload))
        self.threads.append(threading.current_thread().name)

    def mourn(self, payload: pyqik.Payload, error: BaseException) -> None:
        """A death handler."""
        self.lines.append("death")
        self.deaths.append((payload, error))
        self.threads.append(threading.current_thread().name)

    @property
    def handlers(self) -> dict[str, Any]:
        """For the configuration."""
        return {"error_handlers": [self.report], "death_handlers": [self.mourn]}


@pytest.fixture
def diary() -> Diary:
    return Diary()


class Verdict(pyqik.Job, name="Verdict", retry=3):
    """Ends as its argument says."""

    diary: Diary
    rule: pyqik.RetryDecision = None

    def perform(self, what: str) -> None:
        match what:
            case "discard":
                raise pyqik.Discard("closed")
            case "kill":
                raise pyqik.Kill("a person")
            case "retry in":
                raise pyqik.RetryIn(30)
            case "error" | "rule":
                raise ValueError("no")
            case "exit":
                raise SystemExit(3)

    def retry_in(self, count: int, error: Exception) -> pyqik.RetryDecision:
        return self.rule if self.payload.args == ["rule"] else None

    def retries_exhausted(self, error: Exception) -> None:
        self.diary.lines.append("exhausted")


@pytest.fixture(autouse=True)
def verdict(diary: Diary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Verdict, "diary", diary, raising=False)


ERROR, GIVEN_UP, EXHAUSTED = ["error"], ["death", "error"], ["exhausted", "death", "error"]


@pytest.mark.parametrize(
    ("what", "fields", "calls"),
    [
        pytest.param("well", {}, [], id="done"),
        pytest.param("discard", {}, [], id="Discard is no error"),
        pytest.param("error", {}, ERROR, id="retried"),
        pytest.param("exit", {}, ERROR, id="SystemExit"),
        pytest.param("retry in", {}, ERROR, id="RetryIn"),
        pytest.param("kill", {}, EXHAUSTED, id="Kill"),
        pytest.param("error", {"retry": 0}, EXHAUSTED, id="retries used up"),
        pytest.param("error", {"retry": 2, "retry_count": 1}, EXHAUSTED, id="retries used up later"),
        pytest.param("error", {"retry": 0, "dead": False}, EXHAUSTED, id="dead: false"),
        # As in Sidekiq: nothing was ever to be retried, so that nothing is exhausted.
        pytest.param("error", {"retry": False}, GIVEN_UP, id="retry: false"),
        pytest.param("error", {"class": "No::Such"}, ERROR, id="unknown class"),
        pytest.param("error", {"class": "No::Such", "retry": 0}, GIVEN_UP, id="unknown class, given up"),
        pytest.param("error", {"args": [1, 2]}, ERROR, id="wrong arguments"),
    ],
)
def test_an_ending_calls_its_handlers(
    what: str, fields: dict[str, Any], calls: list[str], diary: Diary, redis_url: str, redis: redis_py.Redis
) -> None:
    redis.lpush("queue:a", json.dumps({**json.loads(payload(what, "Verdict")), **fields}))

    run_queued(redis_url, ["a"], **diary.handlers)

    assert diary.lines == calls


@pytest.mark.parametrize(
    ("rule", "calls"),
    [(pyqik.DISCARD, GIVEN_UP), (pyqik.KILL, EXHAUSTED), (60.0, ERROR)],
    ids=["discard", "kill", "60"],
)
def test_what_retry_in_answers_calls_handlers_as_in_sidekiq(
    rule: pyqik.RetryDecision,
    calls: list[str],
    diary: Diary,
    redis_url: str,
    redis: redis_py.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Verdict, "rule", rule)
    push(redis, "a", ["rule"], "Verdict")

    run_queued(redis_url, ["a"], **diary.handlers)

    assert diary.lines == calls


def test_an_error_handler_gets_error_and_payload_in_the_thread_of_the_job(
    diary: Diary, redis_url: str, redis: redis_py.Redis
) -> None:
    push(redis, "a", ["error"], "Verdict", custom=1)

    run_queued(redis_url, ["a"], **diary.handlers)

    ((error, told),) = diary.errors
    assert repr(error) == "ValueError('no')"
    assert told is not None
    assert (told.job_class, told.args, told["custom"]) == ("Verdict", ["error"], 1)
    assert diary.threads == ["pyqik-job-t0"]


def test_a_death_handler_gets_the_payload_as_it_stands_in_the_dead_set(
    diary: Diary, redis_url: str, redis: redis_py.Redis
) -> None:
    push(redis, "a", ["error"], "Verdict", retry=0, custom=1)

    run_queued(redis_url, ["a"], **diary.handlers)

    ((told, error),) = diary.deaths
    (entry,) = redis.zrange("dead", 0, -1)
    assert told.fields == json.loads(entry)
    assert (told["error_class"], told["retry_count"], str(error)) == ("ValueError", 0, "no")


@pytest.mark.parametrize("fields", [{"retry": False}, {"retry": 0, "dead": False}], ids=str)
def test_a_death_handler_is_told_what_is_kept_nowhere(
    fields: dict[str, Any], diary: Diary, redis_url: str, redis: redis_py.Redis
) -> None:
    push(redis, "a", ["error"], "Verdict", **fields)

    run_queued(redis_url, ["a"], **diary.handlers)

    ((told, _),) = diary.deaths
    assert (told["error_message"], type(told["discarded_at"])) == ("no", float)
    assert redis.exists("dead", "retry", "queue:a") == 0


def test_what_middleware_changed_is_not_what_a_death_handler_gets(
    diary: Diary, redis_url: str, redis: redis_py.Redis
) -> None:
    def changing(payload: pyqik.Payload) -> Iterator[None]:
        payload["tenant"] = "acme"
        yield

    push(redis, "a", ["error"], "Verdict", retry=0)

    run_queued(redis_url, ["a"], server_middleware=[changing], **diary.handlers)

    assert "tenant" not in diary.deaths[0][0]
    assert (diary.errors[0][1] or {})["tenant"] == "acme"


def test_an_async_jobs_handlers_run_in_its_task(diary: Diary, redis_url: str, redis: redis_py.Redis) -> None:
    tasks: list[asyncio.Task[Any] | None] = []

    @pyqik.job("Fails", retry=0)
    async def fails(number: int) -> None:
        tasks.append(asyncio.current_task())
        raise ValueError("no")

    def note(error: BaseException, payload: pyqik.Payload | None) -> None:
        tasks.append(asyncio.current_task())

    push(redis, "a", [1], "Fails", retry=0)

    run_queued(redis_url, ["a"], error_handlers=[note, diary.report], death_handlers=[diary.mourn])

    assert diary.lines == ["death", "error"]
    assert tasks[0] is tasks[1] is not None


def test_what_is_no_job_is_told_without_a_payload_and_with_its_bytes(
    diary: Diary, redis_url: str, redis: redis_py.Redis
) -> None:
    redis.lpush("queue:a", b"{no json")

    with running(redis_url, "a", **diary.handlers):
        wait_until(lambda: diary.errors)

    ((error, told),) = diary.errors
    assert isinstance(error, pyqik.InvalidPayload)
    assert (error.raw, told, diary.deaths) == (b"{no json", None, [])


def broken(*args: Any) -> None:
    raise LookupError("the handler's own")


def test_broken_handlers_change_nothing_about_the_outcome(diary: Diary, redis_url: str, redis: redis_py.Redis) -> None:
    push(redis, "a", ["error"], "Verdict", retry=0)

    endings = run_queued(redis_url, ["a"], error_handlers=[broken, diary.report], death_handlers=[broken, diary.mourn])

    assert (diary.lines, endings, redis.zcard("dead")) == (EXHAUSTED, ["job.failed"], 1)


@pytest.mark.parametrize("kind", ["thread", "asyncio"])
def test_an_interruption_calls_no_handler(
    kind: str, diary: Diary, book: Book, redis_url: str, redis: redis_py.Redis
) -> None:
    declare_endless(book)
    push(redis, "a", [1], "Spins" if kind == "thread" else "Forever")
    with running(redis_url, "a", timeout=0.1, **diary.handlers):
        wait_until(lambda: book.order, message="it runs")

    assert (diary.lines, waiting(redis, "a")) == ([], [1])


@pytest.mark.parametrize("kind", ["error_handlers", "death_handlers"])
def test_a_job_that_is_interrupted_in_a_handler_is_given_back_and_counted_nowhere(
    kind: str, book: Book, redis_url: str, redis: redis_py.Redis
) -> None:
    def lingering(*args: object) -> None:
        book.note("lingers")
        while True:
            try:
                threading.Event().wait(0.001)
            except Exception:  # what careless authors do
                pass

    raw = payload("error", "Verdict", retry=0)
    redis.lpush("queue:a", raw)
    handlers: dict[str, list[Callable[..., None]]] = {kind: [lingering]}
    with running(redis_url, "a", timeout=0.1, **handlers):
        wait_until(lambda: book.order, message="the handler is called")

    assert redis.lrange("queue:a", 0, -1) == [raw]
    assert redis.exists("dead", "retry", "stat:processed", "stat:failed") == 0
    assert left_behind(redis) == {}
