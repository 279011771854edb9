"""CSV files, row by row or in batches. An interrupted job goes on at a byte offset: what is done is not read again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Literal, TypeAlias, Unpack, overload

from pyqik.enumerators.arrays import index_of
from pyqik.enumerators.csv_reading import Dialect, Format, Reading, uneven
from pyqik.enumerators.files import File, Input, input_of
from pyqik.jobs.source import Bookmark, FileForm, FileRow, Source

#: As `csv.DictReader` has them, and as its types have them: a row that is too short has None for what it lacks, one
#: that is too long has a list of the rest at the key None.
Row: TypeAlias = dict[str | Any, str | Any]


@overload
def csv_rows(
    file: File, *, headers: Literal[True] | Sequence[str] = True, encoding: str = "utf-8", **dialect: Unpack[Dialect]
) -> Source[Row, int]: ...
@overload
def csv_rows(
    file: File, *, headers: Literal[False], encoding: str = "utf-8", **dialect: Unpack[Dialect]
) -> Source[list[str], int]: ...
def csv_rows(
    file: File, *, headers: bool | Sequence[str] = True, encoding: str = "utf-8", **dialect: Unpack[Dialect]
) -> Source[Any, int]:
    """The rows of a CSV file. The cursor is the index of the row, the header not counted: that of Sidekiq.

        for row in pyqik.each(enumerators.csv_rows("gs://imports/customers.csv", delimiter=";")):
            upsert(row["email"])

    `file` is a path, `gs://bucket/object` (needs `pyqik[gcs]`), or a file that was opened, from where it stands on. A
    text file is read as bytes, in its own encoding. What is compressed with gzip is decompressed, whatever its name.
    One that cannot be sought in, such as a pipe, can be gone over once, and is resumed by reading up to the row.

    With `headers` (True: the first line has them) rows are dictionaries as of `csv.DictReader`: what a row lacks is
    None, what it has too much is a list at the key None. Empty names at the end of a header name no column. With
    `headers=False` rows are lists. `dialect` is what `csv.reader` takes: `delimiter`, `quotechar`, `dialect` and so on.
    `encoding` may be any that is compatible with ASCII, UTF-16 or UTF-32; a byte order mark is dropped.

    The file must stay as it is until the job is done: its size, its first 64 KiB, the row at which the job goes on,
    and the generation of an object are compared.

    What is not as in Ruby: a blank line counts as a row there and here, but is not given. An empty field is "", and not
    nil. Two columns of one name are refused, as is a first line without names. Text around quotes, which Ruby refuses,
    is taken unless `strict=True`; so is a line feed outside of quotes in a file of CR LF, where a row ends. A carriage
    return outside of quotes, which Ruby keeps in its field, is refused, unless it stands before a line feed.

    Raises, in the loop: InvalidCursor, SourceChanged; csv.Error for what is no CSV, two columns of one name, no header
    on the first line, and a quote that is not closed; UnicodeDecodeError; OSError; io.UnsupportedOperation.
    """
    return _Rows(input_of(file), Format.of(headers, encoding, dialect))


@overload
def csv_batches(
    file: File,
    *,
    size: int = 100,
    headers: Literal[True] | Sequence[str] = True,
    encoding: str = "utf-8",
    **dialect: Unpack[Dialect],
) -> Source[list[Row], int]: ...
@overload
def csv_batches(
    file: File, *, size: int = 100, headers: Literal[False], encoding: str = "utf-8", **dialect: Unpack[Dialect]
) -> Source[list[list[str]], int]: ...
def csv_batches(
    file: File,
    *,
    size: int = 100,
    headers: bool | Sequence[str] = True,
    encoding: str = "utf-8",
    **dialect: Unpack[Dialect],
) -> Source[Any, int]:
    """The rows of a CSV file in lists of `size`. The cursor is the index of the batch: that of Sidekiq.

    Blank lines count, but are left out: such a batch is shorter, and one of nothing else is not given. The size is part
    of what a cursor means: after a change of it an interrupted job goes on elsewhere. Everything else is as of
    `csv_rows`.
    """
    if type(size) is not int or size < 1:
        raise ValueError(f"csv_batches: size is {size!r}; write a whole number from 1 up")
    return _Batches(input_of(file), Format.of(headers, encoding, dialect), size)


class _Csv(Source[Any, int]):
    blocking = True
    _function = ""

    def __init__(self, file: Input, format_: Format, size: int = 1) -> None:
        self._file = file
        self._format = format_
        self._size = size

    def open(self, cursor: int | None = None) -> Iterator[tuple[Any, int]]:
        return self.reopen(cursor, None)

    def reopen(self, cursor: int | None, bookmark: Bookmark) -> Iterator[tuple[Any, int]]:
        """The same as `open`. A bookmark that is none, or of another way to divide the file into rows, is ignored.

        Raises, in the loop: SourceChanged.
        """
        first = index_of(cursor, f"{self._function}({self._file.name!r})")
        reading = Reading(self._file, self._format, first * self._size, bookmark)
        return self._given(self._pairs(reading), reading)

    def _given(self, pairs: Iterator[tuple[Any, int]], reading: Reading) -> _Pairs:
        return _Pairs(pairs, reading)

    def _pairs(self, reading: Reading) -> Iterator[tuple[Any, int]]:
        raise NotImplementedError


class _Rows(_Csv):
    _function = "csv_rows"
    one_by_one = True

    def _given(self, pairs: Iterator[tuple[Any, int]], reading: Reading) -> _Pairs:
        return _RowPairs(pairs, reading)

    def _pairs(self, reading: Reading) -> Iterator[tuple[Any, int]]:
        with reading:
            reader, lines, names = reading.start()
            width = len(names or ())
            index, first = reading.row, reader.line_num
            for row in reader:
                last = reader.line_num
                if reading.ended:
                    reading.check_end(row)
                    return
                if row:
                    lines.row = index, first, last
                    if names is None:
                        yield row, index
                    elif len(row) == width:
                        yield dict(zip(names, row, strict=False)), index
                    else:
                        yield uneven(names, row), index
                else:
                    lines.needed = last
                first = last
                index += 1
                reading.row = index


class _Batches(_Csv):
    _function = "csv_batches"

    def _pairs(self, reading: Reading) -> Iterator[tuple[Any, int]]:
        with reading:
            reader, lines, names = reading.start()
            while True:
                begin = reading.row
                lines.needed = first = reader.line_num
                rows = list(islice(reader, 1))
                last = reader.line_num
                try:
                    rows.extend(islice(reader, self._size - 1))
                finally:
                    reading.row += len(rows)
                ended = reading.ended
                if ended and rows:
                    reading.row -= 1
                    reading.check_end(rows.pop())
                given = [row for row in rows if row]
                if given:
                    lines.row = begin, first, last
                    yield given if names is None else self._named(names, given), begin // self._size
                if ended:
                    return

    @staticmethod
    def _named(names: Sequence[str], rows: list[list[str]]) -> list[Row]:
        width = len(names)
        return [
            dict(zip(names, row, strict=False)) if len(row) == width else uneven(names, row)  # as in `_Rows`
            for row in rows
        ]


class _Pairs(Iterator[tuple[Any, int]]):
    """Pairs that also say where their item is in the file."""

    __slots__ = ("_pairs", "_reading")

    def __init__(self, pairs: Iterator[tuple[Any, int]], reading: Reading) -> None:
        self._pairs = pairs
        self._reading = reading

    def __next__(self) -> tuple[Any, int]:
        return next(self._pairs)

    def bookmark(self) -> Bookmark:
        """See `Bookmarking`; before the first pair, that with which the file was reopened."""
        return self._reading.bookmark()

    def close(self) -> None:
        """Close the file, if it was opened here. The bookmark remains."""
        self._pairs.close()  # type: ignore[attr-defined]  # it is a generator


class _RowPairs(_Pairs):
    """Those of single rows; see `pyqik.jobs.source.RowGiving`."""

    __slots__ = ("given",)

    def __init__(self, pairs: Iterator[tuple[Any, int]], reading: Reading) -> None:
        super().__init__(pairs, reading)
        self.given = 0

    def __next__(self) -> tuple[Any, int]:
        pair = next(self._pairs)
        self.given += 1
        return pair

    def row(self) -> FileRow:
        """The one that was given last, as it stands in the file."""
        return self._reading.current()

    def form(self) -> FileForm:
        """How the file is written."""
        return self._reading.form()
