"""`pyqik.progress`: how far a job is, whatever interrupts it, and what others read of that."""

from __future__ import annotations

import asyncio
import json
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import pyqik
from pyqik import enumerators, testing
from pyqik.core.errors import PyqikError
from pyqik.jobs import progress as progress_module
from pyqik.jobs.progress import Progress, progress_of
from tests.unit.jobs.kept import Kept

JID = "a" * 24
KEY = f"progress/{JID}"
ITEMS = list(range(5))


def counted_by_itself() -> testing.Performable:
    @pyqik.job("Counted")
    def job() -> None:
        pyqik.progress.total = len(ITEMS)
        for item in pyqik.each(enumerators.array(ITEMS)):
            pyqik.progress.note = f"at {item}"

    return job


def advancing() -> testing.Performable:
    @pyqik.job("Advancing")
    def job() -> None:
        pyqik.progress.total = 50
        for _ in pyqik.each(enumerators.array(ITEMS)):
            pyqik.progress.advance(4)
            pyqik.progress.advance(6)

    return job


def setting() -> testing.Performable:
    @pyqik.job("Setting")
    def job() -> None:
        pyqik.progress.total = 2.5
        for item in pyqik.each(enumerators.array(ITEMS)):
            pyqik.progress.done = (item + 1) / 2

    return job


def in_steps() -> testing.Performable:
    @pyqik.job("Steps")
    def job() -> None:
        pyqik.progress.total = 3
        for name in ("one", "two", "three"):
            with pyqik.step(name):
                pass

    return job


def saving_by_hand() -> testing.Performable:
    @pyqik.job("ByHand")
    def job() -> None:
        pyqik.progress.total = len(ITEMS)
        for item in range(pyqik.resume(0), len(ITEMS)):
            pyqik.progress.note = f"at {item}"
            pyqik.checkpoint(item + 1)

    return job


# What the job says, over its runs.


def test_the_items_of_all_runs_are_what_is_done() -> None:
    run = testing.perform(counted_by_itself(), interrupt_after=2)

    said = run.progress
    assert (said.jid, said.done, said.total, said.note) == (run.payload.jid, 2, 5, "at 1")
    assert (said.executions, said.cursor, said.percent, said.ended_at) == (1, 2, 40.0, None)
    assert said.updated_at is not None

    run = run.again(interrupt_after=1)
    assert (run.progress.done, run.progress.executions, run.progress.cursor) == (3, 2, 3)

    said = run.again().progress
    assert (said.done, said.total, said.note, said.percent) == (5, 5, "at 4", 100.0)


def test_it_is_kept_after_the_end_which_it_tells() -> None:
    run = testing.perform(counted_by_itself()).or_raise()

    assert run.state == {}
    said = run.progress
    assert said.ended_at is not None
    assert said.updated_at == pytest.approx(said.ended_at, abs=1)
    assert (said.executions, said.eta) == (1, None)


@pytest.mark.parametrize(
    ("job", "done", "total"),
    [
        (counted_by_itself, 5, 5),
        (advancing, 50, 50),
        (setting, 2.5, 2.5),
        (in_steps, 3, 3),
        (saving_by_hand, 5, 5),
    ],
)
def test_wherever_it_is_interrupted_it_ends_the_same(
    job: Callable[[], testing.Performable], done: float, total: float
) -> None:
    stories = 0
    for run in testing.every_interruption(job()):
        stories += 1
        said = run.progress
        assert (said.done, said.total, said.percent) == (done, total, 100.0), run.story
        assert said.ended_at is not None, run.story
    assert stories > 8


def test_a_job_reads_what_earlier_runs_have_said() -> None:
    seen: list[Any] = []

    @pyqik.job("Reads")
    def job() -> None:
        seen.append((pyqik.progress.done, pyqik.progress.total, pyqik.progress.note))
        if pyqik.progress.total is None:
            pyqik.progress.total, pyqik.progress.note = 50, "begun"
        for _ in pyqik.each(enumerators.array(ITEMS)):
            pyqik.progress.advance(10)

    run = testing.perform(job, interrupt_after=2)
    assert run.again().completed

    assert seen == [(0, None, ""), (20, 50, "begun")]


