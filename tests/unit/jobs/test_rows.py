"""`pyqik.rows`: which rows have failed, and why, is the same wherever the job is interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pyqik
from pyqik import enumerators, testing
from pyqik.core.errors import InvalidCursor, Kill, PyqikError
from pyqik.jobs.failed_rows import Entry, FailedRows, RowError, RowMessage, block_of
from tests.unit.jobs.kept import Kept

JID = "a" * 24

#: Its rows have the numbers 2, 4 (there is a blank line before it), 5 (of two lines), 6 and 7.
PEOPLE = b'id,name\n1,Ada\n\n2,\n3,"C\nY"\nx,\n5,Ed\n'

LEDGER = [
    RowError(4, (RowMessage("must not be empty", "name"),)),
    RowError(6, (RowMessage("is no number", "id"), RowMessage("must not be empty", "name"), RowMessage("is odd"))),
]
FAILED_CSV = b"id,name,errors\n2,,name: must not be empty\nx,,id: is no number; name: must not be empty; is odd\n"


@pytest.fixture
def people(tmp_path: Path) -> str:
    path = tmp_path / "people.csv"
    path.write_bytes(PEOPLE)
    return str(path)


def file_of(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "rows.csv"
    path.write_bytes(data)
    return str(path)


def judge(row: Any, rows: pyqik.Rows) -> None:
    if not row["id"].isdigit():
        rows.fail("is no number", field="id")
    if not row["name"]:
        rows.fail("must not be empty", field="name")
    if row["id"] == "x":
        rows.fail("is odd")


@pyqik.job("People::Import")
def import_people(path: str) -> None:
    rows = pyqik.rows()
    for row in pyqik.each(enumerators.csv_rows(path)):
        judge(row, rows)


@pyqik.job("People::ImportSafely")
def import_safely(path: str) -> None:
    rows = pyqik.rows()
    for row in pyqik.each(enumerators.csv_rows(path), flush_interval=0):
        judge(row, rows)


@pyqik.job("People::ImportLate")
def ask_for_rows_when_one_fails(path: str) -> None:
    for row in pyqik.each(enumerators.csv_rows(path)):
        if row["id"] in ("2", "x"):
            judge(row, pyqik.rows())


@pyqik.job("People::ImportAsync")
async def import_async(path: str) -> None:
    rows = await pyqik.arows()
    async for row in pyqik.each(enumerators.csv_rows(path)):
        judge(row, rows)


class ImportByClass(pyqik.IterableJob, name="People::ImportByClass"):
    def build_enumerator(self, path: str, *, cursor: int | None) -> Any:
        return enumerators.csv_rows(path)

    def each_iteration(self, row: Any, path: str) -> None:
        judge(row, pyqik.rows())


class ImportByAsyncClass(pyqik.IterableJob, name="People::ImportByAsyncClass"):
    def build_enumerator(self, path: str, *, cursor: int | None) -> Any:
        return enumerators.csv_rows(path)

    async def each_iteration(self, row: Any, path: str) -> None:
        judge(row, await pyqik.arows())


IMPORTS: list[testing.Performable] = [
    import_people,
    import_safely,
    import_async,
    ImportByClass,
    ImportByAsyncClass,
]


def ledger(run: testing.Run) -> tuple[list[RowError], bytes, int, int]:
    """All that is known of the rows."""
    rows = run.rows
    return rows.errors(), rows.failed_csv().read(), rows.failed_count, rows.done_count


def failing(data: bytes, tmp_path: Path, which: Callable[[Any], bool], **options: Any) -> list[int]:
    """The numbers of the rows that fail."""
    path = file_of(tmp_path, data)

    @pyqik.job("Failing")
    def job() -> None:
        rows = pyqik.rows()
        for row in pyqik.each(enumerators.csv_rows(path, **options)):
            if which(row):
                rows.fail("bad")

    return [error.row for error in testing.perform(job).or_raise().rows.errors()]


# What is kept, and how it is counted.


@pytest.mark.parametrize("job", [*IMPORTS, ask_for_rows_when_one_fails], ids=testing.performing.name_of)
def test_failed_rows_are_kept_with_their_messages_in_order(job: testing.Performable, people: str) -> None:
    run = testing.perform(job, people).or_raise()

    assert run.completed
    assert ledger(run) == (LEDGER, FAILED_CSV, 2, 3)


@pytest.mark.parametrize("job", [*IMPORTS, ask_for_rows_when_one_fails], ids=testing.performing.name_of)
def test_wherever_it_is_interrupted_the_ledger_is_the_same(job: testing.Performable, people: str) -> None:
    stories = 0
    for run in testing.every_interruption(job, people):
        stories += 1
        assert ledger(run)[:3] == (LEDGER, FAILED_CSV, 2), run.story
        if job is not ask_for_rows_when_one_fails:  # Nobody counted before it asked.
            assert run.rows.done_count == 3, run.story
    assert stories > 10


async def interrupted_async(people: str) -> int:
    stories = 0
    async for run in testing.aevery_interruption(import_async, people):
        stories += 1
        assert ledger(run) == (LEDGER, FAILED_CSV, 2, 3), run.story
    return stories


def test_the_ledger_is_the_same_for_async_tests(people: str) -> None:
    assert asyncio.run(interrupted_async(people)) > 10


def test_what_an_interrupted_run_has_done_is_counted(people: str) -> None:
    run = testing.perform(import_people, people, interrupt_after=3)
    assert run.interrupted
    assert ledger(run) == (LEDGER[:1], FAILED_CSV.splitlines(keepends=True)[0] + b"2,,name: must not be empty\n", 1, 2)

    run = run.again(interrupt_after=1)
    assert (run.rows.failed_count, run.rows.done_count) == (2, 2)

    run = run.again()
    assert run.completed
    assert ledger(run) == (LEDGER, FAILED_CSV, 2, 3)


def test_several_messages_stand_in_their_order_over_several_calls(tmp_path: Path) -> None:
    path = file_of(tmp_path, b"a\n1\n2\n")

    @pyqik.job("Several")
    def job() -> None:
        rows = pyqik.rows()
        for _ in pyqik.each(enumerators.csv_rows(path)):
            rows.fail("one", "two", field="a")
            rows.fail("three")
            rows.fail("", "five", field="")

    for run in testing.every_interruption(job):
        for error in run.rows.errors():
            assert error.messages == (("one", "a"), ("two", "a"), ("three", None), ("", ""), ("five", "")), run.story
        assert (run.rows.failed_count, run.rows.done_count) == (2, 0), run.story
        csv = b"a,errors\n1,a: one; a: two; three; : ; : five\n2,a: one; a: two; three; : ; : five\n"
        assert run.rows.failed_csv().read() == csv, run.story


def test_a_message_knows_its_text_and_its_field(people: str) -> None:
    messages = testing.perform(import_people, people).rows.errors()[1].messages
    assert [(each.text, each.field, str(each)) for each in messages] == [
        ("is no number", "id", "id: is no number"),
        ("must not be empty", "name", "name: must not be empty"),
        ("is odd", None, "is odd"),
    ]


@pytest.mark.parametrize(
    ("data", "options", "numbers"),
    [
        (b"a\nx\ny\nx\n", {}, [2, 4]),
        (b"x\ny\nx\n", {"headers": False}, [1, 3]),
        (b"x\ny\nx\n", {"headers": ["a"]}, [1, 3]),
        (b"a\n\n\nx\n\nx\n", {}, [4, 6]),
        (b"\n\nx\n", {"headers": False}, [3]),
        (b'a,b\n1,"\n\n"\nx,"\r\n"\n1,2\nx,\n', {}, [3, 5]),
        (b'"a\nb"\nx\n1\nx', {}, [2, 4]),
        (b"\xef\xbb\xbfa\nx\n", {}, [2]),
        ("a\n\nx\n".encode("utf-16"), {"encoding": "utf-16"}, [3]),
        (b"a\r\rx\r", {}, [3]),
        (b"a\r\n\r\nx\r\n", {}, [3]),
    ],
)
def test_the_number_is_that_of_a_spreadsheet(
    data: bytes, options: dict[str, Any], numbers: list[int], tmp_path: Path
) -> None:
    def which(row: Any) -> bool:
        return "x" in (row if isinstance(row, list) else row.values())

    assert failing(data, tmp_path, which, **options) == numbers


def test_the_numbers_do_not_depend_on_where_it_was_interrupted(tmp_path: Path) -> None:
    path = file_of(tmp_path, b'1\n\nx\n\n\n"2\n\n"\nx\nx\n\n3\nx')

    @pyqik.job("Numbers")
    def job() -> None:
        rows = pyqik.rows()
        for row in pyqik.each(enumerators.csv_rows(path, headers=False)):
            if row == ["x"]:
                rows.fail("bad")

    for run in testing.every_interruption(job):
        assert [error.row for error in run.rows.errors()] == [3, 7, 8, 11], run.story
        assert run.rows.failed_csv().read() == b"x,bad\n" * 4, run.story
        assert run.rows.done_count == 3, run.story


def test_many_rows_are_written_in_blocks_before_the_next_write_is_due(tmp_path: Path) -> None:
    path = file_of(tmp_path, b"a\n" + b"".join(b"%d\n" % n for n in range(2500)))

    @pyqik.job("Many")
    def job() -> None:
        rows = pyqik.rows()
        for row in pyqik.each(enumerators.csv_rows(path)):
            rows.fail(f"bad {row['a']}")

    run = testing.perform(job, crash_after=2400)
    assert run.crashed
    assert run.rows.failed_count >= 1000
    assert run.rows.done_count == 0

    run = run.again()
    assert run.completed
    assert run.rows.errors() == [RowError(n + 2, (RowMessage(f"bad {n}"),)) for n in range(2500)]
    assert (run.rows.failed_count, run.rows.done_count) == (2500, 0)


def test_two_files_are_counted_together(tmp_path: Path) -> None:
    path = file_of(tmp_path, b"a\n1\n2\n3\n4\n5\n")

    @pyqik.job("Two")
    def job() -> None:
        rows = pyqik.rows()
        for row in pyqik.each(enumerators.csv_rows(path), name="evens"):
            if row["a"] in "24":
                rows.fail("even")
        for values in pyqik.each(enumerators.csv_rows(path, headers=False), name="ones"):
            if values == ["1"]:
                rows.fail("one")

    for run in testing.every_interruption(job):
        assert [error.row for error in run.rows.errors()] == [2, 3, 5], run.story
        assert (run.rows.failed_count, run.rows.done_count) == (3, 8), run.story


def test_rows_of_a_loop_in_a_step_are_counted(people: str) -> None:
    @pyqik.job("Steps")
    def job() -> None:
        rows = pyqik.rows()
        with pyqik.step("import"):
            for row in pyqik.each(enumerators.csv_rows(people)):
                judge(row, rows)
        with pyqik.step("tidy up"):
            assert (rows.failed_count, rows.done_count) == (2, 3)

    for run in testing.every_interruption(job):
        assert ledger(run) == (LEDGER, FAILED_CSV, 2, 3), run.story


def test_the_innermost_file_is_meant(tmp_path: Path) -> None:
    outer, inner = tmp_path / "outer.csv", tmp_path / "inner.csv"
    outer.write_bytes(b"a\n1\n")
    inner.write_bytes(b"\n\nx\n")

    @pyqik.job("Nested")
    def job() -> None:
        rows = pyqik.rows()
        for _ in pyqik.each(enumerators.csv_rows(outer), name="outer"):
            for _ in pyqik.each(enumerators.csv_rows(inner, headers=False), name="inner"):
                rows.fail("inner")
            rows.fail("outer")

    assert testing.perform(job).or_raise().rows.errors() == [
        RowError(2, (RowMessage("outer"),)),
        RowError(3, (RowMessage("inner"),)),
    ]


# What a job sees while it runs.


def test_the_job_sees_what_has_failed_up_to_now(people: str) -> None:
    seen: list[tuple[int, int, list[int], str]] = []

    @pyqik.job("Sees")
    def job() -> None:
        rows = pyqik.rows()
        for row in pyqik.each(enumerators.csv_rows(people)):
            judge(row, rows)
            numbers = [error.row for error in rows.errors()]
            assert numbers == [number for number in range(10) if number in rows]
            seen.append((rows.failed_count, rows.done_count, numbers, repr(rows)))

    expected = [
        (0, 0, [], "<rows: 0 done, 0 failed>"),
        (1, 1, [4], "<rows: 1 done, 1 failed>"),
        (1, 1, [4], "<rows: 1 done, 1 failed>"),
        (2, 2, [4, 6], "<rows: 2 done, 2 failed>"),
        (2, 2, [4, 6], "<rows: 2 done, 2 failed>"),
    ]
    testing.perform(job).or_raise()
    assert seen == expected

    for run in testing.every_interruption(job, before=seen.clear):
        if "killed" not in run.story:
            assert seen == expected, run.story
        assert [each for each in expected if each not in seen] == [], run.story


def test_the_failed_rows_can_be_sent_back_at_the_end_of_the_job(people: str) -> None:
    sent: list[bytes] = []

    @pyqik.job("Sends")
    def job() -> None:
        rows = pyqik.rows()
        for row in pyqik.each(enumerators.csv_rows(people)):
            judge(row, rows)
        assert (rows.failed_count, rows.done_count, rows.errors()) == (2, 3, LEDGER)
        assert list(rows.failed_csv(column="why")) == FAILED_CSV.replace(b"errors", b"why").splitlines(keepends=True)
        sent.append(rows.failed_csv().read())

    for run in testing.every_interruption(job, before=sent.clear):
        assert sent[-1] == FAILED_CSV, run.story


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 99, None])
def test_errors_are_those_of_the_first_rows(limit: int | None) -> None:
    @pyqik.job("Limited")
    def job() -> None:
        rows = pyqik.rows()
        for number in (9, 2, 5, 2):
            rows.fail(f"bad {number}", row=number)
            pyqik.raise_if_stopping()
        check(rows.errors(limit))

    def check(errors: list[RowError]) -> None:
        two = RowError(2, (RowMessage("bad 2"), RowMessage("bad 2")))
        assert errors == [two, RowError(5, (RowMessage("bad 5"),)), RowError(9, (RowMessage("bad 9"),))][:limit]

    check(testing.perform(job).or_raise().rows.errors(limit))


def test_rows_is_one_and_the_same_wherever_it_is_asked_for(tmp_path: Path) -> None:
    path = file_of(tmp_path, b"a\n1\n")

    @pyqik.job("Same")
    def job() -> None:
        for _ in pyqik.each(enumerators.csv_rows(path)):
            pyqik.rows().fail("bad")
            assert 2 in pyqik.rows()
        assert (pyqik.rows().failed_count, pyqik.rows().done_count) == (1, 0)

    assert testing.perform(job).or_raise().rows.errors() == [RowError(2, (RowMessage("bad"),))]


def test_a_file_without_rows_has_none_that_failed(tmp_path: Path) -> None:
    path = file_of(tmp_path, b"id,name\n")
    run = testing.perform(import_people, path).or_raise()
    assert (run.rows.errors(), run.rows.failed_count, run.rows.done_count) == ([], 0, 0)


def test_a_job_that_never_asks_has_none(people: str) -> None:
    @pyqik.job("Never")
    def job() -> None:
        for _ in pyqik.each(enumerators.csv_rows(people)):
            pass

    rows = testing.perform(job).or_raise().rows
    assert (rows.errors(), rows.failed_count, rows.done_count) == ([], 0, 0)
    assert rows.failed_csv().read() == b"row,errors\n"


# Loops of one's own.


def own_loop(effects: list[int]) -> testing.Performable:
    @pyqik.job("Own")
    def own(numbers: list[int]) -> None:
        rows = pyqik.rows()
        for number in numbers:
            if number in rows:
                continue
            effects.append(number)
            if number % 3 == 0:
                rows.fail(f"divisible: {number}", row=number)
                rows.fail("by three", row=number)
            else:
                rows.done(number)
            assert number in rows
            pyqik.raise_if_stopping()

    return own


@pytest.mark.parametrize("numbers", [[1, 2, 3, 4, 5, 6], [6, -3, 10**12, 4, 4096, 4095, 0, 2**62]])
def test_the_rows_of_a_loop_of_ones_own_are_known_wherever_it_is_interrupted(numbers: list[int]) -> None:
    effects: list[int] = []
    bad = sorted(number for number in numbers if number % 3 == 0)
    expected = [RowError(n, (RowMessage(f"divisible: {n}"), RowMessage("by three"))) for n in bad]
    lines = [f"{n},divisible: {n}; by three\n" for n in bad]
    for run in testing.every_interruption(own_loop(effects), numbers, before=effects.clear):
        counts = (len(bad), len(numbers) - len(bad))
        csv = "".join(["row,errors\n", *lines]).encode()
        assert ledger(run) == (expected, csv, *counts), run.story
        assert set(effects) == set(numbers), run.story


def test_what_was_said_after_the_last_boundary_counts_when_the_job_is_done() -> None:
    @pyqik.job("Last")
    def job() -> None:
        rows = pyqik.rows()
        rows.fail("bad", row=1)
        rows.done(2)
        rows.done(2)
        assert (1 in rows, 2 in rows, 3 in rows) == (True, True, False)
        assert (rows.failed_count, rows.done_count) == (1, 1)

    run = testing.perform(job).or_raise()
    assert ledger(run) == ([RowError(1, (RowMessage("bad"),))], b"row,errors\n1,bad\n", 1, 1)


def test_an_explicit_row_beside_those_of_a_file_has_its_number_in_the_first_column(people: str) -> None:
    @pyqik.job("Beside")
    def job() -> None:
        rows = pyqik.rows()
        for row in pyqik.each(enumerators.csv_rows(people)):
            judge(row, rows)
        rows.fail("was expected", row=100)

    for run in testing.every_interruption(job):
        assert run.rows.failed_csv().read() == FAILED_CSV + b"100,,was expected\n", run.story
        assert (run.rows.failed_count, run.rows.done_count) == (3, 3), run.story


@pytest.mark.parametrize("row", [None, "1", 1.5, b"1", (1,), False])
def test_what_is_no_number_is_in_no_rows(row: Any) -> None:
    @pyqik.job("In")
    def job() -> None:
        rows = pyqik.rows()
        rows.fail("bad", row=1)
        rows.done(2)
        pyqik.raise_if_stopping()
        rows.errors()
        assert 1 in rows
        assert row not in rows

    testing.perform(job).or_raise()


# Rows whose processing fails.


def test_a_row_that_raises_after_it_failed_has_its_messages_once(people: str) -> None:
    raised: list[int] = []

    @pyqik.job("Raises", retry=5)
    def job() -> None:
        rows = pyqik.rows()
        for row in pyqik.each(enumerators.csv_rows(people)):
            judge(row, rows)
            if row["id"] == "x" and len(raised) < 3:
                raised.append(1)
                raise ConnectionError

    run = testing.perform(job)
    for _ in range(2):
        assert run.place == "retry"
        assert ledger(run)[0] == LEDGER[:1]
        assert (run.rows.failed_count, run.rows.done_count) == (1, 2)
        run = run.again()
    run = run.again()

    assert run.completed
    assert ledger(run) == (LEDGER, FAILED_CSV, 2, 3)


def test_what_is_said_anew_of_a_row_counts(tmp_path: Path) -> None:
    path = file_of(tmp_path, b"a\n1\n2\n")
    tries: list[str] = []

    @pyqik.job("Anew")
    def job() -> None:
        rows = pyqik.rows()
        for row in pyqik.each(enumerators.csv_rows(path)):
            if row["a"] == "2":
                tries.append(row["a"])
                if len(tries) == 1:
                    rows.fail("first try")
                    raise ConnectionError

    run = testing.perform(job)
    assert run.rows.errors() == []
    run = run.again()
    assert run.completed
    assert (run.rows.failed_count, run.rows.done_count) == (0, 2)


def test_an_exception_that_is_caught_around_a_row_keeps_its_messages(people: str) -> None:
    @pyqik.job("Catches")
    def job() -> None:
        rows = pyqik.rows()
        for row in pyqik.each(enumerators.csv_rows(people)):
            try:
                judge(row, rows)
                int(row["id"])
            except ValueError as error:
                rows.fail(type(error).__name__)

    for run in testing.every_interruption(job):
        assert run.rows.errors() == [
            LEDGER[0],
            RowError(6, (*LEDGER[1].messages, RowMessage("ValueError"))),
        ], run.story
        assert (run.rows.failed_count, run.rows.done_count) == (2, 3), run.story


def test_rows_of_a_job_that_goes_to_the_dead_set_remain_known(people: str) -> None:
    @pyqik.job("Dies")
    def job() -> None:
        rows = pyqik.rows()
        for row in pyqik.each(enumerators.csv_rows(people)):
            judge(row, rows)
            if row["id"] == "x":
                raise Kill("enough")

    run = testing.perform(job)
    assert run.place == "dead"
    assert ledger(run)[0] == LEDGER[:1]


def test_a_cancelled_job_keeps_its_failed_rows(people: str) -> None:
    run = testing.perform(import_people, people, interrupt_after=2)
    run.cancel()
    run = run.again()
    assert run.cancelled
    assert run.rows.errors() == LEDGER[:1]


# The limit.


def limited(path: str, limit: list[int]) -> testing.Performable:
    @pyqik.job("Limit")
    def job() -> None:
        rows = pyqik.rows(limit=limit[0])
        for row in pyqik.each(enumerators.csv_rows(path), flush_interval=0):
            if row["a"] != "0":
                rows.fail("bad", "worse")
                rows.fail("worst")

    return job


def test_a_job_with_too_many_failed_rows_goes_to_the_dead_set(tmp_path: Path) -> None:
    path = file_of(tmp_path, b"a\n1\n0\n1\n1\n0\n")
    limit = [2]
    run = testing.perform(limited(path, limit))

    assert run.place == "dead"
    assert isinstance(run.error, Kill)
    assert "more than 2 rows have failed" in str(run.error)
    assert [error.row for error in run.rows.errors()] == [2, 4]
    assert (run.rows.failed_count, run.rows.done_count) == (2, 1)
    assert run.rows.failed_csv().read() == b"a,errors\n1,bad; worse; worst\n1,bad; worse; worst\n"

    again = run.again()
    assert again.place == "dead"
    assert ledger(again) == ledger(run)

    limit[0] = 3
    again = again.again()
    assert again.completed
    assert [error.row for error in again.rows.errors()] == [2, 4, 5]
    assert (again.rows.failed_count, again.rows.done_count) == (3, 2)


def test_as_many_rows_as_the_limit_may_fail(tmp_path: Path) -> None:
    path = file_of(tmp_path, b"a\n1\n0\n1\n")
    assert testing.perform(limited(path, [2])).completed


def test_the_limit_counts_those_of_earlier_runs(tmp_path: Path) -> None:
    path = file_of(tmp_path, b"a\n1\n1\n1\n")
    run = testing.perform(limited(path, [2]), interrupt_after=2)
    assert run.interrupted
    run = run.again()
    assert run.place == "dead"
    assert run.rows.failed_count == 2


# What is refused.


def unknown() -> Iterator[Any]:
    yield enumerators.array([1])
    yield lambda cursor: iter([(1, 1)])


@pytest.mark.parametrize("source", list(unknown()), ids=["array", "generator"])
def test_without_a_row_of_a_file_the_number_must_be_given(source: Any) -> None:
    @pyqik.job("Unknown")
    def job() -> None:
        rows = pyqik.rows()
        for _ in pyqik.each(source):
            with pytest.raises(PyqikError, match=r"which row has failed is not known.* write rows.fail\(..., row="):
                rows.fail("bad")
            assert rows.failed_count == 0
            rows.fail("bad", row=7)

    assert testing.perform(job).or_raise().rows.errors() == [RowError(7, (RowMessage("bad"),))]


def test_of_a_batch_the_row_is_not_known(people: str) -> None:
    @pyqik.job("Batches")
    def job() -> None:
        rows = pyqik.rows()
        for _ in pyqik.each(enumerators.csv_batches(people, size=2)):
            rows.fail("bad")

    run = testing.perform(job)
    assert isinstance(run.error, PyqikError)
    assert "which row has failed is not known" in str(run.error)
    assert run.rows.errors() == []


def test_outside_of_the_loop_the_row_is_not_known(people: str) -> None:
    @pyqik.job("Outside")
    def job() -> None:
        rows = pyqik.rows()
        with pytest.raises(PyqikError, match="which row has failed is not known"):
            rows.fail("before")
        for _ in pyqik.each(enumerators.csv_rows(people)):
            pass
        with pytest.raises(PyqikError, match="which row has failed is not known"):
            rows.fail("after")

    run = testing.perform(job).or_raise()
    assert (run.rows.failed_count, run.rows.done_count) == (0, 5)


def test_in_a_loop_over_something_else_after_the_file_the_row_is_not_known(people: str) -> None:
    @pyqik.job("After")
    def job() -> None:
        rows = pyqik.rows()
        for _ in pyqik.each(enumerators.csv_rows(people), name="file"):
            break
        for _ in pyqik.each(enumerators.array([1]), name="other"):
            rows.fail("bad")

    assert isinstance(testing.perform(job).error, PyqikError)


@pytest.mark.parametrize("messages", [(), (1,), (None,), (b"bad",), (["bad"],), ("bad", ValueError("bad"))])
def test_what_is_no_message_is_refused(messages: tuple[Any, ...], people: str) -> None:
    @pyqik.job("NoMessage")
    def job() -> None:
        rows = pyqik.rows()
        for _ in pyqik.each(enumerators.csv_rows(people)):
            with pytest.raises(TypeError, match="write what is wrong with the row"):
                rows.fail(*messages)
        assert rows.failed_count == 0

    assert testing.perform(job).or_raise().rows.errors() == []


@pytest.mark.parametrize("row", ["1", 1.0, True, b"1", (1,)])
def test_what_is_no_number_of_a_row_is_refused(row: Any) -> None:
    @pyqik.job("NoNumber")
    def job() -> None:
        rows = pyqik.rows()
        with pytest.raises(TypeError, match="write the number of the row"):
            rows.fail("bad", row=row)
        with pytest.raises(TypeError, match="write the number of the row"):
            rows.done(row)
        assert (rows.failed_count, rows.done_count) == (0, 0)

    assert testing.perform(job).or_raise().rows.errors() == []


def test_done_needs_a_number() -> None:
    rows: Any = pyqik.rows()
    with pytest.raises(TypeError, match="write the number of the row"):
        rows.done(None)


def test_the_form_that_blocks_warns_in_async_code() -> None:
    @pyqik.job("Blocks")
    async def job() -> None:
        with pytest.warns(RuntimeWarning, match=r"rows blocks the event loop .* `await arows"):
            pyqik.rows()
        pyqik.rows().fail("bad", row=1)  # It is there now: nothing blocks.

    assert testing.perform(job).or_raise().rows.failed_count == 1


# What stands in Redis.


def test_rows_that_do_not_fail_cost_nothing(tmp_path: Path) -> None:
    path = file_of(tmp_path, b"id,name\n" + b"1,Ada\n" * 2000)
    run = testing.perform(import_people, path).or_raise()
    [(key, fields)] = run._state.beside.items()
    assert key.startswith("rows/")
    assert sum(map(len, fields.values())) < 100
    assert run.state == {}
    assert run.rows.done_count == 2000


def test_what_an_earlier_job_of_that_jid_has_left_does_not_count() -> None:
    kept = Kept()
    kept.state.beside[f"rows/{JID}"] = {b"f0": b"b\x80", b"d0": b"b\x01", b"gone": b"9", b"blocks": b"4"}
    kept.state.beside[f"errors/{JID}"] = {b"4": block_of([Entry(7, [("old", None)])])}

    def job() -> None:
        rows = pyqik.rows()
        assert (rows.failed_count, rows.done_count, 7 in rows, 0 in rows) == (0, 0, False, False)
        rows.fail("new", row=1)
        pyqik.checkpoint(1, flush=True)
        assert [error.row for error in rows.errors()] == [1]

    assert kept.run(job) is None
    read = FailedRows.read(kept.state.beside[f"rows/{JID}"], kept.state.beside[f"errors/{JID}"])
    assert read.errors() == [RowError(1, (RowMessage("new"),))]
    assert list(kept.state.beside[f"errors/{JID}"]) == [b"1"]


def test_a_job_without_failed_rows_removes_what_an_earlier_one_has_left() -> None:
    kept = Kept()
    kept.state.beside[f"errors/{JID}"] = {b"4": block_of([Entry(7, [("old", None)])])}

    def job() -> None:
        pyqik.rows()
        pyqik.checkpoint(1, flush=True)

    assert kept.run(job) is None
    assert f"errors/{JID}" not in kept.state.beside


@pytest.mark.parametrize(
    ("key", "fields"),
    [
        ("rows", {b"f0": b"rubbish"}),
        ("rows", {b"f0": b"a\xff\xff"}),
        ("rows", {b"d-1": b""}),
        ("rows", {b"form": b"rubbish"}),
        ("rows", {b"form": b"\xff"}),
        ("rows", {b"form": b"[]"}),
        ("rows", {b"form": b"{}"}),
        ("rows", {b"form": b'{"header": "", "mark": "", "end": "\\n", "encoding": "klingon"}'}),
        ("rows", {b"form": b'{"header": "", "mark": "", "end": "\\n", "encoding": 8}'}),
        ("rows", {b"form": b'{"header": "\\u20ac", "mark": "", "end": ""}'}),
        ("rows", {b"form": b'{"header": "", "mark": "", "end": "", "colour": "red"}'}),
        ("errors", {b"rubbish": block_of([])}),
    ],
)
def test_what_somebody_else_has_written_there_is_named(key: str, fields: dict[bytes, bytes]) -> None:
    full = f"{key}/{JID}"
    kept = Kept(beside=f'{{"{full}":604800}}', ex="1", c="null", rt="0")
    kept.state.beside[full] = fields

    error = kept.run(lambda: pyqik.rows().failed_csv())

    assert isinstance(error, InvalidCursor)
    assert full in str(error)
    assert "remove it" in str(error)


@pytest.mark.parametrize(
    ("rows", "blocks"),
    [
        ({b"form": b"rubbish"}, {}),
        ({b"form": b"\xff"}, {}),
        ({b"form": b"[]"}, {}),
        ({b"form": b'{"header": 1, "mark": "", "end": ""}'}, {}),
        ({}, {b"rubbish": block_of([])}),
        ({}, {b"": block_of([])}),
        ({}, {b"1": b"rubbish"}),
        ({}, {b"1": b""}),
        ({}, {b"1": block_of([Entry(1, [("a", None)])])[:-1]}),
    ],
)
def test_what_no_job_has_written_cannot_be_read(rows: dict[bytes, bytes], blocks: dict[bytes, bytes]) -> None:
    with pytest.raises(ValueError):
        FailedRows.read(rows, blocks)


def test_fields_that_mean_nothing_are_ignored() -> None:
    key = f"rows/{JID}"
    kept = Kept(beside=f'{{"{key}":604800}}', ex="1", c="null", rt="0")
    kept.state.beside[key] = {b"fx": b"1", b"": b"1", b"done": b"x", b"new": b"1"}
    assert kept.run(lambda: pyqik.rows().fail("bad", row=1)) is None


def test_blocks_are_read_in_the_order_in_which_they_were_written() -> None:
    blocks = {b"%d" % n: block_of([Entry(1, [(str(n), None)])]) for n in (10, 9, 1, 11)}
    read = FailedRows.read({b"done": b"5"}, blocks)
    assert read.errors() == [RowError(1, tuple(RowMessage(text) for text in ("1", "9", "10", "11")))]
    assert (read.failed_count, read.done_count) == (1, 5)


def test_nothing_is_nothing() -> None:
    read = FailedRows.read({}, {})
    assert (read.errors(), read.errors(5), read.failed_count, read.done_count) == ([], [], 0, 0)
