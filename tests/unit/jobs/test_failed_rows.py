"""The failed rows of an import as a CSV file: in the bytes of the original, with one more column."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import pyqik
from pyqik import enumerators, testing
from pyqik.jobs.failed_rows import (
    Entry,
    FailedCsv,
    FailedRows,
    RowError,
    RowMessage,
    block_of,
    entries_of,
    form_of,
    form_text,
)
from pyqik.jobs.source import FileForm

LF, CRLF, CR = b"\n", b"\r\n", b"\r"


def failed(
    source: bytes | Path, message: str | list[str] = "bad", only: tuple[int, ...] = (), column: str = "", **options: Any
) -> bytes:
    """The failed rows of a file of which all rows have failed, or `only` these, counted from 0."""

    @pyqik.job("Fails")
    def job() -> None:
        rows = pyqik.rows()
        file: Any = io.BytesIO(source) if isinstance(source, bytes) else source
        for index, _ in enumerate(pyqik.each(enumerators.csv_rows(file, **options))):
            if not only or index in only:
                rows.fail(message if isinstance(message, str) else message[index])

    failed_rows = testing.perform(job).or_raise().rows
    return (failed_rows.failed_csv(column=column) if column else failed_rows.failed_csv()).read()


def read(data: bytes, **options: Any) -> list[Any]:
    return [row for row, _ in enumerators.csv_rows(io.BytesIO(data), **options).open()]


# Files of many forms.


@pytest.mark.parametrize(
    ("data", "options", "expected"),
    [
        (b"a,b\n1,2\n3,4\n", {}, b"a,b,errors\n1,2,bad\n3,4,bad\n"),
        (b"a;b\n1;2\n", {"delimiter": ";"}, b"a;b;errors\n1;2;bad\n"),
        (b"a\tb\n1\t2\n", {"delimiter": "\t"}, b"a\tb\terrors\n1\t2\tbad\n"),
        (b"a\tb\n1\t2\n", {"dialect": "excel-tab"}, b"a\tb\terrors\n1\t2\tbad\n"),
        (b"a b\n1 2\n", {"delimiter": " "}, b"a b errors\n1 2 bad\n"),
        (b"a,b\r\n1,2\r\n3,4\r\n", {}, b"a,b,errors\r\n1,2,bad\r\n3,4,bad\r\n"),
        (b"a,b\r1,2\r3,4\r", {}, b"a,b,errors\r1,2,bad\r3,4,bad\r"),
        # The last line has no end, but gets one.
        (b"a,b\n1,2\n3,4", {}, b"a,b,errors\n1,2,bad\n3,4,bad\n"),
        (b"a,b\r\n1,2\r\n3,4", {}, b"a,b,errors\r\n1,2,bad\r\n3,4,bad\r\n"),
        (b"a,b\r1,2\r3,4", {}, b"a,b,errors\r1,2,bad\r3,4,bad\r"),
        # A line feed ends a row of a file of CR LF, too.
        (b"a,b\r\n1,2\n", {}, b"a,b,errors\r\n1,2,bad\r\n"),
        # Blank lines are no rows to correct.
        (b"a,b\n\n1,2\n\n\n3,4\n\n", {}, b"a,b,errors\n1,2,bad\n3,4,bad\n"),
        # What is quoted stays so, byte for byte.
        (b'"a",b\n"1","2"\n', {}, b'"a",b,errors\n"1","2",bad\n'),
        (b'a,b\n"x\n\ny","a ""q"""\n', {}, b'a,b,errors\n"x\n\ny","a ""q""",bad\n'),
        (b'a,b\r\n"x\ny\r\nz",","\r\n', {}, b'a,b,errors\r\n"x\ny\r\nz",",",bad\r\n'),
        (b'a,b\n1,"ends with a line end\n"\n', {}, b'a,b,errors\n1,"ends with a line end\n",bad\n'),
        (b'a,b\n1,"\n"', {}, b'a,b,errors\n1,"\n",bad\n'),
        (b'"a\nb",c\n1,2\n', {}, b'"a\nb",c,errors\n1,2,bad\n'),
        (b"a,b\n'x,\n''y',2\n", {"quotechar": "'"}, b"a,b,errors\n'x,\n''y',2,bad\n"),
        (b'a, b\n1, "2,3"\n', {"skipinitialspace": True}, b'a, b,errors\n1, "2,3",bad\n'),
        (b'a,b\n1,te"xt\n', {}, b'a,b,errors\n1,te"xt,bad\n'),
        # Encodings.
        ("ä,b\né,2\n".encode(), {}, "ä,b,errors\né,2,bad\n".encode()),
        ("\ufeffä,b\né,2\n".encode(), {}, "\ufeffä,b,errors\né,2,bad\n".encode()),
        ("ä,b\né,2\n".encode("cp1252"), {"encoding": "cp1252"}, "ä,b,errors\né,2,bad\n".encode("cp1252")),
        ("ä,b\né,2\n".encode("latin-1"), {"encoding": "iso-8859-1"}, "ä,b,errors\né,2,bad\n".encode("latin-1")),
        ("ä,b\né,2\n".encode("utf-16"), {"encoding": "utf-16"}, "ä,b,errors\né,2,bad\n".encode("utf-16")),
        (
            "\ufeffä,ਊ\r\né,Ċ\r\n".encode("utf-16-be"),
            {"encoding": "utf-16"},
            "\ufeffä,ਊ,errors\r\né,Ċ,bad\r\n".encode("utf-16-be"),
        ),
        (
            "ä,ਊ\né,Ċ\n".encode("utf-16-le"),
            {"encoding": "utf-16-le"},
            "ä,ਊ,errors\né,Ċ,bad\n".encode("utf-16-le"),
        ),
        ("ä,b\n😀,2".encode("utf-32"), {"encoding": "utf-32"}, "ä,b,errors\n😀,2,bad\n".encode("utf-32")),
        ("名,b\n表,2\n".encode("shift_jis"), {"encoding": "shift_jis"}, "名,b,errors\n表,2,bad\n".encode("shift_jis")),
        # Quotes and escapes.
        (b'a,b\n"1,2"\n', {"quoting": csv.QUOTE_NONE}, b'a,b,errors\n"1,2",bad\n'),
        (b'a,b\n"1,2\n', {"quoting": csv.QUOTE_NONE}, b'a,b,errors\n"1,2,bad\n'),
        (b"a,b\n1\\,1,2\n", {"escapechar": "\\", "quoting": csv.QUOTE_NONE}, b"a,b,errors\n1\\,1,2,bad\n"),
        (
            b'a,b\n"x\\"\ny",2\n',
            {"escapechar": "\\", "doublequote": False},
            b'a,b,errors\n"x\\"\ny",2,bad\n',
        ),
        # Headers.
        (b"1,2\n3,4\n", {"headers": False}, b"1,2,bad\n3,4,bad\n"),
        (b"1,2\n3,4", {"headers": ["a", "b"]}, b"1,2,bad\n3,4,bad\n"),
        (b"1,2\r\n3,4", {"headers": False}, b"1,2,bad\r\n3,4,bad\r\n"),
        (b"\n\n1,2\n", {"headers": False}, b"1,2,bad\n"),
        ("\ufeff1,2\n3,4\n".encode(), {"headers": False}, "\ufeff1,2,bad\n3,4,bad\n".encode()),
        ("1;2\n3;4\n".encode("utf-16"), {"headers": False, "encoding": "utf-16", "delimiter": ";"}, None),
        # Rows that are too short or too long.
        (b"a,b,c\n1\n1,2\n1,2,3\n", {}, b"a,b,c,errors\n1,,,bad\n1,2,,bad\n1,2,3,bad\n"),
        (b"a;b;c\n1\n", {"delimiter": ";"}, b"a;b;c;errors\n1;;;bad\n"),
        ("a,b,c\n1\n".encode("utf-16"), {"encoding": "utf-16"}, "a,b,c,errors\n1,,,bad\n".encode("utf-16")),
        (b'a,b,c\n"1,\n1"\n', {}, b'a,b,c,errors\n"1,\n1",,,bad\n'),
        (b"a,b\n1,2,3,4\n", {}, b"a,b,errors\n1,2,3,4,bad\n"),
        (b"a,b,\n1,2\n1,2,\n", {}, b"a,b,,errors\n1,2,,bad\n1,2,,bad\n"),
        # A column that is there already.
        (b"errors\n1\n", {}, b"errors,errors 2\n1,bad\n"),
        (b"a,errors,errors 2\n1,2,3\n", {}, b"a,errors,errors 2,errors 3\n1,2,3,bad\n"),
        (b'a,"errors"\n1,2\n', {}, b'a,"errors",errors 2\n1,2,bad\n'),
        (b"a,Errors\n1,2\n", {}, b"a,Errors,errors\n1,2,bad\n"),
        # A single column, and empty rows that are none.
        (b'a\n""\n', {}, b'a,errors\n"",bad\n'),
        (b"a\n  \n", {}, b"a,errors\n  ,bad\n"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_the_file_is_as_the_original(
    data: bytes, options: dict[str, Any], expected: bytes | None, compressed: bool, tmp_path: Path
) -> None:
    path = tmp_path / "import.csv"
    path.write_bytes(gzip.compress(data) if compressed else data)
    if expected is None:
        expected = "1;2;bad\n3;4;bad\n".encode("utf-16")

    assert failed(path, **options) == expected


@pytest.mark.parametrize("interrupt_after", range(1, 5))
def test_the_form_is_the_same_if_the_job_was_interrupted_before_a_row_failed(
    interrupt_after: int, tmp_path: Path
) -> None:
    path = tmp_path / "import.csv"
    path.write_bytes('\ufeff"ä";b\r\n1;"x\r\ny"\r\n2;\r\n3;4\r\n5;6'.encode("utf-16-le"))

    @pyqik.job("Late")
    def job() -> None:
        rows = pyqik.rows()
        for row in pyqik.each(enumerators.csv_rows(path, encoding="utf-16", delimiter=";")):
            if row["ä"] in "35":
                rows.fail("bad")

    run = testing.perform(job, interrupt_after=interrupt_after)
    run = run.again() if run.interrupted else run
    expected = '\ufeff"ä";b;errors\r\n3;4;bad\r\n5;6;bad\r\n'.encode("utf-16-le")
    assert run.rows.failed_csv().read() == expected


def test_only_the_rows_that_failed_are_in_it() -> None:
    assert failed(b"a\n1\n2\n3\n4\n", only=(1, 3)) == b"a,errors\n2,bad\n4,bad\n"


def test_the_column_may_have_another_name() -> None:
    assert failed(b"a\n1\n", column="what is wrong, and why") == b'a,"what is wrong, and why"\n1,bad\n'
    assert failed(b"a\n1\n", column="a") == b"a,a 2\n1,bad\n"
    assert failed(b"a;b\n1;2\n", column="é→", delimiter=";", encoding="cp1252") == b"a;b;\xe9?\n1;2;bad\n"


def test_a_file_that_comes_back_can_fail_again() -> None:
    once = failed(b'a,b\n1,"x\ny"\n2\n', ["first", "one"])
    twice = failed(once, ["second", "other"])
    assert twice == b'a,b,errors,errors 2\n1,"x\ny",first,second\n2,,one,other\n'
    assert read(twice)[1] == {"a": "2", "b": "", "errors": "one", "errors 2": "other"}


def test_a_text_file_is_given_back_in_its_own_encoding(tmp_path: Path) -> None:
    path = tmp_path / "import.csv"
    path.write_bytes("ä,b\r\né,2\r\n".encode("cp1252"))

    @pyqik.job("Text")
    def job() -> None:
        with path.open(encoding="cp1252", newline="") as file:
            rows = pyqik.rows()
            for _ in pyqik.each(enumerators.csv_rows(file)):
                rows.fail("ö")

    assert testing.perform(job).or_raise().rows.failed_csv().read() == "ä,b,errors\r\né,2,ö\r\n".encode("cp1252")


def test_bytes_that_a_text_file_may_hold_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "import.csv"
    path.write_bytes(b"a,b\n\xff,\xc3\xa9\n")

    @pyqik.job("Bytes")
    def job() -> None:
        with path.open(encoding="utf-8", errors="surrogateescape") as file:
            rows = pyqik.rows()
            for _ in pyqik.each(enumerators.csv_rows(file)):
                rows.fail("é")

    assert testing.perform(job).or_raise().rows.failed_csv().read() == b"a,b,errors\n\xff,\xc3\xa9,\xc3\xa9\n"


@pytest.mark.parametrize("size", [2**16 - 1, 2**16, 100_000])
@pytest.mark.parametrize("end", [LF, CRLF, CR], ids=["LF", "CR LF", "CR"])
def test_rows_that_are_longer_than_what_is_read_at_once(size: int, end: bytes, tmp_path: Path) -> None:
    rows = [b"%d," % n + b"%d" % n * size for n in range(4)]
    rows[2] = b'2,"' + (b"x" * 100 + b"\n") * (size // 101) + b'"'
    path = tmp_path / "import.csv"
    path.write_bytes(b"id,text" + end + end.join(rows))

    @pyqik.job("LongRows")
    def job() -> None:
        failing = pyqik.rows()
        for _ in pyqik.each(enumerators.csv_rows(path)):
            failing.fail("bad")

    expected = b"".join(row + b",bad" + end for row in rows)
    run = testing.perform(job)
    for _ in range(5):
        assert run.rows.failed_csv().read() == b"id,text,errors" + end + expected
        run = testing.perform(job, interrupt_after=2).again(interrupt_after=1).again()


def test_a_long_row_of_many_lines_and_a_long_header() -> None:
    names = [f"column {n} of many" for n in range(4000)]
    header = ",".join(names).encode()
    row = b",".join(b'"%d\n"' % n for n in range(4000))
    out = failed(header + LF + row + LF + b"short\n" + row)
    assert out == b"".join(
        [
            header + b",errors\n",
            row + b",bad\n",
            b"short" + b"," * 4000 + b"bad\n",
            row + b",bad\n",
        ]
    )


def test_many_rows_over_many_blocks() -> None:
    lines = [b'%d,"%d\n"' % (n, n * n) for n in range(20_000)]
    only = tuple(range(0, 20_000, 777))
    expected = b"".join(lines[n] + b",bad\r\n" for n in only)
    assert failed(b"a,b\r\n" + CRLF.join(lines), only=only) == b"a,b,errors\r\n" + expected


def test_its_lines_one_by_one_and_into_a_file(tmp_path: Path) -> None:
    rows = [
        (b"1,2", RowError(2, (RowMessage("one"), RowMessage("two", "b")))),
        (None, RowError(7, (RowMessage("three"),))),
    ]
    out = FailedCsv(rows, FileForm(header=b"a,b", mark=b"\xef\xbb\xbf", end=CRLF), "errors")
    lines = [b"\xef\xbb\xbfa,b,errors\r\n", b"1,2,one; b: two\r\n", b"7,,three\r\n"]
    assert list(out) == lines
    assert out.read() == b"".join(lines)
    with (tmp_path / "out.csv").open("wb") as file:
        out.write_to(file)
    assert (tmp_path / "out.csv").read_bytes() == b"".join(lines)


def test_without_a_file_a_column_has_the_numbers() -> None:
    rows = FailedRows([Entry(12, [("bad", "id")]), Entry(3, [("worse", None)])], None, 0)
    assert rows.failed_csv().read() == b"row,errors\n3,worse\n12,id: bad\n"
    assert rows.failed_csv(column="row").read() == b"row,row 2\n3,worse\n12,id: bad\n"


def test_no_rows_are_a_header() -> None:
    assert FailedRows([], None, 0).failed_csv().read() == b"row,errors\n"
    assert FailedRows([], FileForm(header=b"a;b", delimiter=";"), 0).failed_csv().read() == b"a;b;errors\n"
    assert FailedRows([], FileForm(mark=b"\xef\xbb\xbf"), 0).failed_csv().read() == b""


# Messages.


@pytest.mark.parametrize(
    ("message", "cell"),
    [
        ("", b""),
        ("a, b", b'"a, b"'),
        ("a; b", b"a; b"),
        ('say "x"', b'"say ""x"""'),
        ("two\nlines", b'"two\nlines"'),
        ("two\r\nlines", b'"two\r\nlines"'),
        ("cr\rcr", b'"cr\rcr"'),
        ("=1+1", b"'=1+1"),
        ("+1", b"'+1"),
        ("-1", b"'-1"),
        ("@SUM(A1)", b"'@SUM(A1)"),
        ("=", b"'="),
        ("\ttab", b"'\ttab"),
        ("\rcr", b'"\'\rcr"'),
        ('=HYPERLINK("x","y")', b'"\'=HYPERLINK(""x"",""y"")"'),
        ("'quoted", b"'quoted"),
        ("a = b", b"a = b"),
        ("ü 😀 \u2028", "ü 😀 \u2028".encode()),
        ("nul \0", b"nul \0"),
    ],
)
def test_a_message_is_a_field_that_no_spreadsheet_takes_for_a_formula(message: str, cell: bytes) -> None:
    out = failed(b"a,b\n1,2\n", message)
    assert out == b"a,b,errors\n1,2," + cell + b"\n"
    [row] = read(out)
    assert (row["a"], row["b"]) == ("1", "2")
    assert row["errors"] in (message, f"'{message}")


def test_a_formula_after_the_beginning_is_none() -> None:
    rows = FailedRows([Entry(1, [("first", None), ("=1", None), ("=2", "=f")])], None, 0)
    assert rows.failed_csv().read() == b"row,errors\n1,first; =1; =f: =2\n"
    rows = FailedRows([Entry(1, [("x", "=f")])], None, 0)
    assert rows.failed_csv().read() == b"row,errors\n1,'=f: x\n"


@pytest.mark.parametrize(
    ("encoding", "message", "cell"),
    [
        ("cp1252", "é€ → 😀", b"\xe9\x80 ? ?"),
        ("iso-8859-1", "é€", b"\xe9?"),
        ("ascii", "é", b"?"),
        ("cp1252", "→,", b'"?,"'),
    ],
)
def test_characters_that_the_encoding_lacks_become_question_marks(encoding: str, message: str, cell: bytes) -> None:
    assert failed(b"a\n1\n", message, encoding=encoding) == b"a,errors\n1," + cell + b"\n"


@pytest.mark.parametrize(
    ("options", "message", "cell"),
    [
        # There is no way to write these: a space stands for each.
        ({"quoting": csv.QUOTE_NONE}, 'a,b\r\n"c"\\', b'a b  "c"\\'),
        ({"quoting": csv.QUOTE_NONE, "delimiter": ";"}, "a,b;c", b"a,b c"),
        ({"doublequote": False}, '"a",\n', b" a   "),
        ({"doublequote": False}, "a,b", b'"a,b"'),
        ({"quotechar": None, "quoting": csv.QUOTE_NONE}, "x\ny", b"x y"),
        # These have one.
        ({"quoting": csv.QUOTE_NONE, "escapechar": "\\"}, 'a,"b\\', b'a\\,"b\\\\'),
        ({"doublequote": False, "escapechar": "\\"}, 'a,"b\\', b'"a,\\"b\\\\"'),
        ({"quotechar": "'"}, "it's", b"'it''s'"),
        ({"quotechar": "'"}, "=1", b"'''=1'"),
        ({"delimiter": ";"}, "a; b", b'"a; b"'),
        ({"delimiter": "\t"}, "a\tb", b'"a\tb"'),
    ],
)
def test_a_message_is_written_as_the_dialect_allows(options: dict[str, Any], message: str, cell: bytes) -> None:
    delimiter = options.get("delimiter", ",").encode()
    out = failed(b"a\n1\n", message, **options)
    assert out == b"a" + delimiter + b"errors\n1" + delimiter + cell + b"\n"
    [row] = read(out, **options)
    assert row["a"] == "1"
    assert len(row) == 2


# Whatever the file.

CHARACTERS = "aé=' \t,;\"\n\r\\0|"
ENCODINGS = ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-32"]


@st.composite
def tables(draw: st.DrawFn) -> tuple[bytes, dict[str, Any], list[str]]:
    """A CSV file, how it is to be read, and a message for each of its rows."""
    options: dict[str, Any] = {
        "delimiter": draw(st.sampled_from(",;\t|")),
        "quotechar": draw(st.sampled_from("\"'")),
        "escapechar": draw(st.sampled_from([None, "\\"])),
        "doublequote": draw(st.booleans()),
        "skipinitialspace": draw(st.booleans()),
        "quoting": draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE])),
    }
    bare = options["quoting"] == csv.QUOTE_NONE
    # Escaped quotes and line ends are beyond the way in which the line end of a file is found.
    is_simple = not bare and (options["doublequote"] or options["escapechar"] is None)
    messages_of = CHARACTERS if is_simple or options["escapechar"] is None else CHARACTERS.replace("\r", "")
    # Without quotes a line end can be escaped at most, and nobody does.
    characters = messages_of.replace("\r", "").replace("\n", "") if bare else messages_of
    width = draw(st.integers(1, 4))
    values = st.lists(st.text(characters, max_size=4), min_size=1, max_size=width + 1)
    rows = draw(st.lists(values, min_size=1, max_size=6))
    headers: Any = draw(st.sampled_from([True, False, "names"]))
    names = [f"{name}{n} of many" for n, name in enumerate(draw(st.lists(st.text("aé ", max_size=3), min_size=width)))]
    if headers is True:
        rows = [names, *rows]
    options["headers"] = names if headers == "names" else headers
    encoding = draw(st.sampled_from(ENCODINGS))
    # Of a single line that ends with CR nobody knows that it is not the first half of CR LF.
    end = draw(st.sampled_from(["\n", "\r\n", "\r"] if is_simple and len(rows) > 1 else ["\n", "\r\n"]))
    dialect = {name: value for name, value in options.items() if name != "headers"}
    lines = []
    for row in rows:
        out = io.StringIO()
        try:
            csv.writer(out, lineterminator="\r\n", **dialect).writerow(row)
        except csv.Error:
            assume(False)
        lines.append(out.getvalue().removesuffix("\r\n"))
    text = end.join(lines) + draw(st.sampled_from(["", end]))
    options["encoding"] = encoding
    messages = draw(st.lists(st.text(messages_of + "→😀", max_size=6), min_size=len(rows), max_size=len(rows)))
    return text.encode(encoding), options, messages


