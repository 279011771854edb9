"""One pass over a CSV file: the header, the way to the row where it begins, bookmarks, and errors that say where."""

from __future__ import annotations

import codecs
import csv
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypedDict

from pyqik.core.errors import PyqikError, SourceChanged
from pyqik.enumerators.files import Input, Stream
from pyqik.enumerators.lines import LONGEST_SAMPLE, Lines, Malformed, Writing, check_encoding, writing_of
from pyqik.jobs.source import Bookmark, FileForm, FileRow

if TYPE_CHECKING:
    from _csv import Reader

#: A number in a bookmark is smaller: it comes from Redis, where anybody may have written it.
_LIMIT: Final = 2**53
_IDENTITY: Final = ("size", "generation")
_PLACE: Final = ("row", "offset", "length", "crc", "head", "format")

_NOT_CLOSED: Final = ": a quote is not closed; correct the file, or write quoting=csv.QUOTE_NONE if its quotes are text"


class Dialect(TypedDict, total=False):
    """The options of `csv.reader`."""

    dialect: str | csv.Dialect | type[csv.Dialect]
    delimiter: str
    doublequote: bool
    escapechar: str | None
    lineterminator: str
    quotechar: str | None
    quoting: int
    skipinitialspace: bool
    strict: bool


@dataclass(frozen=True, slots=True)
class Format:
    """What the author says of a file. `names` are those of the columns, if they are not in the file."""

    has_header: bool
    names: tuple[str, ...] | None
    encoding: str
    options: Mapping[str, Any]
    quotechar: str | None
    #: One number for all that decides where rows begin and end.
    crc: int

    @classmethod
    def of(cls, headers: bool | Sequence[str], encoding: str, options: Mapping[str, Any]) -> Format:
        """Raises: TypeError, ValueError, LookupError or csv.Error for what cannot be meant."""
        names = None if isinstance(headers, bool) else _column_names(headers)
        dialect = csv.reader((), **options).dialect
        quotechar = None if dialect.quoting == csv.QUOTE_NONE else dialect.quotechar
        name = check_encoding(encoding)
        deciding = (headers is True, name, dialect.delimiter, quotechar, dialect.escapechar, dialect.doublequote)
        crc = zlib.crc32(repr((*deciding, dialect.skipinitialspace)).encode("utf-8", "surrogatepass"))
        return cls(headers is True, names, name, options, quotechar, crc)


def _column_names(headers: Sequence[str]) -> tuple[str, ...]:
    if isinstance(headers, str) or not isinstance(headers, Sequence) or not all(isinstance(n, str) for n in headers):
        raise TypeError(f'headers is {headers!r}; write True, False, or a list of names such as ["id", "email"]')
    if not headers:
        raise ValueError("headers has no names; write headers=False for rows that are lists")
    if twice := _twice(headers):
        raise ValueError(f"headers has {twice!r} twice; each column needs a name of its own")
    return tuple(headers)


