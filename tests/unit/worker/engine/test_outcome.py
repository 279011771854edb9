"""How a job ended: which failure is retried when, which one dies, and what is written into its payload."""

from __future__ import annotations

import asyncio
import base64
import json
import zlib
from collections.abc import Callable
from types import FunctionType
from typing import Any

import pytest

from pyqik.core.errors import Discard, InvalidPayload, JobNotRegistered, Kill, PoisonPill, RetryIn, Shutdown
from pyqik.jobs.definition import DISCARD, KILL
from pyqik.wire.broker import FRONT, GONE, UnitOfWork
from pyqik.wire.payload import COUNT_LIMIT, decode
from pyqik.worker.engine.outcome import (
    BACKOFF_LIMIT,
    DELAY_LIMIT,
    MESSAGE_LIMIT,
    Ending,
    Outcome,
    backtrace,
    decide,
    error_class,
    error_message,
    invalid,
    poisoned,
    undecided,
    was_interrupted,
)

NOW = 1_795_320_000.5

#: A job as Ruby writes it, apart from what a test adds.
JOB = {"class": "Foo::Bar", "args": [1], "jid": "3fd5721286d295ee0275920f", "queue": "other", "retry": True}


def unit_of(fields: dict[str, Any] | None = None, *, without: tuple[str, ...] = ()) -> UnitOfWork:
    """A unit of work taken from the queue `mailers`."""
    payload = {key: value for key, value in {**JOB, **(fields or {})}.items() if key not in without}
    return UnitOfWork(b"1:1", "mailers", json.dumps(payload, separators=(",", ":")).encode())


def decided(unit: UnitOfWork, error: BaseException | None = None, **options: Any) -> Outcome:
    """What is decided of a failure at `NOW`; the jitter is 0 unless given."""
    options.setdefault("jitter", lambda n: 0)
    return decide(unit, decode(unit.raw), error or ValueError("no"), now=NOW, **options)


def written(outcome: Outcome) -> dict[str, Any]:
    """The payload that is written."""
    fields: dict[str, Any] = json.loads(outcome.place.payload)
    return fields


def raised(error: BaseException) -> BaseException:
    """`error` with a traceback of two frames."""

    def inner() -> None:
        raise error

    try:
        inner()
    except BaseException as caught:
        error = caught
    return error


# Which ending.

RETRIED, DIED, DROPPED, DISCARDED = Ending.RETRIED, Ending.DIED, Ending.DROPPED, Ending.DISCARDED

