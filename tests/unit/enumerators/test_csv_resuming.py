"""CSV files that are opened in the middle, by cursor or by bookmark: the rest is the same, or the change is named."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyqik.core.errors import SourceChanged
from pyqik.enumerators import files, lines
from pyqik.enumerators.csv import csv_batches, csv_rows
from pyqik.jobs.source import Bookmarking, Source

#: In every encoding of the table below; those of the second line in the Unicode ones only.
CHARACTERS = "aé \t,;\"'\n\r\\0"
MORE_CHARACTERS = "\u0a00\u0d0a\u010a\u2028\x0b\x85😀\0"
ENCODINGS = ["utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"]


class Pipe(io.RawIOBase):
    """Bytes that can be read once, a few at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._data.readinto(memoryview(buffer)[:11])


KINDS: dict[str, Callable[[bytes], Any]] = {
    "bytes": io.BytesIO,
    "gzip": lambda data: io.BytesIO(gzip.compress(data)),
    "gzip of two members": lambda data: io.BytesIO(gzip.compress(data[:50]) + gzip.compress(data[50:])),
    "pipe": Pipe,
    "gzip through a pipe": lambda data: Pipe(gzip.compress(data)),
}


@dataclass
class Case:
    """A file, how it is read, and what is in it: the rows of a list, blank ones included."""

    data: bytes
    options: dict[str, Any]
    kind: str
    chunk: int
    rows: list[Any]

    def file(self) -> Any:
        return KINDS[self.kind](self.data)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    encoding = draw(st.sampled_from(ENCODINGS))
    characters = CHARACTERS + (MORE_CHARACTERS if encoding.startswith("utf") else "")
    fields = st.lists(st.text(characters, max_size=12), max_size=4)
    dialect: dict[str, Any] = draw(
        st.fixed_dictionaries(
            {"delimiter": st.sampled_from(",;\t"), "quotechar": st.sampled_from("\"'")},
            optional={"escapechar": st.just("\\")},
        )
    )
    dialect["doublequote"] = "escapechar" not in dialect
    text = io.StringIO(newline="")
    newline = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    # Python's writer quotes only what is in its own line end: else a carriage return would stand outside of quotes.
    quoting: Any = draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL])) if newline == "\r\n" else csv.QUOTE_ALL
    writer = csv.writer(text, quoting=quoting, lineterminator=newline, **dialect)
    writer.writerows([["n0", "n1"], *draw(st.lists(fields, max_size=25))])
    whole = text.getvalue()
    if draw(st.booleans()):
        whole = whole.removesuffix(newline)
    rows = list(csv.reader(io.StringIO(whole, newline=""), **dialect))
    headers = draw(st.booleans())
    expected = [named(row) if row else row for row in rows[1:]] if headers else rows
    options = {**dialect, "headers": headers, "encoding": encoding}
    kind = draw(st.sampled_from(list(KINDS)))
    return Case(whole.encode(encoding), options, kind, draw(st.sampled_from([1, 5, 40, 1000])), expected)


def named(row: list[str]) -> dict[Any, Any]:
    """As `csv.DictReader` names it."""
    return dict(zip_longest(["n0", "n1"], row[:2])) | ({None: row[2:]} if row[2:] else {})


@contextmanager
def small_blocks(chunk: int) -> Iterator[None]:
    """Files are read in pieces so small that a short one has many."""
    with (
        mock.patch.object(files, "HEAD_SIZE", 64),
        mock.patch.object(files, "CHUNK_SIZE", chunk),
        mock.patch.object(lines, "CHUNK_SIZE", chunk),
    ):
        yield


def over_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def stopped_at(source: Source[Any, int], index: int) -> tuple[int, Any]:
    """Cursor and bookmark of the pair `index`, when it is in hand, as Redis gives them back."""
    pairs = source.open()
    cursor = next(islice(pairs, index, None))[1]
    assert isinstance(pairs, Bookmarking)
    bookmark = over_json(pairs.bookmark())
    pairs.close()  # type: ignore[attr-defined]
    return over_json(cursor), bookmark


