"""Rows and batches of CSV files: what they are, what their cursors mean, and how a mistake in a file is named."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from pyqik.core.errors import InvalidCursor
from pyqik.enumerators import lines
from pyqik.enumerators.csv import csv_batches, csv_rows


def rows(data: bytes, cursor: int | None = None, **options: Any) -> list[tuple[Any, int]]:
    return list(csv_rows(io.BytesIO(data), **options).open(cursor))


def batches(data: bytes, cursor: int | None = None, **options: Any) -> list[tuple[Any, int]]:
    return list(csv_batches(io.BytesIO(data), **options).open(cursor))


PEOPLE = b"id,name\n1,Ada\n2,Bo\n3,Cy\n"


def test_rows_are_dictionaries_with_the_names_of_the_first_line() -> None:
    assert rows(PEOPLE) == [
        ({"id": "1", "name": "Ada"}, 0),
        ({"id": "2", "name": "Bo"}, 1),
        ({"id": "3", "name": "Cy"}, 2),
    ]


def test_names_that_are_given_make_a_row_of_the_first_line() -> None:
    assert rows(b"1,Ada\n2,Bo\n", headers=["id", "name"]) == [
        ({"id": "1", "name": "Ada"}, 0),
        ({"id": "2", "name": "Bo"}, 1),
    ]


def test_without_headers_rows_are_lists() -> None:
    assert rows(b"1,Ada\n2,Bo\n", headers=False) == [(["1", "Ada"], 0), (["2", "Bo"], 1)]


def test_batches_are_lists_of_rows_and_the_last_one_is_what_is_left() -> None:
    assert batches(PEOPLE, size=2) == [
        ([{"id": "1", "name": "Ada"}, {"id": "2", "name": "Bo"}], 0),
        ([{"id": "3", "name": "Cy"}], 1),
    ]


@pytest.mark.parametrize("cursor", [0, 1, 2, 3, 4, 10**30])
def test_a_cursor_is_that_of_the_row_that_comes_first(cursor: int) -> None:
    assert rows(PEOPLE, cursor) == rows(PEOPLE)[cursor:]


@pytest.mark.parametrize("cursor", [0, 1, 2, 10**30])
def test_a_cursor_is_that_of_the_batch_that_comes_first(cursor: int) -> None:
    assert batches(PEOPLE, cursor, size=2) == batches(PEOPLE, size=2)[cursor:]


def test_a_blank_line_counts_as_a_row_and_is_not_given() -> None:
    assert [cursor for _, cursor in rows(b"id\n1\n\n\n2\n\n")] == [0, 3]


@pytest.mark.parametrize("cursor", [1, 2, 3])
def test_the_cursor_of_a_blank_line_opens_the_row_after_it(cursor: int) -> None:
    assert rows(b"id\n1\n\n\n2\n", cursor) == [({"id": "2"}, 3)]


def test_a_blank_line_takes_a_place_in_its_batch_and_a_batch_of_blank_lines_is_not_given() -> None:
    assert batches(b"1\n\n\n\n2\n3\n", size=2, headers=False) == [([["1"]], 0), ([["2"], ["3"]], 2)]


def test_a_line_of_spaces_is_a_row() -> None:
    assert rows(b"id\n  \n") == [({"id": "  "}, 0)]


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b"id,name", b"id,name\n", b"id,name\r\n"])
def test_a_file_without_rows_gives_none(data: bytes) -> None:
    assert (rows(data), batches(data), rows(data, 3)) == ([], [], [])


def test_a_file_without_rows_and_without_header_gives_none() -> None:
    assert (rows(b"", headers=False), rows(b"\n\n", headers=False)) == ([], [])


def test_what_a_row_lacks_is_none_and_what_it_has_too_much_is_kept() -> None:
    assert rows(b"a,b\n1\n1,2,3,4\n") == [({"a": "1", "b": None}, 0), ({"a": "1", "b": "2", None: ["3", "4"]}, 1)]


def test_batches_keep_what_is_uneven_likewise() -> None:
    assert batches(b"a,b\n1\n1,2,3\n") == [([{"a": "1", "b": None}, {"a": "1", "b": "2", None: ["3"]}], 0)]


def test_empty_names_at_the_end_of_the_header_name_no_column() -> None:
    assert rows(b"a,,\n1,2,3\n1\n") == [({"a": "1", None: ["2", "3"]}, 0), ({"a": "1"}, 1)]


def test_one_empty_name_in_the_middle_names_a_column() -> None:
    assert rows(b",b\n1,2\n") == [({"": "1", "b": "2"}, 0)]


def test_two_columns_of_one_name_are_refused_as_a_value_would_be_lost() -> None:
    with pytest.raises(csv.Error, match=r"<BytesIO>: the header.*more than one column is called 'a'; rename"):
        rows(b"a,b,a\n1,2,3\n")


@pytest.mark.parametrize("data", [b"\na,b\n1,2\n", b",,\n1,2,3\n"])
def test_a_first_line_without_names_is_refused(data: bytes) -> None:
    with pytest.raises(
        csv.Error, match=r"the header.* its first line is blank; remove it, or write .*headers=\[\.\.\.]"
    ):
        rows(data)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"], ids=["LF", "CR LF", "CR"])
def test_lines_end_as_the_first_one_does(newline: bytes) -> None:
    data = b'a,b\n1,"x\r\ny"\n\n2,z'.replace(b"\n", newline).replace(b"\r" + newline + b"y", b"\r\ny")

    assert rows(data) == [({"a": "1", "b": "x\r\ny"}, 0), ({"a": "2", "b": "z"}, 2)]


def test_a_last_carriage_return_is_a_line_end() -> None:
    assert rows(b"a,b\r") == []


def test_a_carriage_return_in_a_quoted_name_is_no_line_end() -> None:
    assert rows(b'"a\rq",b\n1,2\n') == [({"a\rq": "1", "b": "2"}, 0)]


@pytest.mark.parametrize("text", ["x\x0by", "x\x0cy", "x\x1cy", "x\u0085y", "x\u2028y", "x\0y"])
def test_no_other_character_ends_a_line(text: str) -> None:
    assert rows(f"a,b\n1,{text}\n".encode()) == [({"a": "1", "b": text}, 0)]


def test_a_dialect_is_what_the_csv_module_takes() -> None:
    data = b"a; b\n'x;''y'; 2\n"

    given = rows(data, delimiter=";", quotechar="'", skipinitialspace=True)

    assert given == [({"a": "x;'y", "b": "2"}, 0)]


def test_a_dialect_may_be_one_that_has_a_name() -> None:
    assert rows(b"a\tb\n1\t2\n", dialect="excel-tab") == [({"a": "1", "b": "2"}, 0)]


def test_with_quote_none_quotes_are_text() -> None:
    data = b'a"\rb\r"1\r2'

    assert rows(data, headers=False, quoting=csv.QUOTE_NONE) == [(['a"'], 0), (["b"], 1), (['"1'], 2), (["2"], 3)]


@pytest.mark.parametrize("cursor", [-1, 1.0, "1", True, [1], {}])
def test_a_cursor_that_is_no_index_is_refused(cursor: Any) -> None:
    with pytest.raises(InvalidCursor, match=r"the cursor of csv_rows\('<BytesIO>'\) is .*whole number from 0 up"):
        rows(PEOPLE, cursor)
    with pytest.raises(InvalidCursor, match=r"the cursor of csv_batches"):
        batches(PEOPLE, cursor)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"headers": "a,b"}, TypeError, r"headers is 'a,b'; write True, False, or a list"),
        ({"headers": [1]}, TypeError, r"headers is \[1]"),
        ({"headers": None}, TypeError, r"headers is None"),
        ({"headers": []}, ValueError, r"headers has no names; write headers=False"),
        ({"headers": ["a", "a"]}, ValueError, r"headers has \['a'] twice"),
        ({"delimiter": ";;"}, TypeError, r"delimiter"),
        ({"dialect": "unheard-of"}, csv.Error, r"unknown dialect"),
        ({"separator": ";"}, TypeError, r"separator"),
        ({"encoding": "unheard-of"}, LookupError, r"unheard-of"),
        ({"encoding": "cp500"}, ValueError, r"encoding='cp500' is neither compatible with ASCII nor UTF-16 or UTF-32"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused_at_once(
    options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        csv_rows(io.BytesIO(PEOPLE), **options)


@pytest.mark.parametrize("size", [0, -1, 1.0, True, "5"])
def test_a_size_that_is_none_is_refused(size: Any) -> None:
    with pytest.raises(ValueError, match=r"csv_batches: size is .*whole number from 1 up"):
        csv_batches(io.BytesIO(PEOPLE), size=size)


def first_error(data: bytes, **options: Any) -> tuple[list[int], str]:
    """The cursors before a mistake, and what is said of it."""
    cursors: list[int] = []
    with pytest.raises((csv.Error, UnicodeError)) as caught:
        cursors.extend(cursor for _, cursor in csv_rows(io.BytesIO(data), **options).open())
    return cursors, str(caught.value)


def test_a_quote_that_is_never_closed_is_named_and_does_not_swallow_the_rest() -> None:
    cursors, message = first_error(b'a,b\n1,2\n3,"4\n5,6\n')

    assert cursors == [0]
    assert message.startswith("<BytesIO>: row 1 (the first one is 0)")
    assert message.endswith(
        "the file ends in the middle of it: a quote is not closed; correct the file, or write quoting=csv.QUOTE_NONE "
        "if its quotes are text"
    )


@pytest.mark.parametrize("data", [b'"a,b\n1,2\n', b'"'], ids=["in the header", "alone"])
def test_a_header_that_never_ends_is_named(data: bytes) -> None:
    _, message = first_error(data)

    assert message.startswith("<BytesIO>: the header")


def test_a_quote_that_is_not_closed_is_named_by_batches_too() -> None:
    pairs = csv_batches(io.BytesIO(b'a,b\n1,2\n3,4\n5,6\n7,"8\n9,0\n'), size=2).open()

    assert next(pairs)[1] == 0
    with pytest.raises(csv.Error, match=r"<BytesIO>: row 3 \(the first one is 0\)"):
        next(pairs)


def test_a_quote_that_is_not_closed_is_named_when_it_stands_before_the_cursor() -> None:
    with pytest.raises(csv.Error, match=r"row 1 .*the file ends in the middle of it"):
        rows(b'a\n1\n"2\n3\n4\n', 2)


def test_an_escape_at_the_end_of_the_file_is_named() -> None:
    _, message = first_error(b"a\n1\\", escapechar="\\")

    assert "the file ends in the middle of it" in message


def test_a_field_beyond_the_limit_is_named() -> None:
    cursors, message = first_error(b"a\n1\n2\n" + b"x" * 200_000)

    assert cursors == [0, 1]
    assert message.startswith("<BytesIO>: row 2 (the first one is 0), at byte 6, cannot be read: field larger than")
    assert message.endswith("if it is meant, raise the limit by csv.field_size_limit()")


def test_a_carriage_return_outside_of_quotes_is_named() -> None:
    cursors, message = first_error(b"a,b\n1,x\n2,y\rz\n")

    assert cursors == [0]
    assert message.startswith("<BytesIO>: row 1 (the first one is 0), at byte 8, cannot be read: new-line character")
    assert message.endswith("there is a carriage return outside of quotes: correct the file")


def test_a_strict_dialect_is_as_strict_as_ruby() -> None:
    cursors, message = first_error(b'a,b\n1,2\n3,"4"5\n', strict=True)

    assert cursors == [0]
    assert "row 1 (the first one is 0), at byte 8, cannot be read: ',' expected after '\"'; correct the file" in message


def test_a_line_without_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONGEST_LINE", 200_000)

    _, message = first_error(b"a,b\n1,2\n" + b"x," * 200_000)

    assert message == (
        "<BytesIO>: row 1 (the first one is 0) cannot be read: the line at byte 8 is longer than 200000 bytes; "
        "is it a CSV file?"
    )


def test_what_is_not_in_the_encoding_is_named_with_its_place() -> None:
    cursors, message = first_error(b"a,b\n1,x\n2,\xe9\n3,z\n")

    assert cursors == [0]
    assert message == (
        "'utf-8' codec can't decode byte 0xe9 in position 2: invalid continuation byte: row 1 (the first one is 0) of "
        '<BytesIO>, at byte 10, is not utf-8; say what it is: encoding="cp1252", for instance'
    )


def test_the_rows_of_a_batch_before_what_is_not_in_the_encoding_are_counted() -> None:
    with pytest.raises(UnicodeDecodeError, match=r"row 1 \(the first one is 0\) of <BytesIO>, at byte 10"):
        batches(b"a,b\n1,x\n2,\xe9\n3,z\n")


def test_what_was_skipped_is_counted_when_a_row_after_it_is_named() -> None:
    with pytest.raises(UnicodeDecodeError, match=r"row 3 \(the first one is 0\)"):
        rows(b"a\n1\n2\n3\n\xe9\n", 2)


def test_a_file_in_utf_16_is_recognised_when_it_is_not_utf_8() -> None:
    _, message = first_error("a,b\n1,2\n".encode("utf-16"))

    assert 'the header of <BytesIO>, at byte 0, is not utf-8; write encoding="utf-16", for instance' in message


def test_the_last_character_of_utf_16_may_not_be_cut_off() -> None:
    cursors, message = first_error("a,b\n1,2\n3,4".encode("utf-16-le")[:-1], encoding="utf-16-le")

    assert cursors == [0]
    assert "truncated data: row 1 (the first one is 0)" in message


def test_a_source_waits_for_a_disk_and_a_row_is_not_done_again_for_what_comes_after_it() -> None:
    one, many = csv_rows(io.BytesIO(b"")), csv_batches(io.BytesIO(b""))

    assert (one.blocking, one.one_by_one, one.codec) == (True, True, None)
    assert (many.blocking, many.one_by_one, many.codec) == (True, False, None)


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"], ids=["without BOM", "with BOM"])
@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "utf-8-sig"])
def test_the_byte_order_mark_of_utf_8_is_dropped(encoding: str, bom: bytes) -> None:
    assert rows(bom + '"ä",b\n1,ü\n'.encode(), encoding=encoding) == [({"ä": "1", "b": "ü"}, 0)]


#: A, and characters whose UTF-16 has the bytes of a line end, in one of them or across two.
TRICKY = "A\u0a0a\u0a00\u000b\u0d00\u0d0d\u010a\u0a01\u000c\u0d0a\U0001f60a\U00010a0d"


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"], ids=["LF", "CR LF", "CR"])
@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("utf-16", "utf-16"),
        ("utf-16", "utf-16-le"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("utf-32", "utf-32"),
        ("utf-32", "utf-32-le"),
        ("utf-32-le", "utf-32-le"),
        ("utf-32-be", "utf-32-be"),
    ],
)
@pytest.mark.parametrize("chunk", [1, 3, 7, 65536])
def test_utf_16_and_utf_32_are_divided_between_characters(
    encoding: str, written: str, newline: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "CHUNK_SIZE", chunk)
    monkeypatch.setattr("pyqik.enumerators.files.HEAD_SIZE", 64)
    data = newline.join(["a,b", f"{TRICKY},2", "", f'3,"{TRICKY}\n\r"', ""]).encode(written)

    assert rows(data, encoding=encoding) == [({"a": TRICKY, "b": "2"}, 0), ({"a": "3", "b": f"{TRICKY}\n\r"}, 2)]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("family", [True, False], ids=["named as a family", "named exactly"])
def test_a_byte_order_mark_says_the_order_and_is_dropped(encoding: str, family: bool) -> None:
    data = "\ufeffa,b\n1,2\n".encode(encoding)

    assert rows(data, encoding=encoding[:6] if family else encoding) == [({"a": "1", "b": "2"}, 0)]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "€ä"),
        ("latin-1", "é"),
        ("shift_jis", "表ソ能"),
        ("gb18030", "中😀"),
        ("big5", "許功"),
        ("koi8-r", "Ж"),
    ],
)
def test_any_encoding_that_is_compatible_with_ascii_will_do(encoding: str, text: str) -> None:
    assert rows(f"a,b\n1,{text}\n".encode(encoding), encoding=encoding) == [({"a": "1", "b": text}, 0)]