ENDINGS: list[Any] = [
    # retry
    pytest.param({"retry": True}, RETRIED, id="retry true"),
    pytest.param({"retry": True, "retry_count": 23}, RETRIED, id="retry true, the last but one"),
    pytest.param({"retry": True, "retry_count": 24}, DIED, id="retry true, 25 used up"),
    pytest.param({"retry": False}, DROPPED, id="retry false"),
    pytest.param({"retry": False, "retry_count": 3}, DROPPED, id="retry false later"),
    pytest.param({"retry": 0}, DIED, id="retry 0: the first failure is the last"),
    pytest.param({"retry": 1}, RETRIED, id="retry 1, first failure"),
    pytest.param({"retry": 1, "retry_count": 0}, DIED, id="retry 1, second failure"),
    pytest.param({"retry": 5, "retry_count": 3}, RETRIED, id="retry 5, fifth failure"),
    pytest.param({"retry": 5, "retry_count": 4}, DIED, id="retry 5, sixth failure"),
    pytest.param({"retry": -1}, DIED, id="retry negative"),
    pytest.param({"retry": 2**70, "retry_count": 2**69}, RETRIED, id="retry beyond 64 bits"),
    pytest.param({"retry": None}, RETRIED, id="retry null: the class decides, true"),
    pytest.param({"retry": "5", "retry_count": 20}, RETRIED, id="retry text is truthy: 25"),
    pytest.param({"retry": "5", "retry_count": 24}, DIED, id="retry text, 25 used up"),
    pytest.param({"retry": 3.0, "retry_count": 20}, RETRIED, id="retry float is truthy: 25"),
    pytest.param({"retry": [], "retry_count": 20}, RETRIED, id="retry empty list is truthy in Ruby"),
    # retry_count
    pytest.param({"retry": 1, "retry_count": -1}, RETRIED, id="count -1, after a retry by hand"),
    pytest.param({"retry": 1, "retry_count": None}, RETRIED, id="count null is a first failure"),
    pytest.param({"retry": 1, "retry_count": "7"}, RETRIED, id="count text is a first failure"),
    pytest.param({"retry": 1, "retry_count": True}, RETRIED, id="count true is a first failure"),
    pytest.param({"retry_count": 2**70}, DIED, id="count beyond 64 bits"),
    # retry_for
    pytest.param({"retry_for": 60}, RETRIED, id="retry_for, first failure"),
    pytest.param({"retry_for": 60, "retry_count": 99, "failed_at": NOW - 59}, RETRIED, id="retry_for beats the count"),
    pytest.param({"retry_for": 60, "retry_count": 0, "failed_at": NOW - 61}, DIED, id="retry_for is over"),
    pytest.param({"retry_for": 60, "retry": 9, "retry_count": 0, "failed_at": NOW - 61}, DIED, id="and beats retry"),
    pytest.param(
        {"retry_for": 60, "retry_count": 0, "failed_at": int((NOW - 59) * 1000)}, RETRIED, id="failed_at in ms, within"
    ),
    pytest.param(
        {"retry_for": 60, "retry_count": 0, "failed_at": int((NOW - 61) * 1000)}, DIED, id="failed_at in ms, over"
    ),
    pytest.param({"retry_for": 60, "retry_count": 0, "failed_at": None}, RETRIED, id="failed_at null counts as now"),
    pytest.param({"retry_for": 60, "retry_count": 0, "failed_at": "x"}, RETRIED, id="failed_at text counts as now"),
    pytest.param({"retry_for": 60, "retry_count": 0, "failed_at": 10**400}, RETRIED, id="failed_at absurd"),
    pytest.param({"retry_for": 10**400, "retry_count": 0, "failed_at": NOW - 9}, RETRIED, id="retry_for absurd"),
    pytest.param({"retry_for": 0, "retry_count": 24}, DIED, id="retry_for 0 is none"),
    pytest.param({"retry_for": 60, "retry": False}, DROPPED, id="retry_for with retry false"),
    # dead
    pytest.param({"retry": 0, "dead": False}, DROPPED, id="dead false"),
    pytest.param({"retry": 0, "dead": True}, DIED, id="dead true"),
    pytest.param({"retry": 0, "dead": None}, DIED, id="dead null"),
    pytest.param({"retry": 2, "dead": False}, RETRIED, id="dead false, retries left"),
]


@pytest.mark.parametrize(("fields", "ending"), ENDINGS)
def test_a_failure_ends_as_sidekiq_would_have_it(fields: dict[str, Any], ending: Ending) -> None:
    assert decided(unit_of(fields)).ending is ending


@pytest.mark.parametrize(
    ("default", "ending", "retry"),
    [
        pytest.param(True, RETRIED, True, id="true"),
        pytest.param(False, DROPPED, None, id="false"),
        pytest.param(0, DIED, 0, id="0"),
        pytest.param(3, RETRIED, 3, id="3"),
    ],
)
@pytest.mark.parametrize("missing", [{"without": ("retry",)}, {"fields": {"retry": None}}], ids=["missing", "null"])
def test_without_retry_in_the_payload_the_class_decides_and_that_is_written_down(
    default: bool | int, ending: Ending, retry: object, missing: dict[str, Any]
) -> None:
    outcome = decided(unit_of(**missing), default_retry=default)

    assert outcome.ending is ending
    assert (written(outcome)["retry"] if outcome.place.payload else None) == retry