def test_total_and_note_can_be_taken_back() -> None:
    @pyqik.job("Back")
    def job() -> None:
        pyqik.progress.total, pyqik.progress.note = 5, "counting"
        for _ in pyqik.each(enumerators.array(ITEMS)):
            pyqik.progress.total, pyqik.progress.note = None, ""

    run = testing.perform(job, interrupt_after=2)

    assert (run.progress.total, run.progress.note) == (None, "")
    run = run.again()
    assert (run.progress.total, run.progress.note, run.progress.done) == (None, "", 5)


def test_what_an_item_that_fails_has_added_is_not_kept() -> None:
    fails = iter([True])

    @pyqik.job("Fails")
    def job() -> None:
        for item in pyqik.each(enumerators.array(ITEMS)):
            pyqik.progress.advance(10)
            if item == 2 and next(fails, False):
                assert pyqik.progress.done == 30
                raise ConnectionError

    run = testing.perform(job)
    assert run.failed
    assert (run.progress.done, run.progress.ended_at) == (20, None)

    run = run.again()
    assert run.completed
    assert run.progress.done == 50


def test_what_the_first_item_has_added_is_not_kept_either_if_it_fails() -> None:
    @pyqik.job("Fails")
    def job() -> None:
        for _ in pyqik.each(enumerators.array(ITEMS)):
            pyqik.progress.advance(10)
            raise ConnectionError

    run = testing.perform(job)

    assert run.progress.done == 0
    assert run.again().progress.done == 0


def test_a_job_whose_process_was_killed_is_where_it_was_written() -> None:
    run = testing.perform(advancing(), crash_after=4, flush_after=2)

    assert run.crashed
    assert (run.progress.done, run.progress.total) == (20, 50)
    assert run.again().progress.done == 50


def test_a_cancelled_job_has_ended() -> None:
    run = testing.perform(counted_by_itself(), interrupt_after=2)
    run.cancel()

    run = run.again()

    assert run.cancelled
    assert run.completed
    assert (run.progress.done, run.progress.total) == (2, 5)
    assert run.progress.ended_at is not None


def test_a_discarded_job_has_ended() -> None:
    @pyqik.job("Discarded")
    def job() -> None:
        pyqik.progress.total = 5
        raise pyqik.Discard("the account is closed")

    said = testing.perform(job).progress

    assert (said.done, said.total, said.ended_at is None) == (0, 5, False)


@pytest.mark.parametrize("how", ["retry", "dead"])
def test_a_job_that_has_failed_has_not_ended(how: str) -> None:
    @pyqik.job("Failed", retry=3)
    def job() -> None:
        pyqik.progress.note = "trying"
        raise (pyqik.Kill("no") if how == "dead" else ConnectionError)

    run = testing.perform(job)

    assert run.place == how
    assert (run.progress.note, run.progress.ended_at) == ("trying", None)


# Runs that do not touch it.


def test_of_a_job_that_never_uses_it_the_items_are_known() -> None:
    @pyqik.job("Plain")
    def job() -> None:
        for _ in pyqik.each(enumerators.array(ITEMS)):
            pass

    run = testing.perform(job, interrupt_after=2)
    said = run.progress
    assert said == Progress(run.payload.jid, 2, cursor=2, executions=1, runtime=said.runtime)

    run = run.again()
    assert run.progress == Progress(run.payload.jid, 5)


def test_of_a_job_that_never_asks_where_it_was_nothing_is_known() -> None:
    @pyqik.job("Short")
    def job() -> None: ...

    run = testing.perform(job)

    assert run.progress == Progress(run.payload.jid, 0)


def total_in_a_step() -> testing.Performable:
    @pyqik.job("Stepwise")
    def job() -> None:
        with pyqik.step("count"):
            pyqik.progress.total = 6
        for _ in pyqik.each(enumerators.array(ITEMS)):
            pass

    return job


def test_a_run_that_does_not_touch_it_counts_all_the_same() -> None:
    run = testing.perform(total_in_a_step(), interrupt_after=3)
    assert (run.progress.done, run.progress.total) == (3, 6)

    run = run.again(interrupt_after=2)

    assert (run.progress.done, run.progress.total, run.progress.executions) == (5, 6, 2)


def test_a_last_run_that_does_not_touch_it_ends_it_all_the_same() -> None:
    run = testing.perform(total_in_a_step(), interrupt_after=3).again()

    assert run.completed
    assert run.progress.ended_at is not None


# What is refused.