def _twice(names: Sequence[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if names.count(name) > 1]


def uneven(names: Sequence[str], row: list[str]) -> dict[Any, Any]:
    """A row with more or fewer fields than there are columns, as `csv.DictReader` has it."""
    if len(row) < len(names):
        return dict(zip_longest(names, row))
    return {**dict(zip(names, row, strict=False)), None: row[len(names) :]}


class Reading:
    """See the module's docstring. A context manager: it explains errors, and closes the file."""

    def __init__(self, file: Input, format_: Format, target: int, bookmark: Bookmark) -> None:
        self._file = file
        self._format = format_
        self._target = target
        self._bookmark = bookmark
        #: The index of the row that comes next; for an error, of that which could not be read.
        self.row = 0
        #: Nothing follows the row that was given last, which is none itself: see `check_end`.
        self.ended = False
        self._in_header = False
        self._header_text = b""
        self._columns = 0
        self._stream: Stream | None = None
        self._reader: Reader | None = None
        self._lines: Lines | None = None
        self._head_crc: int | None = None

    def start(self) -> tuple[Reader, Lines, Sequence[str] | None]:
        """Open the file and go to the row to begin with: what gives rows, what gives it lines, and the columns' names.

        Raises: SourceChanged, csv.Error, UnicodeDecodeError, OSError.
        """
        stream = self._stream = self._file.open()
        place = _place_in(self._bookmark)
        if place is not None:
            self._check_same_file(stream, place)
        # Text that came as such is UTF-8 by now, and that of a text file is in an encoding of its own.
        encoding = "utf-8" if stream.is_text else check_encoding(self._file.encoding or self._format.encoding)
        writing = writing_of(stream.head, encoding, self._file.errors, self._format.quotechar)
        reader, lines = self._read(stream, writing, writing.start, stream.head[writing.start :])
        names = self._header(reader, lines) if self._format.has_header else self._format.names
        self._columns = len(names or ())
        if place is not None and self._leads_forward(stream, place):
            reader, lines = self._jump(stream, writing, place)
        for row in islice(reader, min(self._target - self.row, sys.maxsize)):
            if self.ended:
                self.check_end(row)
                break
            self.row += 1
            lines.needed = reader.line_num
        return reader, lines, names

    def check_end(self, last: list[str]) -> None:
        """An empty line is given after the last one: if no empty row comes out, it has become part of a longer one."""
        if last:
            raise Malformed(f"the file ends in the middle of it{_NOT_CLOSED}")

    def bookmark(self) -> Bookmark:
        """Where the row is that `Lines.row` names; before there is one, the bookmark that was given."""
        mark = self._lines.mark() if self._lines is not None else None
        if mark is None or self._stream is None:
            return self._bookmark
        place = (*mark, self._crc_of_head(self._stream), self._format.crc)
        return dict(zip(_PLACE, place, strict=True)) | self._stream.identity

    def current(self) -> FileRow:
        """The row that `Lines.row` names. Needs a row that was given."""
        assert self._lines is not None
        assert self._lines.row is not None
        index, first, last = self._lines.row
        text = self._lines.bytes_of(first, last)
        return FileRow(index + 1 + int(self._format.has_header), text.removesuffix(self._lines.end_of(text)))

    def form(self) -> FileForm:
        """How the file is written, as far as it is known when the first row has been given."""
        assert self._lines is not None
        assert self._stream is not None
        dialect = csv.reader((), **self._format.options).dialect
        return FileForm(
            self._header_text.removesuffix(self._lines.end_of(self._header_text)),
            self._stream.head[: self._lines.writing.start],
            self._lines.writing.codec,
            self._lines.end_of(self._header_text) or self._lines.end_in(self._stream.head),
            dialect.delimiter,
            self._format.quotechar,
            dialect.quoting,
            dialect.escapechar,
            bool(dialect.doublequote),
            bool(dialect.skipinitialspace),
            self._columns,
        )

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if isinstance(error, Exception) and not isinstance(error, PyqikError):
                self._explain(error)
        finally:
            # It refers to this object.
            self._reader = None
            if self._stream is not None:
                self._stream.close()

    def _read(self, stream: Stream, writing: Writing, offset: int, data: bytes) -> tuple[Reader, Lines]:
        self._lines = Lines(stream, writing, offset, data)
        self._reader = csv.reader(chain(self._lines, self._end()), **self._format.options)
        return self._reader, self._lines

    def _end(self) -> Iterator[str]:
        self.ended = True
        yield ""

    def _header(self, reader: Reader, lines: Lines) -> Sequence[str]:
        self._in_header = True
        names = next(reader)
        self._header_text = lines.bytes_of(0, reader.line_num)
        if self.ended:
            self.check_end(names)
        elif not any(names):
            raise Malformed("its first line is blank; remove it, or write the names with headers=[...]")
        while names and not names[-1]:
            names.pop()
        if twice := _twice(names):
            raise Malformed(
                f"more than one column is called {', '.join(map(repr, twice))}; rename them, or write the names with "
                "headers=[...], which makes a row of the first line"
            )
        self._in_header = False
        return names

    def _check_same_file(self, stream: Stream, place: Mapping[str, int]) -> None:
        for key in _IDENTITY:
            was, is_now = place.get(key), stream.identity.get(key)
            if was is not None and is_now is not None and was != is_now:
                raise self._changed(f"its {key} was {was} and is {is_now}")
        if place["head"] != self._crc_of_head(stream):
            raise self._changed("its beginning is another one")

    def _leads_forward(self, stream: Stream, place: Mapping[str, int]) -> bool:
        """Whether rows are counted as when the bookmark was set, and it saves reading: the beginning has been read."""
        same_rows = place["format"] == self._format.crc and place["row"] <= self._target
        return same_rows and place["offset"] >= stream.position

    def _jump(self, stream: Stream, writing: Writing, place: Mapping[str, int]) -> tuple[Reader, Lines]:
        row, offset = place["row"], place["offset"]
        stream.forward(offset)
        data = stream.read_fully(place["length"])
        if zlib.crc32(data) != place["crc"]:
            raise self._changed(f"row {row}, which began at byte {offset}, is another one")
        self.row = row
        return self._read(stream, writing, offset, data)

    def _changed(self, difference: str) -> SourceChanged:
        return SourceChanged(
            f"{self._file.name} is not the file that this job was interrupted in: {difference}; put that one back, or "
            "push a new job for this one"
        )

    def _crc_of_head(self, stream: Stream) -> int:
        if self._head_crc is None:
            self._head_crc = zlib.crc32(stream.head)
        return self._head_crc

    def _explain(self, error: Exception) -> None:
        """Say which row of which file it was. Raises: one of the same kind, if its text cannot be changed."""
        what = "the header" if self._in_header else f"row {self.row} (the first one is 0)"
        if isinstance(error, UnicodeDecodeError):
            place = self._place_of(0, error.start)
            hint = 'write encoding="utf-16"' if self._begins_as_utf_16() else 'say what it is: encoding="cp1252"'
            reason = f"{error.reason}: {what} of {self._file.name}{place} is not {error.encoding}; {hint}, for instance"
            raise UnicodeDecodeError(error.encoding, error.object, error.start, error.end, reason) from error
        if isinstance(error, csv.Error):
            if not isinstance(error, Malformed):
                what += self._place_of(-1, 0)
            raise csv.Error(f"{self._file.name}: {what} cannot be read: {error}{_way_out(error)}") from error
        if self._stream is not None:
            error.add_note(f"while reading {what} of {self._file.name}")

    def _place_of(self, line: int, byte: int) -> str:
        """Where the line is that is `line` after that which comes next, and its `byte`."""
        if self._reader is None or self._lines is None:
            return ""
        offset = self._lines.offset_of(self._reader.line_num + line)
        return "" if offset is None else f", at byte {offset + byte},"

    def _begins_as_utf_16(self) -> bool:
        return self._stream is not None and self._stream.head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


def _place_in(bookmark: Bookmark) -> dict[str, int] | None:
    """What a bookmark says, as far as it is one: it may come from anybody who writes to Redis."""
    if not isinstance(bookmark, dict):
        return None
    place = {key: bookmark.get(key) for key in (*_PLACE, *_IDENTITY)}
    known = {key: value for key, value in place.items() if type(value) is int and 0 <= value < _LIMIT}
    complete = all(key in known for key in _PLACE)
    return known if complete and 0 < known["length"] <= LONGEST_SAMPLE else None


def _way_out(error: csv.Error) -> str:
    message = str(error)
    if isinstance(error, Malformed):
        return ""
    if "field limit" in message:
        return "; a quote that is not closed reads like that; if it is meant, raise the limit by csv.field_size_limit()"
    if "new-line character" in message:
        return "; there is a carriage return outside of quotes: correct the file"
    if "end of data" in message:
        return _NOT_CLOSED
    return "; correct the file, or say how it is written: delimiter=, quotechar=, escapechar="