def test_the_configured_number_of_retries_holds_for_retry_true() -> None:
    assert decided(unit_of({"retry_count": 2}), max_retries=3).ending is DIED
    assert decided(unit_of({"retry_count": 1}), max_retries=3).ending is RETRIED
    assert decided(unit_of({"retry_count": 4, "retry": 9}), max_retries=3).ending is RETRIED


@pytest.mark.parametrize(
    ("fields", "exhausted"),
    [
        pytest.param({"retry": 0}, True, id="dead"),
        pytest.param({"retry": 0, "dead": False}, True, id="not kept"),
        pytest.param({"retry": 1}, False, id="retried"),
        pytest.param({"retry": False}, False, id="retry false"),
    ],
)
def test_the_job_hears_of_exhaustion_when_a_retry_was_promised_and_none_is_left(
    fields: dict[str, Any], exhausted: bool
) -> None:
    assert decided(unit_of(fields)).exhausted is exhausted


@pytest.mark.parametrize(
    ("ending", "failed"),
    [
        *[(RETRIED, True), (DIED, True), (DROPPED, True), (DISCARDED, False)],
        *[(Ending.DONE, False), (Ending.INTERRUPTED, False), (Ending.INVALID, False)],
    ],
    ids=lambda value: getattr(value, "value", str(value)),
)
def test_what_sidekiq_counts_as_failed(ending: Ending, failed: bool) -> None:
    assert Outcome(ending, GONE).failed is failed


# What a job may raise to say how it ends.


@pytest.mark.parametrize("retry", [True, 0, 5], ids=["true", "0", "5"])
def test_kill_goes_to_the_dead_set_whatever_retries_are_left(retry: bool | int) -> None:
    outcome = decided(unit_of({"retry": retry}), Kill("needs a person"))

    assert (outcome.ending, outcome.place.key, outcome.place.score) == (DIED, "dead", NOW)
    assert outcome.exhausted
    assert written(outcome)["error_message"] == "needs a person"


def test_kill_keeps_even_a_job_that_wants_neither_retries_nor_the_dead_set() -> None:
    assert decided(unit_of({"retry": False, "dead": False}), Kill("look")).ending is DIED


def test_discard_drops_the_job() -> None:
    outcome = decided(unit_of(), Discard("closed"))

    assert (outcome.ending, outcome.place, outcome.exhausted) == (DISCARDED, GONE, False)


@pytest.mark.parametrize(
    ("delay", "expected"),
    [
        pytest.param(30, 30, id="a number"),
        pytest.param(0.25, 0.25, id="a fraction"),
        pytest.param(0, 0, id="at once"),
        pytest.param(float("inf"), DELAY_LIMIT, id="for ever"),
        pytest.param(1e18, DELAY_LIMIT, id="beyond all time"),
        pytest.param(float("nan"), 0, id="not a number"),
    ],
)
def test_retry_in_sets_the_delay_without_jitter(delay: float, expected: float) -> None:
    outcome = decided(unit_of(), RetryIn(delay), jitter=lambda n: n - 1)

    assert (outcome.ending, outcome.place.key) == (RETRIED, "retry")
    assert outcome.place.score == pytest.approx(NOW + expected)


def test_retry_in_counts_as_a_retry_like_any_other() -> None:
    assert decided(unit_of({"retry": 2, "retry_count": 1}), RetryIn(30)).ending is DIED
    assert decided(unit_of({"retry": False}), RetryIn(30)).ending is DROPPED


# The delay.