def as_read(message: str, options: dict[str, Any]) -> set[str]:
    """What may become of a message in such a file."""
    text = f"'{message}" if message.startswith(("=", "+", "-", "@", "\t", "\r")) else message
    quote = "" if options["quoting"] == csv.QUOTE_NONE else options["quotechar"]
    special = {options["delimiter"], "\r", "\n", *quote}
    cannot = not quote or (not options["doublequote"] and quote in text)
    if options["escapechar"] is None and cannot and special & set(text):
        text = "".join(" " if each in special else each for each in text)
    text = text.encode(options["encoding"], "replace").decode(options["encoding"])
    return {text, text.lstrip(" ")} if options["skipinitialspace"] else {text}


def values_of(row: Any, names: int) -> list[str]:
    """The fields of a row; one that is too short is as if its end was empty."""
    if isinstance(row, list):
        return row
    *values, rest = [*(value or "" for name, value in row.items() if name is not None), row.get(None, [])]
    assert len(values) == names
    return [*values, *rest]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(tables())
def test_what_is_read_back_is_the_same_and_the_message(table: tuple[bytes, dict[str, Any], list[str]]) -> None:
    data, options, messages = table
    try:
        rows = read(data, **options)
    except csv.Error:
        assume(False)
    assume(len(rows) > 0)

    out = failed(data, messages, **options)

    has_names = options["headers"] is True
    back = read(out, **({**options, "headers": False}))
    if has_names:
        header = back.pop(0)
        assert header[-1] == "errors"
        assert header[:-1] == read(data, **{**options, "headers": False})[0]
        assert [list(row)[: len(header)] for row in read(out, **options)] == [header] * len(rows)
    plain = read(data, **{**options, "headers": False})[has_names:]
    assert len(back) == len(plain) == len(rows)
    columns = len(header) - 1 if has_names else len(options["headers"] or ())
    for row, was, message in zip(back, plain, messages, strict=False):
        padded = was + [""] * (columns - len(was))
        assert row[:-1] == padded
        assert row[-1] in as_read(message, options)