def check_every_place(new: Callable[[], Source[Any, int]], expected: list[tuple[Any, int]]) -> None:
    """Opened at any cursor, with or without the bookmark of it or of an earlier one, the rest is the same."""
    assert list(new().open()) == expected
    earlier = None
    for index in range(len(expected)):
        cursor, bookmark = stopped_at(new(), index)
        rest = expected[index:]
        assert list(new().reopen(cursor, bookmark)) == rest
        assert list(new().open(cursor)) == rest
        assert list(new().reopen(cursor, earlier)) == rest
        earlier = bookmark


@given(cases())
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_stopped_at_any_row_and_reopened_the_rest_is_the_same(case: Case) -> None:
    expected = [(row, index) for index, row in enumerate(case.rows) if row]

    with small_blocks(case.chunk):
        check_every_place(lambda: csv_rows(case.file(), **case.options), expected)


@given(cases(), st.integers(1, 5))
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
def test_stopped_at_any_batch_and_reopened_the_rest_is_the_same(case: Case, size: int) -> None:
    slices = [case.rows[start : start + size] for start in range(0, len(case.rows), size)]
    full = [([row for row in rows if row], index) for index, rows in enumerate(slices)]
    expected = [(rows, index) for rows, index in full if rows]

    with small_blocks(case.chunk):
        check_every_place(lambda: csv_batches(case.file(), size=size, **case.options), expected)


#: More than what is read of each file at its beginning.
BIG = b"id,name\n" + b"".join(b"%d,Name %d\n" % (index, index) for index in range(20_000))
AT = 15_000