@pytest.mark.parametrize(
    ("count", "delay", "jitter"),
    [
        pytest.param(None, 15, 9, id="first"),
        pytest.param(-1, 15, 9, id="first after a retry by hand"),
        pytest.param(0, 16, 19, id="second"),
        pytest.param(1, 31, 29, id="third"),
        pytest.param(23, 24**4 + 15, 249, id="last of 25"),
        pytest.param(10**9, BACKOFF_LIMIT**4 + 15, 10 * BACKOFF_LIMIT + 9, id="absurd"),
    ],
)
def test_the_back_off_is_the_fourth_power_of_the_count_with_jitter(count: int | None, delay: int, jitter: int) -> None:
    unit = unit_of({"retry": 10**12, "retry_count": count})

    soonest, latest = decided(unit), decided(unit, jitter=lambda n: n - 1)

    assert soonest.place.score == NOW + delay
    assert latest.place.score == NOW + delay + jitter


@pytest.mark.parametrize(
    ("answer", "delay"),
    [
        pytest.param(None, 16, id="nothing: the usual"),
        pytest.param(0, 16, id="0: the usual"),
        pytest.param(-5, 16, id="negative: the usual"),
        pytest.param("60", 16, id="a text: the usual"),
        pytest.param(float("nan"), 16, id="not a number: the usual"),
        pytest.param(60, 60, id="seconds"),
        pytest.param(0.5, 0.5, id="a fraction"),
        pytest.param(float("inf"), DELAY_LIMIT, id="infinite"),
        pytest.param(10**400, DELAY_LIMIT, id="beyond a float"),
    ],
)
def test_the_class_answers_when_to_retry(answer: Any, delay: float) -> None:
    outcome = decided(unit_of({"retry_count": 0}), retry_in=lambda count, error: answer)

    assert outcome.place.score == NOW + delay


def test_the_usual_jitter_is_added_to_the_answer_of_the_class() -> None:
    outcome = decided(unit_of({"retry_count": 0}), retry_in=lambda count, error: 60, jitter=lambda n: n - 1)

    assert outcome.place.score == NOW + 60 + 19


def test_the_class_is_asked_with_the_count_and_the_error() -> None:
    asked: list[tuple[int, Exception]] = []
    error = ValueError("no")

    decided(unit_of({"retry_count": 3}), error, retry_in=lambda *question: asked.append(question))

    assert asked == [(4, error)]


@pytest.mark.parametrize("fields", [{"retry": False}, {"retry": 0}], ids=["retry false", "none left"])
def test_the_class_is_not_asked_when_no_retry_is_left(fields: dict[str, Any]) -> None:
    asked: list[int] = []

    decided(unit_of(fields), retry_in=lambda count, error: asked.append(count))

    assert not asked


def test_the_class_may_kill_or_discard() -> None:
    killed = decided(unit_of(), retry_in=lambda count, error: KILL)
    discarded = decided(unit_of(), retry_in=lambda count, error: DISCARD)

    assert (killed.ending, killed.place.key, killed.exhausted) == (DIED, "dead", True)
    assert (discarded.ending, discarded.place) == (DISCARDED, GONE)


def test_a_kill_by_the_class_respects_dead_false() -> None:
    assert decided(unit_of({"dead": False}), retry_in=lambda count, error: KILL).ending is DROPPED


# Interruptions.


def chained(build: Callable[[], object]) -> BaseException:
    try:
        build()
    except BaseException as error:
        return error
    raise AssertionError("it did not raise")


def wrapped() -> None:
    try:
        raise Shutdown
    except Shutdown as error:
        raise RuntimeError("import failed") from error


def failed_on_the_way_out() -> None:
    try:
        raise Shutdown
    finally:
        raise OSError("no connection")


def wrapped_twice() -> None:
    try:
        wrapped()
    except RuntimeError as error:
        raise ValueError from error


def behind_another_cause() -> None:
    try:
        raise Shutdown
    except Shutdown:
        raise ValueError from KeyError("x")


def context_hidden() -> None:
    try:
        raise Shutdown
    except Shutdown:
        raise ValueError from None