@pytest.mark.parametrize(
    "use",
    [
        lambda: pyqik.progress.done,
        lambda: pyqik.progress.total,
        lambda: pyqik.progress.note,
        lambda: pyqik.progress.advance(),
        lambda: setattr(pyqik.progress, "done", 1),
        lambda: setattr(pyqik.progress, "total", 1),
        lambda: setattr(pyqik.progress, "note", "x"),
    ],
)
def test_outside_of_a_job_it_is_refused(use: Callable[[], object]) -> None:
    with pytest.raises(PyqikError, match="no job runs here"):
        use()


def test_outside_of_a_job_the_async_form_is_refused_too() -> None:
    with pytest.raises(PyqikError, match="no job runs here"):
        asyncio.run(pyqik.aprogress())


def test_outside_of_a_job_it_can_be_looked_at() -> None:
    assert repr(pyqik.progress) == "<the progress of the job that runs here>"


def test_a_job_that_is_called_like_any_function_has_one() -> None:
    seen: list[Any] = []

    @pyqik.job("Called")
    def job() -> None:
        pyqik.progress.total = 5
        for _ in pyqik.each(enumerators.array(ITEMS)):
            seen.append(pyqik.progress.done)
        seen.append((pyqik.progress.done, pyqik.progress.total))

    job()

    assert seen == [0, 1, 2, 3, 4, (5, 5)]


@pytest.mark.parametrize("name", ["done", "total"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "5", True, b"5", 1j, [1]])
def test_what_is_no_finite_number_is_refused(name: str, value: Any) -> None:
    def job() -> None:
        setattr(pyqik.progress, name, 3)
        with pytest.raises(TypeError, match=rf"progress\.{name} is .*; write a finite number"):
            setattr(pyqik.progress, name, value)
        assert getattr(pyqik.progress, name) == 3

    assert Kept().run(job) is None


def test_done_cannot_be_unknown() -> None:
    def job() -> None:
        progress: Any = pyqik.progress
        with pytest.raises(TypeError, match=r"progress\.done is None"):
            progress.done = None

    assert Kept().run(job) is None


@pytest.mark.parametrize("by", [math.nan, math.inf, "5", None, [1]])
def test_it_advances_by_finite_numbers_only(by: Any) -> None:
    def job() -> None:
        pyqik.progress.advance(2)
        with pytest.raises(TypeError):
            pyqik.progress.advance(by)
        assert pyqik.progress.done == 2

    assert Kept().run(job) is None


def test_it_advances_by_one_and_backwards_and_by_parts() -> None:
    def job() -> None:
        pyqik.progress.advance()
        pyqik.progress.advance(10)
        pyqik.progress.advance(-3)
        pyqik.progress.advance(0.5)
        assert pyqik.progress.done == 8.5

    assert Kept().run(job) is None


@pytest.mark.parametrize("note", [None, 1, b"bytes", ["text"]])
def test_a_note_is_a_text(note: Any) -> None:
    def job() -> None:
        pyqik.progress.note = "before"
        with pytest.raises(TypeError, match=r"progress\.note is .*; write a text"):
            pyqik.progress.note = note
        assert pyqik.progress.note == "before"

    assert Kept().run(job) is None


@pytest.mark.parametrize(
    ("note", "kept"),
    [
        ("x" * 1001, "x" * 1000),
        ("ü" * 5000, "ü" * 1000),
        ("y" * 1000, "y" * 1000),
        ("a\nb\x1b[31m", "a\nb\x1b[31m"),
        ("half \ud800 a letter", "half ? a letter"),
    ],
    ids=["long", "long in bytes", "as long as may be", "control characters", "a lone surrogate"],
)
def test_a_note_is_kept_as_far_as_can_be(note: str, kept: str) -> None:
    @pyqik.job("Notes")
    def job() -> None:
        pyqik.progress.note = note

    assert testing.perform(job).progress.note == kept


# What stands in Redis.


def test_what_stands_in_redis_can_be_read_by_anybody() -> None:
    kept = Kept()

    def job() -> None:
        pyqik.progress.total, pyqik.progress.note = 12, "wörk"
        pyqik.progress.advance(3)
        pyqik.checkpoint(1, flush=True)

    assert kept.run(job) is None
    fields = kept.state.beside[KEY]
    assert {name: fields[name] for name in (b"done", b"total", b"note", b"ex")} == {
        b"done": b"3",
        b"total": b"12",
        b"note": "wörk".encode(),
        b"ex": b"1",
    }
    assert float(fields[b"at"]) > 1e9
    assert b"ended" not in fields


