"""How `pyqik progress` draws what is known of a job: as a line, as a bar, as JSON."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from pyqik import progress_bar
from pyqik.jobs.progress import Progress
from pyqik.progress_bar import bar_of, json_of, line_of, show

JID = "b4a577edbccf1d805744efa9"

#: One of which all is known.
WHOLE = Progress(
    JID, 1234, 10_000, "writing the orders", 12, cursor=4711, executions=2, runtime=30.5, pace=45.0, updated_at=1.8e9
)


def progress(done: float = 0, total: float | None = None, **fields: Any) -> Progress:
    return Progress(JID, done, total, **fields)


# As a line.


def test_a_line_has_all_that_is_known() -> None:
    assert line_of(WHOLE) == (
        f"{JID}: 1,234 of 10,000 (12.3 %), 45 a second, 4 min left, 12 failed rows: writing the orders"
    )


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (progress(), "0 done"),
        (progress(1234), "1,234 done"),
        (progress(5, 0), "5 of 0"),
        (progress(0, 3), "0 of 3 (0.0 %)"),
        (progress(3, 3), "3 of 3 (100 %)"),
        (progress(5, 3), "5 of 3 (100 %)"),
        (progress(99_999_999, 100_000_000), "99,999,999 of 100,000,000 (99.9 %)"),
        (progress(-5, 10), "-5 of 10 (0.0 %)"),
        (progress(0.1 + 0.2, 2.5), "0.3 of 2.5 (12.0 %)"),
        (progress(1234567.25), "1,234,567.25 done"),
        (progress(1e300), "1e+300 done"),
        (progress(5, failed_rows=1), "5 done, 1 failed row"),
        (progress(5, failed_rows=1234), "5 done, 1,234 failed rows"),
        (progress(5, failed_rows=-1), "5 done"),
        (progress(5, note="counting"), "5 done: counting"),
        (progress(5, pace=2.0), "5 done, 2 a second"),
        (progress(5, pace=-2.0), "5 done"),
        (progress(3, 3, pace=9.0, ended_at=1.8e9), "3 of 3 (100 %), ended"),
        (progress(2, 3, pace=9.0, ended_at=1.8e9, failed_rows=2), "2 of 3 (66.7 %), ended, 2 failed rows"),
        (progress(0, ended_at=1.8e9), "0 done, ended"),
        # In Ruby.
        (progress(cursor=4711), "at the cursor 4711"),
        (progress(cursor={"id": ["ü", "\x1b[2J"]}), r'at the cursor {"id": ["\u00fc", "\u001b[2J"]}'),
        (progress(cursor="x" * 100), f'at the cursor "{"x" * 56}...'),
        (progress(7, cursor=4711), "7 done"),
    ],
)
def test_a_line_leaves_out_what_is_not_known(found: Progress, line: str) -> None:
    assert line_of(found) == f"{JID}: {line}"


@pytest.mark.parametrize(
    ("pace", "text"),
    [
        (12345.6, "12,346 a second"),
        (45.4, "45 a second"),
        (4.56, "4.6 a second"),
        (1.0, "1 a second"),
        (0.5, "30 a minute"),
        (0.02, "1.2 a minute"),
        (1 / 1800, "2 an hour"),
        (1e-6, "0.0036 an hour"),
        (1e300, "1e+300 a second"),
    ],
)
def test_a_pace_is_said_in_numbers_that_can_be_grasped(pace: float, text: str) -> None:
    assert line_of(progress(1, pace=pace)) == f"{JID}: 1 done, {text}"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s left"),
        (0.2, "1 s left"),
        (59, "59 s left"),
        (59.5, "1 min left"),
        (61, "2 min left"),
        (180, "3 min left"),
        (3600, "1 h left"),
        (3601, "1 h 1 min left"),
        (7500, "2 h 5 min left"),
        (86_400, "1 day left"),
        (100_000, "1 day 3 h left"),
        (86_400 * 1500, "1,500 days left"),
    ],
)
def test_what_is_left_is_said_in_numbers_that_can_be_grasped(seconds: float, text: str) -> None:
    assert line_of(progress(0, float(seconds), pace=1.0)).endswith(f"1 a second, {text}")


def test_what_would_take_for_ever_is_no_estimate() -> None:
    assert line_of(progress(0, 1e300, pace=1e-300)).endswith("an hour")
    assert json.loads(json_of(progress(0, 1e300, pace=1e-300)))["eta"] is None


@pytest.mark.parametrize(
    ("note", "shown"),
    [
        ("größe 日本 😀", "größe 日本 😀"),
        ("\x1b[2J\x1b]0;title\x07", "?[2J?]0;title?"),
        ("one\r\ntwo\tthree\x0b\x0c\x85\u2028four", "one  two three    four"),
        ("\x00\x08\x7f\x9b31m", "????31m"),
        ("turned \u202eabout\u202c", "turned ?about?"),
        ("\ud800 \ufeff", "? ?"),
    ],
)
def test_a_note_cannot_command_the_terminal(note: str, shown: str) -> None:
    assert line_of(progress(1, note=note)) == f"{JID}: 1 done: {shown}"
    assert bar_of(progress(1, note=note), 80).rstrip() == f"1 done: {shown}"


def test_neither_can_anything_else() -> None:
    for number in range(0x3000):
        found = Progress(chr(number), 1, note=chr(number), cursor=chr(number))
        for text in (line_of(found), bar_of(found, 80), json_of(found)):
            assert text.isprintable(), hex(number)


# As a bar.


@pytest.mark.parametrize(
    ("done", "bar"),
    [
        (0, "[..........]   0 % 0 of 1,000"),
        (99, "[..........]  10 % 99 of 1,000"),
        (520, "[#####.....]  52 % 520 of 1,000"),
        (999.9, "[#########.]  99 % 999.9 of 1,000"),
        (1000, "[##########] 100 % 1,000 of 1,000"),
        (2000, "[##########] 100 % 2,000 of 1,000"),
        (-1, "[..........]   0 % -1 of 1,000"),
    ],
)
def test_a_bar_is_as_full_as_the_job_is_done(done: float, bar: str) -> None:
    assert bar_of(progress(done, 1000), 32) == bar.ljust(32)[:32]


def test_a_bar_has_all_that_is_known() -> None:
    assert bar_of(WHOLE, 140).rstrip() == (
        f"[###{'.' * 27}]  12 % 1,234 of 10,000, 45 a second, 4 min left, 12 failed rows: writing the orders"
    )


def test_without_a_total_there_is_no_bar() -> None:
    assert bar_of(progress(1234, note="counting"), 40) == "1,234 done: counting".ljust(40)


@pytest.mark.parametrize("width", [0, 1, 5, 20, 79, 200])
def test_a_bar_is_as_wide_as_it_is_to_be(width: int) -> None:
    assert len(bar_of(WHOLE, width)) == width


def test_letters_that_are_two_columns_wide_count_as_such() -> None:
    assert bar_of(progress(1, note="日本語"), 12) == "1 done: 日本"
    assert bar_of(progress(1, note="日本語"), 13) == "1 done: 日本 "
    assert bar_of(progress(1, note="e\u0301e\u0301"), 11) == "1 done: e\u0301e\u0301 "


# As JSON.


def test_json_has_the_fields_and_what_follows_from_them() -> None:
    assert json.loads(json_of(WHOLE)) == {
        "jid": JID,
        "done": 1234,
        "total": 10_000,
        "note": "writing the orders",
        "failed_rows": 12,
        "cursor": 4711,
        "executions": 2,
        "runtime": 30.5,
        "pace": 45.0,
        "updated_at": 1.8e9,
        "ended_at": None,
        "percent": pytest.approx(12.34),
        "eta": pytest.approx(194.8, abs=0.1),
    }


def test_json_is_one_line_of_printable_letters() -> None:
    text = json_of(progress(1, note="two\nlines \x1b ü", cursor=["\x1b", {"ü": "\n"}]))

    assert text.isprintable()
    assert text.isascii()
    assert json.loads(text)["note"] == "two\nlines \x1b ü"
    assert json.loads(text)["cursor"] == ["\x1b", {"ü": "\n"}]


@pytest.mark.parametrize("cursor", [math.nan, [math.inf], {"a": -math.inf}])
def test_a_cursor_that_json_does_not_hold_is_null(cursor: Any) -> None:
    assert json.loads(json_of(progress(3, cursor=cursor)))["cursor"] is None


# Shown.


class Terminal(io.StringIO):
    """What was written to a terminal."""

    def isatty(self) -> bool:
        return True


class Source:
    """Says one after another of what it was given, and then raises."""

    def __init__(self, *found: Progress | None) -> None:
        self._found = iter(found)

    def __call__(self) -> Progress | None:
        return next(self._found)


@pytest.fixture(autouse=True)
def nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_bar, "INTERVAL", 0.0)


ENDED = progress(3, 3, updated_at=3.0, ended_at=3.0)


@pytest.mark.parametrize("out", [io.StringIO, Terminal], ids=["pipe", "terminal"])
@pytest.mark.parametrize("as_json", [False, True])
def test_it_is_shown_once(out: Callable[[], io.StringIO], as_json: bool) -> None:
    written = out()

    assert show(Source(WHOLE), written, as_json=as_json) == WHOLE

    assert written.getvalue() == (json_of(WHOLE) if as_json else line_of(WHOLE)) + "\n"


@pytest.mark.parametrize("out", [io.StringIO, Terminal], ids=["pipe", "terminal"])
@pytest.mark.parametrize("follow", [False, True])
def test_of_nothing_nothing_is_shown(out: Callable[[], io.StringIO], follow: bool) -> None:
    written = out()

    assert show(Source(None), written, follow=follow) is None

    assert written.getvalue() == ""


@pytest.mark.parametrize(
    "changed",
    [
        progress(2, 3, updated_at=1.0),
        progress(1, 3, updated_at=2.0),
        progress(1, 3, updated_at=1.0, note="new"),
        progress(1, 4, updated_at=1.0),
        progress(1, 3, updated_at=1.0, failed_rows=1),
    ],
    ids=["done", "updated_at", "note", "total", "failed_rows"],
)
def test_it_is_followed_change_by_change_to_the_end(changed: Progress) -> None:
    first = progress(1, 3, updated_at=1.0)
    written = io.StringIO()

    last = show(Source(first, first, first, changed, changed, ENDED), written, follow=True)

    assert last == ENDED
    assert written.getvalue().splitlines() == [line_of(first), line_of(changed), line_of(ENDED)]


def test_json_is_followed_object_by_object_on_a_terminal_too() -> None:
    written = Terminal()

    show(Source(WHOLE, WHOLE, ENDED), written, follow=True, as_json=True)

    assert [json.loads(line)["done"] for line in written.getvalue().splitlines()] == [1234, 3]
    assert "\r" not in written.getvalue()


def test_it_is_followed_until_nothing_is_known_any_more() -> None:
    written = io.StringIO()

    assert show(Source(WHOLE, None), written, follow=True) == WHOLE

    assert written.getvalue() == line_of(WHOLE) + "\n"


def test_on_a_terminal_one_line_is_drawn_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    written = Terminal()

    show(Source(WHOLE, WHOLE, progress(2, note="short"), None), written, follow=True)

    expected = [bar_of(WHOLE, 59), bar_of(WHOLE, 59), bar_of(progress(2, note="short"), 59)]
    assert written.getvalue() == "".join(f"\r{bar}" for bar in expected) + "\n"


@pytest.mark.parametrize("out", [io.StringIO, Terminal], ids=["pipe", "terminal"])
def test_a_line_that_was_begun_is_ended_whatever_happens(out: Callable[[], io.StringIO]) -> None:
    written = out()
    found = iter([WHOLE])

    def read() -> Progress:
        for each in found:
            return each
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        show(read, written, follow=True)

    assert written.getvalue().endswith("\n")
    assert written.getvalue().count("\n") == 1


@pytest.mark.parametrize(("encoding", "note"), [("ascii", "gr??e ?"), ("latin-1", "größe ?"), ("utf-8", "größe 日")])
def test_letters_that_the_stream_does_not_hold_are_replaced(encoding: str, note: str) -> None:
    raw = io.BytesIO()
    written = io.TextIOWrapper(raw, encoding=encoding)

    show(Source(progress(1, note="größe 日")), written)

    assert raw.getvalue().decode(encoding) == f"{JID}: 1 done: {note}\n"
    written.detach()