# How they are kept.

entries = st.lists(
    st.builds(
        Entry,
        st.integers(-(2**63), 2**63 - 1),
        st.lists(st.tuples(st.text(), st.none() | st.text())),
        st.none() | st.binary(),
    )
)


@given(entries)
def test_a_block_holds_what_was_put_into_it(kept: list[Entry]) -> None:
    assert entries_of(block_of(kept)) == kept


def test_a_block_is_compressed() -> None:
    kept = [Entry(n, [("must not be empty", "name")], b"1,2,3,4,5,6\r\n") for n in range(1000)]
    assert len(block_of(kept)) < 10_000


@given(st.binary(max_size=50))
def test_rubbish_is_no_block(rubbish: bytes) -> None:
    with pytest.raises(ValueError, match="block of failed rows"):
        entries_of(rubbish)


@given(st.binary(max_size=20))
def test_compressed_rubbish_is_no_block(rubbish: bytes) -> None:
    assume(rubbish != b"\x90")  # No entries.
    with pytest.raises(ValueError, match="block of failed rows"):
        entries_of(zlib.compress(rubbish))


def test_a_block_that_is_cut_off_is_none() -> None:
    block = block_of([Entry(1, [("bad", None)], b"1,2\n"), Entry(2, [("worse", "a")])])
    for length in range(len(block)):
        with pytest.raises(ValueError, match="block of failed rows"):
            entries_of(block[:length])