RUBBISH: list[dict[bytes, bytes]] = [
    {b"done": b"rubbish", b"total": b"{", b"pace": b"x", b"own": b"1"},
    {b"done": b"NaN", b"total": b"Infinity", b"pace": b"nan", b"own": b"1"},
    {b"done": b"1e999", b"total": b"-1e999", b"pace": b"-inf", b"own": b"1"},
    {b"done": b"true", b"total": b'"5"', b"pace": b"[]", b"own": b"1"},
    {b"done": b"null", b"total": b"[1]", b"own": b"1"},
    {b"done": b"\xff\xfe", b"total": b"\xff", b"note": b"", b"own": b"1"},
    {b"done": b"9" * 5000, b"total": b"[" * 100_000, b"own": b"1"},
    {b"done": b"", b"unknown": b"field", b"\xff": b"\xff", b"own": b""},
]


@pytest.mark.parametrize("fields", RUBBISH)
def test_rubbish_counts_as_nothing_in_the_job(fields: dict[bytes, bytes]) -> None:
    kept = Kept(beside=f'{{"{KEY}":86400}}', ex="1", c="null", rt="0")
    kept.state.beside[KEY] = dict(fields)

    def job() -> None:
        assert (pyqik.progress.done, pyqik.progress.total, pyqik.progress.note) == (0, None, "")
        pyqik.progress.total = 5
        for _ in pyqik.each(enumerators.array(ITEMS)):
            pass

    assert kept.run(job) is None
    said = progress_of(JID, kept.hash, kept.state.beside[KEY])
    assert said is not None
    assert (said.done, said.total) == (5, 5)


@pytest.mark.parametrize("fields", RUBBISH)
def test_rubbish_counts_as_nothing_for_those_who_look(fields: dict[bytes, bytes]) -> None:
    rubbish = {**fields, b"at": fields[b"done"], b"ended": fields[b"done"], b"ex": b"x"}

    assert progress_of(JID, {}, rubbish) == Progress(JID, 0)
    assert progress_of(JID, {b"items": b"7", b"rt": b"nan", b"c": b"{"}, rubbish) == Progress(JID, 7)


@pytest.mark.parametrize("cursor", [b"", b"\xff", b"[" * 100_000, b"nothing"])
def test_a_cursor_that_is_none_is_none(cursor: bytes) -> None:
    said = progress_of(JID, {b"c": cursor, b"ex": b"2"}, {})
    assert said is not None
    assert (said.cursor, said.executions) == (None, 2)


def test_a_note_that_is_no_text_is_shown_as_far_as_it_is() -> None:
    said = progress_of(JID, {}, {b"note": b"w\xc3\xb6rk \xff"})
    assert said is not None
    assert said.note == "wörk �"


def test_a_note_that_is_no_text_does_no_harm_in_the_job() -> None:
    kept = Kept(beside=f'{{"{KEY}":86400}}', ex="1", c="null", rt="0")
    kept.state.beside[KEY] = {b"note": b"\xff"}

    def job() -> None:
        assert pyqik.progress.note == "�"
        pyqik.checkpoint(1, flush=True)

    assert kept.run(job) is None


def test_nothing_is_nothing() -> None:
    assert progress_of(JID, {}, {}) is None
    assert progress_of(JID, {}, {}, 5) is None


def test_what_an_earlier_job_of_that_jid_has_left_does_not_count() -> None:
    kept = Kept()
    kept.state.beside[KEY] = {b"done": b"7", b"own": b"1", b"note": b"old", b"ended": b"1.0", b"else": b"x"}

    def job() -> None:
        assert (pyqik.progress.done, pyqik.progress.note) == (0, "")
        pyqik.checkpoint(1, flush=True)

    assert kept.run(job) is None
    assert set(kept.state.beside[KEY]) == {b"done", b"items", b"pace", b"ex", b"at"}


# Arithmetic.


@pytest.mark.parametrize(
    ("done", "total", "percent"),
    [
        (0, 10, 0.0),
        (5, 10, 50.0),
        (1234, 10_000, 12.34),
        (10, 10, 100.0),
        (11, 10, 100.0),
        (-1, 10, 0.0),
        (0.5, 2.0, 25.0),
        (5, None, None),
        (5, 0, None),
        (0, 0, None),
        (5, -10, None),
        (5, 0.0, None),
        (1e308, 1e308, 100.0),
        (2**62, 2**63, 50.0),
    ],
)
def test_percent(done: float, total: float | None, percent: float | None) -> None:
    assert Progress(JID, done, total).percent == (None if percent is None else pytest.approx(percent))