class Counted(io.BytesIO):
    """Bytes that count how many of them were read."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def test_a_file_is_read_again_only_at_its_beginning_and_from_the_row_on() -> None:
    cursor, bookmark = stopped_at(csv_rows(io.BytesIO(BIG)), AT)
    file = Counted(BIG)

    pairs = csv_rows(file).reopen(cursor, bookmark)

    assert next(pairs) == ({"id": str(AT), "name": f"Name {AT}"}, AT)
    assert file.count < 130 * 1024 < bookmark["offset"]


def test_the_bookmark_of_a_batch_is_where_its_first_row_begins() -> None:
    cursor, bookmark = stopped_at(csv_batches(io.BytesIO(BIG), size=10), AT // 10)
    pairs = csv_batches(io.BytesIO(BIG), size=10).reopen(cursor, bookmark)

    assert (bookmark["row"], BIG[bookmark["offset"] :].startswith(b"%d," % AT)) == (AT, True)
    assert next(pairs)[0][0]["id"] == str(AT)


def test_a_batch_of_another_size_is_found_by_the_same_bookmark() -> None:
    _, bookmark = stopped_at(csv_batches(io.BytesIO(BIG), size=10), AT // 10)
    source = csv_batches(io.BytesIO(BIG), size=7)

    assert next(source.reopen(2500, bookmark)) == next(source.open(2500))
    assert next(source.reopen(5, bookmark)) == next(source.open(5))


def test_a_bookmark_is_plain_json_and_short() -> None:
    _, bookmark = stopped_at(csv_rows(io.BytesIO(BIG)), AT)

    assert all(type(value) is int for value in bookmark.values())
    assert len(json.dumps(bookmark)) < 200


def test_the_beginning_of_a_file_is_summed_up_once_and_only_for_a_bookmark(monkeypatch: pytest.MonkeyPatch) -> None:
    summed: list[int] = []

    def crc32(data: bytes) -> int:
        summed.append(len(data))
        return 1

    monkeypatch.setattr("pyqik.enumerators.csv_reading.zlib.crc32", crc32)
    pairs: Any = csv_rows(io.BytesIO(BIG)).open()
    summed.clear()

    for _ in islice(pairs, 10):
        pass
    before = [length for length in summed if length == files.HEAD_SIZE]
    pairs.bookmark()
    next(pairs)
    pairs.bookmark()

    assert before == []
    assert [length for length in summed if length == files.HEAD_SIZE] == [files.HEAD_SIZE]


def test_before_the_first_row_the_bookmark_is_the_one_that_was_given() -> None:
    _, bookmark = stopped_at(csv_rows(io.BytesIO(BIG)), AT)
    new: Any = csv_rows(io.BytesIO(BIG)).open()
    reopened: Any = csv_rows(io.BytesIO(BIG)).reopen(AT, bookmark)

    assert (new.bookmark(), reopened.bookmark()) == (None, bookmark)


@pytest.mark.parametrize("close", [True, False], ids=["closed", "at its end"])
def test_after_the_last_row_the_bookmark_is_that_of_this_row(close: bool) -> None:
    data = BIG + b"\n" * 200_000
    pairs: Any = csv_rows(io.BytesIO(data)).open(19_999)
    (_, cursor), *_ = [next(pairs)] if close else list(pairs)
    pairs.close()

    assert pairs.bookmark()["row"] == cursor == 19_999
    assert list(csv_rows(io.BytesIO(data)).reopen(cursor, pairs.bookmark())) == [
        ({"id": "19999", "name": "Name 19999"}, 19_999)
    ]


def test_after_an_error_the_bookmark_is_that_of_the_row_before_it() -> None:
    pairs: Any = csv_rows(io.BytesIO(BIG + b"\n" * 100_000 + b"\xff")).open(19_999)
    next(pairs)

    with pytest.raises(UnicodeDecodeError):
        next(pairs)

    assert pairs.bookmark()["row"] == 19_999


def test_a_row_that_is_longer_than_what_is_read_at_once_can_be_found_again() -> None:
    long = b'x,"' + b"\n".join(b"y" * 1000 for _ in range(100)) + b'"\n'
    data = BIG + long + b"1,2\n" + long + b"3,4\n"
    everything = list(csv_rows(io.BytesIO(data)).open())

    for index in (20_000, 20_001, 20_002, 20_003):
        cursor, bookmark = stopped_at(csv_rows(io.BytesIO(data)), index)
        assert list(csv_rows(io.BytesIO(data)).reopen(cursor, bookmark)) == everything[index:]


def test_a_bookmark_beyond_the_cursor_is_of_no_use_and_does_no_harm() -> None:
    _, bookmark = stopped_at(csv_rows(io.BytesIO(BIG)), AT)

    assert next(csv_rows(io.BytesIO(BIG)).reopen(AT - 1, bookmark))[1] == AT - 1


@pytest.mark.parametrize(
    "options",
    [{"headers": False}, {"delimiter": ";"}, {"quotechar": "'"}, {"quoting": csv.QUOTE_NONE}, {"encoding": "latin-1"}],
    ids=str,
)
def test_where_rows_are_counted_otherwise_by_now_the_cursor_decides(options: Any) -> None:
    _, bookmark = stopped_at(csv_rows(io.BytesIO(BIG)), AT)
    source = csv_rows(io.BytesIO(BIG), **options)

    assert next(source.reopen(AT, bookmark)) == next(source.open(AT))


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        pytest.param(BIG + b"1,2\n", r"its size was \d+ and is \d+", id="a row more"),
        pytest.param(BIG[:-4], r"its size was \d+ and is \d+", id="shorter"),
        pytest.param(b"ID" + BIG[2:], "its beginning is another one", id="another header"),
        pytest.param(
            BIG.replace(b"15000,Name 15000", b"15000,Name 1500x"),
            r"row 15000, which began at byte \d+, is another one",
            id="another row",
        ),
        pytest.param(
            BIG.replace(b"14000,Name 14000", b"14000,Name\n14000").replace(b"19000,N", b"19000N,"), "row", id="moved"
        ),
    ],
)
def test_a_file_that_has_changed_is_named_with_the_difference(changed: bytes, difference: str, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_bytes(BIG)
    cursor, bookmark = stopped_at(csv_rows(path), AT)
    if difference == "row":
        # Seen only if it concerns the row itself.
        path.write_bytes(changed)
        assert next(csv_rows(path).reopen(cursor, bookmark))[0]["id"] == str(AT)
        return
    path.write_bytes(changed)

    with pytest.raises(
        SourceChanged, match=rf"people\.csv is not the file .*: {difference}; put that one back, or push"
    ):
        next(csv_rows(path).reopen(cursor, bookmark))


def test_a_pipe_that_has_changed_is_named_too() -> None:
    cursor, bookmark = stopped_at(csv_rows(Pipe(BIG)), AT)

    with pytest.raises(SourceChanged, match="row 15000"):
        next(csv_rows(Pipe(BIG[:-150_000])).reopen(cursor, bookmark))


def test_a_change_is_named_before_what_is_wrong_with_the_file() -> None:
    cursor, bookmark = stopped_at(csv_rows(io.BytesIO(BIG)), AT)

    with pytest.raises(SourceChanged, match="its size"):
        next(csv_rows(io.BytesIO(b"\n")).reopen(cursor, bookmark))


GOOD = stopped_at(csv_rows(io.BytesIO(BIG)), AT)[1]


NUMBERS: list[Any] = [None, "1", -1, 1.5, True, 2**70, []]


@pytest.mark.parametrize(
    "bookmark",
    [
        *(None, "", "x", 7, True, [], [1], {}, {"row": 1}, {"a": {"b": []}}),
        *({**GOOD, key: value} for key in GOOD if key != "size" for value in NUMBERS),
        *({key: value for key, value in GOOD.items() if key != missing} for missing in GOOD),
        {**GOOD, "length": 0, "crc": 0, "offset": 70_000},
        {**GOOD, "length": 2**40},
    ],
    ids=str,
)
def test_a_bookmark_that_is_none_is_ignored(bookmark: Any) -> None:
    source = csv_rows(io.BytesIO(BIG))

    assert next(source.reopen(AT, bookmark)) == ({"id": str(AT), "name": f"Name {AT}"}, AT)


@pytest.mark.parametrize("kind", [*KINDS, "path"])
@pytest.mark.parametrize("offset", [70_000, len(BIG) - 1, len(BIG) + 1, 2**53 - 1])
def test_a_bookmark_that_leads_nowhere_is_named(kind: str, offset: int, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_bytes(BIG)
    new: Callable[[], Any] = (lambda: path) if kind == "path" else lambda: KINDS[kind](BIG)
    _, bookmark = stopped_at(csv_rows(new()), AT)

    with pytest.raises(SourceChanged, match=rf"row 15000, which began at byte {offset}, is another one"):
        next(csv_rows(new()).reopen(AT, {**bookmark, "offset": offset}))


@pytest.mark.parametrize(
    ("line", "count"),
    [(b"1,2\n", 20_000), (b"\n", 100_000), (b'"a\nb",2\n', 15_000)],
    ids=["rows", "blank lines", "quoted lines"],
)
@pytest.mark.parametrize("how", ["read", "skipped", "in batches"])
def test_the_memory_does_not_grow_with_the_file(line: bytes, count: int, how: str, tmp_path: Path) -> None:
    path = tmp_path / "big.csv"
    path.write_bytes(b"a,b\n" + line * count)
    source: Source[Any, int] = csv_batches(path) if how == "in batches" else csv_rows(path)
    pairs: Any = source.open(count - 1 if how == "skipped" else 0)
    tracemalloc.start()
    try:
        with small_blocks(4096):
            for _ in pairs:
                pass

        assert tracemalloc.get_traced_memory()[1] < 300_000
    finally:
        tracemalloc.stop()