@pytest.mark.parametrize("build", [wrapped, failed_on_the_way_out, wrapped_twice, behind_another_cause, context_hidden])
def test_an_interruption_behind_another_error_is_an_interruption(build: Callable[[], None]) -> None:
    outcome = decided(unit_of(), chained(build))

    assert (outcome.ending, outcome.place) == (Ending.INTERRUPTED, FRONT)


def test_an_interruption_spends_no_attempt_and_changes_no_byte() -> None:
    outcome = decided(unit_of({"retry": False}), Shutdown())

    assert (outcome.ending, outcome.place, outcome.exhausted) == (Ending.INTERRUPTED, FRONT, False)
    assert outcome.place.payload == b""


def test_a_ring_of_causes_is_walked_once() -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first

    assert not was_interrupted(first)


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()], ids=repr)
def test_other_exceptions_outside_exception_are_failures_and_the_class_is_not_asked(error: BaseException) -> None:
    asked: list[int] = []

    outcome = decided(unit_of(), error, retry_in=lambda count, error: asked.append(count))

    assert (outcome.ending, asked) == (RETRIED, [])


# An unknown class.


@pytest.mark.parametrize(
    ("fields", "ending"),
    [
        pytest.param({}, RETRIED, id="is retried"),
        pytest.param({"retry": False}, RETRIED, id="with retry false too"),
        pytest.param({"retry": None}, RETRIED, id="without retry too"),
        pytest.param({"retry": 0, "dead": False}, DIED, id="and kept in the end, with dead false too"),
    ],
)
def test_a_job_of_an_unknown_class_is_never_dropped(fields: dict[str, Any], ending: Ending) -> None:
    assert decided(unit_of(fields), JobNotRegistered("Foo::Bar")).ending is ending


# What is written.


def test_the_first_failure_sets_failed_at_and_no_retried_at() -> None:
    fields = written(decided(unit_of()))

    assert (fields["retry_count"], fields["failed_at"]) == (0, NOW)
    assert "retried_at" not in fields


def test_a_later_failure_sets_retried_at_and_keeps_failed_at() -> None:
    fields = written(decided(unit_of({"retry_count": 0, "failed_at": 1_795_319_000_000})))

    assert (fields["retry_count"], fields["failed_at"], fields["retried_at"]) == (1, 1_795_319_000_000, NOW)


def test_a_later_failure_without_failed_at_gets_one_as_the_web_ui_needs_it() -> None:
    fields = written(decided(unit_of({"retry_count": 0})))

    assert (fields["failed_at"], fields["retried_at"]) == (NOW, NOW)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(-1, 0, id="after a retry by hand"),
        pytest.param(41, 42, id="usual"),
        pytest.param(2**70, COUNT_LIMIT + 1, id="beyond 64 bits"),
        pytest.param(int("9" * 4300), COUNT_LIMIT + 1, id="longer than Python writes"),
    ],
)
def test_the_count_goes_up_by_one_and_stays_writable(before: int, after: int) -> None:
    assert written(decided(unit_of({"retry_count": before, "retry": 50})))["retry_count"] == after


@pytest.mark.parametrize(
    ("fields", "queue"),
    [
        pytest.param({}, "mailers", id="the queue that it came from"),
        pytest.param({"retry_queue": "slow"}, "slow", id="retry_queue"),
        pytest.param({"retry_queue": ""}, "mailers", id="retry_queue empty"),
        pytest.param({"retry_queue": None}, "mailers", id="retry_queue null"),
    ],
)
def test_the_queue_of_the_retry_is_written(fields: dict[str, Any], queue: str) -> None:
    assert written(decided(unit_of(fields)))["queue"] == queue