@pytest.mark.parametrize(
    ("done", "total", "pace", "eta"),
    [
        (0, 100, 10.0, 10.0),
        (75, 100, 0.5, 50.0),
        (100, 100, 10.0, 0.0),
        (150, 100, 10.0, 0.0),
        (0, 0, 10.0, 0.0),
        (0, -5, 10.0, 0.0),
        (0, 100, 0.0, None),
        (0, 100, -1.0, None),
        (0, None, 10.0, None),
    ],
)
def test_eta(done: float, total: float | None, pace: float, eta: float | None) -> None:
    assert Progress(JID, done, total, pace=pace).eta == eta
    assert Progress(JID, done, total, pace=pace, ended_at=1.0).eta is None


@pytest.mark.parametrize("name", ["percent", "eta"])
def test_whole_numbers_that_no_float_holds_do_no_harm(name: str) -> None:
    said = progress_of(JID, {}, {b"done": b"1" + b"0" * 400, b"total": b"2" + b"0" * 400, b"pace": b"1"})
    getattr(said, name)


# Pace.


class Clock:
    """Stands still unless it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1.8e9 + self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


def pace_of(kept: Kept) -> float:
    said = progress_of(JID, kept.hash, kept.state.beside[KEY])
    assert said is not None
    return said.pace


def working(clock: Clock, items: int, seconds: float) -> Callable[[], None]:
    """A job of which each item takes so long; its state is written after each."""

    def job() -> None:
        pyqik.progress.total = items
        for _ in pyqik.each(enumerators.array([0] * items)):
            clock.now += seconds

    return job


def test_the_pace_is_that_of_the_first_seconds_at_first(clock: Clock) -> None:
    kept = Kept()
    kept.run(working(clock, 100, 0.1), stop_after=20)

    assert pace_of(kept) == pytest.approx(10)
    said = progress_of(JID, kept.hash, kept.state.beside[KEY])
    assert said is not None
    assert said.eta == pytest.approx(8, rel=0.01)
    assert said.updated_at == pytest.approx(clock.time(), abs=0.2)


def test_the_pace_is_not_known_in_the_first_half_second(clock: Clock) -> None:
    kept = Kept()
    kept.run(working(clock, 100, 0.1), stop_after=4)

    assert pace_of(kept) == 0


def test_the_pace_converges_when_it_changes(clock: Clock) -> None:
    kept = Kept()
    speeds: list[float] = []

    def job() -> None:
        pyqik.progress.total = 10_000
        for item in pyqik.each(enumerators.array(list(range(3000)))):
            clock.now += 0.1 if item < 1000 else 0.2
            if item in (999, 1010, 1300, 2990):
                speeds.append(pace_of(kept))

    kept.run(job)

    before, just_after, after_a_minute, at_last = speeds
    assert before == pytest.approx(10, rel=0.01)
    assert 9 < just_after < 10
    # It has forgotten two thirds of what it was.
    assert after_a_minute == pytest.approx(5 + 5 * math.exp(-1), abs=0.2)
    assert at_last == pytest.approx(5, rel=0.01)


def test_the_pace_falls_while_nothing_is_done(clock: Clock) -> None:
    kept = Kept()

    def job() -> None:
        for item in pyqik.each(enumerators.array(list(range(700)))):
            clock.now += 1
            if item < 100:
                pyqik.progress.advance(20)

    kept.run(job)

    assert 0 <= pace_of(kept) < 0.01


def test_the_pace_of_what_is_done_backwards_is_none(clock: Clock) -> None:
    kept = Kept()

    def job() -> None:
        for _ in pyqik.each(enumerators.array(ITEMS)):
            clock.now += 1
            pyqik.progress.advance(-10)

    kept.run(job)

    assert pace_of(kept) == 0


def test_the_pace_does_not_count_the_time_between_runs(clock: Clock) -> None:
    kept = Kept()
    for _ in range(10):
        kept.run(working(clock, 1000, 0.1), stop_after=50)
        clock.now += 10_000

    assert pace_of(kept) == pytest.approx(10, rel=0.01)


def test_the_pace_of_a_run_that_goes_on_with_numbers_of_its_own(clock: Clock) -> None:
    kept = Kept()

    def job() -> None:
        pyqik.progress.note = "begun"
        for _ in pyqik.each(enumerators.array([0] * 1000)):
            clock.now += 0.1
            pyqik.progress.advance(1000)

    for _ in range(4):
        kept.run(job, stop_after=50)
        clock.now += 10_000

    assert pace_of(kept) == pytest.approx(10_000, rel=0.02)


def test_the_pace_does_not_count_what_was_done_before_it_was_first_used(clock: Clock) -> None:
    kept = Kept()

    def job() -> None:
        for item in pyqik.each(enumerators.array(list(range(2000)))):
            clock.now += 0.1
            if item >= 1000:
                pyqik.progress.total = 2000

    kept.run(job, stop_after=1020)

    assert pace_of(kept) == pytest.approx(10, rel=0.25)


def test_the_pace_does_not_count_what_was_done_already_when_the_job_began(clock: Clock) -> None:
    kept = Kept()

    def job() -> None:
        pyqik.progress.done, pyqik.progress.total = 5000, 10_000
        for _ in pyqik.each(enumerators.array([0] * 1000)):
            clock.now += 0.1
            pyqik.progress.advance()

    kept.run(job, stop_after=20)

    assert pace_of(kept) == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize(
    "value",
    [2**63, -(2**63), 10**400, 10**5000, 1e19],
    ids=["2**63", "-2**63", "10**400", "10**5000", "1e19"],  # Python refuses to write 10**5000 out.
)
def test_a_number_that_is_too_large_is_refused_at_once(clock: Clock, value: float) -> None:
    @pyqik.job("Huge")
    def job() -> None:
        for _ in pyqik.each(enumerators.array(ITEMS)):
            clock.now += 1
            with pytest.raises(TypeError):
                pyqik.progress.done = value
            with pytest.raises(TypeError):
                pyqik.progress.total = value

    run = testing.perform(job).or_raise()

    assert (run.progress.done, run.progress.total) == (5, None)


# Async code.


def test_async_jobs_await_it() -> None:
    @pyqik.job("Async::Progress")
    async def job() -> None:
        progress = await pyqik.aprogress()
        progress.total, progress.note = 5, "first"
        assert progress is pyqik.progress
        async for _ in pyqik.each(enumerators.array(ITEMS)):
            pyqik.progress.note = "later"
            assert (await pyqik.aprogress()).total == 5

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        said = testing.perform(job).or_raise().progress

    assert (said.done, said.total, said.note) == (5, 5, "later")


def test_wherever_an_async_job_is_interrupted_it_ends_the_same() -> None:
    @pyqik.job("Async::Progress")
    async def job() -> None:
        progress = await pyqik.aprogress()
        progress.total = 50
        async for _ in pyqik.each(enumerators.array(ITEMS)):
            progress.advance(10)

    for run in testing.every_interruption(job):
        assert (run.progress.done, run.progress.total) == (50, 50), run.story


USES: dict[str, Callable[[], object]] = {
    "done": lambda: pyqik.progress.done,
    "total": lambda: setattr(pyqik.progress, "total", 5),
    "note": lambda: setattr(pyqik.progress, "note", "x"),
    "advance": lambda: pyqik.progress.advance(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_the_form_that_blocks_warns_in_async_code(use: Callable[[], object]) -> None:
    @pyqik.job("Async::Progress")
    async def job() -> None:
        with pytest.warns(RuntimeWarning, match="blocks the event loop until Redis has answered"):
            use()
        use()  # It is there now: nothing blocks.

    testing.perform(job).or_raise()


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_the_warning_names_what_is_to_be_awaited(use: Callable[[], object]) -> None:
    @pyqik.job("Async::Progress")
    async def job() -> None:
        with pytest.warns(RuntimeWarning) as caught:
            use()
        assert "aprogress(" in str(caught[0].message)

    testing.perform(job).or_raise()


def test_json_has_numbers_as_they_were_said() -> None:
    kept = Kept()

    def job() -> None:
        pyqik.progress.done, pyqik.progress.total = 0.1, 10**18
        pyqik.checkpoint(1, flush=True)

    assert kept.run(job) is None
    fields = kept.state.beside[KEY]
    assert (json.loads(fields[b"done"]), json.loads(fields[b"total"])) == (0.1, 10**18)