@pytest.mark.parametrize(
    "value",
    [
        1,
        None,
        "text",
        {},
        [1],
        [[]],
        [[1]],
        [["1", []]],
        [[1.5, []]],
        [[1, [["text"]]]],
        [[1, ["text"]]],
        [[1, [["text", 1]]]],
        [[1, [[None, None]]]],
        [[1, [["text", None]], "text"]],
        [[1, {}]],
    ],
)
def test_values_that_are_no_entries_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="block of failed rows"):
        entries_of(zlib.compress(msgspec.msgpack.encode(value)))


def test_a_block_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    block = block_of([Entry(1, [("x" * 1000, None)])])
    monkeypatch.setattr("pyqik.jobs.failed_rows._LARGEST_BLOCK", 500)
    with pytest.raises(ValueError, match="cut off, or too large"):
        entries_of(block)


forms = st.builds(
    FileForm,
    header=st.binary(max_size=20),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf", b"\xff\xfe"]),
    encoding=st.sampled_from(["utf-8", "cp1252", "utf-16-le"]),
    end=st.sampled_from([LF, CRLF, CR, b"\n\0"]),
    delimiter=st.sampled_from(",;\té"),
    quotechar=st.sampled_from(['"', "'", None]),
    escapechar=st.sampled_from(["\\", None]),
    doublequote=st.booleans(),
    skipinitialspace=st.booleans(),
)