def test_everything_else_keeps_its_bytes_and_its_order() -> None:
    raw = (
        '{"unknown":{"b":[1 , 2]},"class":"Foo","args":[1180591620717411303424,1.10,-0.0,1E5,"\\u00fc☃/"],'
        '"retry":5,"jid":"a1","created_at":1795319920.0918164,"enqueued_at":1795319920091}'
    ).encode()
    unit = UnitOfWork(b"1:1", "q", raw)

    outcome = decided(unit, ValueError("no"))

    added = ',"queue":"q","error_message":"no","error_class":"ValueError","retry_count":0,"failed_at":1795320000.5}'
    assert outcome.place.payload == raw[:-1] + added.encode()


@pytest.mark.parametrize(
    "fields", [{"args": None}, {"args": {"a": 1}}, {"args": 5}], ids=["null", "an object", "a value"]
)
def test_args_become_an_array_as_the_web_ui_loses_the_entry_otherwise(fields: dict[str, Any]) -> None:
    unit = unit_of(fields)

    assert written(decided(unit))["args"] == decode(unit.raw).args


@pytest.mark.parametrize("jid", [None, "", 0], ids=["null", "empty", "0"])
def test_a_job_without_a_jid_gets_one_as_the_web_ui_has_no_link_otherwise(jid: object) -> None:
    made = written(decided(unit_of({"jid": jid})))["jid"]

    assert len(made) == 24
    assert int(made, 16) >= 0


def test_what_died_is_written_like_a_retry() -> None:
    fields = written(decided(unit_of({"retry": 0}), KeyError("id")))

    assert (fields["error_class"], fields["error_message"], fields["retry_count"]) == ("KeyError", "'id'", 0)


def test_a_job_whose_end_could_not_be_judged_is_retried_later_unchanged() -> None:
    outcome = undecided(ValueError(), NOW)

    assert (outcome.ending, outcome.place.verb, outcome.place.key) == (RETRIED, "add", "retry")
    assert (outcome.place.score, outcome.place.payload) == (NOW + 60, b"")


def test_what_is_not_a_job_goes_to_the_dead_set() -> None:
    unit = UnitOfWork(b"1:1", "mailers", b"[1]")

    outcome = invalid(unit, InvalidPayload("valid JSON, but [1]"), NOW)

    assert (outcome.ending, outcome.place.key, outcome.place.score) == (Ending.INVALID, "dead", NOW)
    assert (written(outcome)["args"], written(outcome)["queue"]) == (["[1]"], "mailers")


# The error's text.


def test_a_long_error_message_is_cut_by_characters() -> None:
    assert error_message(ValueError("ü" * 20_000)) == "ü" * MESSAGE_LIMIT


class SilentError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class QuittingError(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


class NumberError(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]  # what careless authors do


@pytest.mark.parametrize(
    ("error", "text"),
    [
        pytest.param(ValueError("a\ud800b"), "a?b", id="lone surrogate"),
        pytest.param(ValueError("a\x00b"), "a\x00b", id="NUL"),
        pytest.param(SilentError(), "its message could not be made: ValueError in __str__", id="raises"),
        pytest.param(QuittingError(), "its message could not be made: SystemExit in __str__", id="exits"),
        pytest.param(NumberError(), "its message could not be made: TypeError in __str__", id="no text"),
    ],
)
def test_any_error_has_a_message_that_ruby_can_read(error: Exception, text: str) -> None:
    outcome = decided(unit_of(), error)

    assert written(outcome)["error_message"] == text


class WithoutModuleError(Exception):
    __module__ = None  # type: ignore[assignment]  # what generated classes may have


@pytest.mark.parametrize(
    ("error", "name"),
    [
        pytest.param(ValueError(), "ValueError", id="builtin"),
        pytest.param(json.JSONDecodeError("x", "", 0), "json.decoder.JSONDecodeError", id="with its module"),
        pytest.param(JobNotRegistered(), "pyqik.JobNotRegistered", id="pyqik's own by its public name"),
        pytest.param(WithoutModuleError(), "None.WithoutModuleError", id="without a module"),
    ],
)
def test_an_error_is_named_as_its_author_would_look_for_it(error: Exception, name: str) -> None:
    assert error_class(error) == name


def test_an_error_class_made_in_a_function_has_no_angle_brackets() -> None:
    class LocalError(Exception):
        pass

    assert "<" not in error_class(LocalError())


# The backtrace.


def lines_of(text: str) -> list[str]:
    lines: list[str] = json.loads(zlib.decompress(base64.b64decode(text, validate=True)))
    return lines


def test_the_backtrace_is_packed_as_ruby_unpacks_it_innermost_first() -> None:
    lines = lines_of(backtrace(raised(ValueError()), True))

    assert [line.rpartition(":in ")[2] for line in lines] == ["inner", "raised"]
    assert lines[0].startswith(f"{__file__}:")


def test_the_backtrace_has_no_angle_brackets_as_the_web_ui_swallows_them() -> None:
    error = chained(lambda: [1 / 0 for _ in range(1)] and None)

    text = "".join(lines_of(backtrace(error, True)))

    assert "(lambda)" in text
    assert "<" not in text


def test_a_file_name_that_is_no_utf8_leaves_the_backtrace_readable_to_ruby() -> None:
    code = compile("raise ValueError", "caf\udce9.py", "exec")
    error = chained(FunctionType(code, {}))

    packed = zlib.decompress(base64.b64decode(backtrace(error, True)))

    assert b"caf?.py" in packed
    assert b"\\ud" not in packed


@pytest.mark.parametrize(
    ("keep", "count"),
    [
        pytest.param(True, 2, id="all"),
        pytest.param("yes", 2, id="anything truthy"),
        pytest.param(1, 1, id="one"),
        pytest.param(99, 2, id="more than there are"),
        pytest.param(2**70, 2, id="absurdly many"),
    ],
)
def test_the_payload_says_how_many_lines_are_kept(keep: Any, count: int) -> None:
    fields = written(decided(unit_of({"backtrace": keep}), raised(ValueError())))

    assert len(lines_of(fields["error_backtrace"])) == count


@pytest.mark.parametrize("keep", [None, False], ids=["null", "false"])
def test_no_backtrace_is_kept_unasked(keep: object) -> None:
    assert "error_backtrace" not in written(decided(unit_of({"backtrace": keep}), raised(ValueError())))


def test_a_poison_pill_dies_whatever_its_options_say_and_shows_why() -> None:
    raw = b'{"class":"Shop","args":[1],"jid":"j1","queue":"a","retry":false,"dead":false,"odd":1.10}'
    unit = UnitOfWork(b"1:1", "a", raw)

    outcome = poisoned(unit, PoisonPill("it crashed"), 1000.5)

    entry = json.loads(outcome.place.payload)
    assert (outcome.ending, outcome.place.key, outcome.place.score) == (Ending.DIED, "dead", 1000.5)
    assert (entry["error_class"], entry["error_message"]) == ("pyqik.PoisonPill", "it crashed")
    assert (entry["retry_count"], entry["failed_at"], entry["retry"]) == (0, 1000.5, False)
    assert b'"odd":1.10' in outcome.place.payload


def test_a_poison_pill_that_failed_before_keeps_when_that_was() -> None:
    raw = b'{"class":"Shop","args":[1],"jid":"j1","queue":"a","retry":5,"retry_count":1,"failed_at":12.5}'

    outcome = poisoned(UnitOfWork(b"1:1", "a", raw), PoisonPill("it crashed"), 1000.5)

    entry = json.loads(outcome.place.payload)
    assert (entry["retry_count"], entry["failed_at"], entry["retried_at"]) == (2, 12.5, 1000.5)


def test_a_poison_pill_that_is_no_job_is_kept_as_it_is() -> None:
    outcome = poisoned(UnitOfWork(b"1:1", "a", b"not json"), PoisonPill("it crashed"), 1000.5)

    assert (outcome.place.key, outcome.place.payload) == ("dead", b"not json")