@given(forms)
def test_a_form_is_read_as_it_was_written(form: FileForm) -> None:
    assert form_of(form_text(form)) == form


def test_without_a_text_there_is_no_form() -> None:
    assert (form_of(None), form_of(b"")) == (None, None)


# Publishing.


@pytest.mark.parametrize("is_async", [False, True])
def test_it_is_published_where_the_job_says(is_async: bool, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("number\n1\n2\n3\n")

    @pyqik.job("Imports::Giving")
    def giving() -> None:
        rows = pyqik.rows()
        for row in pyqik.each(enumerators.csv_rows(table)):
            if row["number"] == "2":
                rows.fail("is two", field="number")
        rows.failed_csv().publish("gs://failed/rows.csv", metadata={"of": "table"})
        rows.failed_csv().publish(str(tmp_path / "failed.csv"))

    @pyqik.job("Imports::GivingAsync")
    async def giving_async() -> None:
        rows = await pyqik.arows()
        async for row in pyqik.each(enumerators.csv_rows(table)):
            if row["number"] == "2":
                rows.fail("is two", field="number")
        await (await rows.afailed_csv()).apublish("gs://failed/rows.csv")
        await (await rows.afailed_csv()).apublish(str(tmp_path / "failed.csv"))

    for run in testing.every_interruption(giving_async if is_async else giving):
        assert run.published == {"gs://failed/rows.csv": b"number,errors\n2,number: is two\n"}
        assert (tmp_path / "failed.csv").read_bytes() == run.published["gs://failed/rows.csv"]


def test_outside_of_a_job_it_is_published_to_a_path(tmp_path: Path) -> None:
    FailedRows([], None, 0).failed_csv().publish(str(tmp_path / "failed.csv"))
    assert (tmp_path / "failed.csv").read_bytes() == b"row,errors\n"
    with pytest.raises(ValueError, match="cannot be published"):
        FailedRows([], None, 0).failed_csv().publish("s3://bucket/failed.csv")
