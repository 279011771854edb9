"""The rows of an import that failed, with their messages: as they are kept, and as a CSV file to correct and give back.

They stand in blocks, each what one write of the state has added: packed, and compressed, as rows are much alike.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, Final, NamedTuple

import msgspec

from pyqik.jobs.blocking import warn_if_loop_runs
from pyqik.jobs.source import FileForm
from pyqik.jobs.storage import LOCAL
from pyqik.stores.checksums import crc32c
from pyqik.stores.targets import Finished, Target
from pyqik.wire.replies import whole

#: Bytes of a block before it was compressed: Redis may hold anything.
_LARGEST_BLOCK: Final = 512 * 1024 * 1024

#: How a spreadsheet takes the beginning of a cell for a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


class RowMessage(NamedTuple):
    """What is wrong with a row; `field` is the column that is meant, if one is."""

    text: str
    field: str | None = None

    def __str__(self) -> str:
        return self.text if self.field is None else f"{self.field}: {self.text}"


@dataclass(frozen=True, slots=True)
class RowError:
    """A row that failed. `row` is its number, as a spreadsheet shows it, or as the job has given it."""

    row: int
    messages: tuple[RowMessage, ...]


class Entry(msgspec.Struct, array_like=True):
    """What one call of `fail` has said of a row. `text` are the bytes of the row, if they are known."""

    row: int
    messages: list[tuple[str, str | None]]
    text: bytes | None = None


_decode_block = msgspec.msgpack.Decoder(list[Entry]).decode
_encode_block = msgspec.msgpack.Encoder().encode


def block_of(entries: list[Entry]) -> bytes:
    """What is kept of them."""
    return zlib.compress(_encode_block(entries), 6)


def entries_of(block: bytes) -> list[Entry]:
    """What a block holds. Raises: ValueError for what is none."""
    decompressor = zlib.decompressobj()
    try:
        packed = decompressor.decompress(block, _LARGEST_BLOCK)
        if not decompressor.eof:
            raise ValueError("a block of failed rows is cut off, or too large")
        return _decode_block(packed)
    except (zlib.error, msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"a block of failed rows cannot be read: {error}") from None


def form_text(form: FileForm) -> bytes:
    """A form as it is kept."""
    return json.dumps(asdict(form), default=lambda value: value.decode("latin-1")).encode()


def form_of(text: bytes | None) -> FileForm | None:
    """The form that such a text stands for. Raises: ValueError."""
    if not text:
        return None
    try:
        fields: dict[str, Any] = json.loads(text)
        for name in ("header", "mark", "end"):
            fields[name] = fields[name].encode("latin-1")
        form = FileForm(**fields)
        "".encode(form.encoding)
        csv.writer(io.StringIO(), **dialect_of(form))
    except (TypeError, ValueError, AttributeError, KeyError, LookupError, RecursionError, csv.Error) as error:
        raise ValueError(f"the form of a file cannot be {text[:50]!r}: {error}") from None
    return form


class FailedRows:
    """The failed rows of one job, in the order of their numbers, as they were when this was asked for."""

    def __init__(
        self,
        entries: Iterable[Entry],
        form: FileForm | None,
        done_count: int,
        target: Callable[[str], Target] = LOCAL.target,
    ) -> None:
        self._target = target
        self._rows: dict[int, list[Entry]] = {}
        for entry in entries:
            self._rows.setdefault(entry.row, []).append(entry)
        self._form = form
        #: How many rows have failed; and how many were gone over, and have not.
        self.failed_count: Final = len(self._rows)
        self.done_count: Final = done_count

    @classmethod
    def read(cls, rows: Mapping[bytes, bytes], blocks: Mapping[bytes, bytes]) -> FailedRows:
        """Those in the hashes `rows/<jid>` and `errors/<jid>`. Raises: ValueError for what no job has written there."""
        ordered = sorted((int(number), block) for number, block in blocks.items())
        entries = [entry for _, block in ordered for entry in entries_of(block)]
        return cls(entries, form_of(rows.get(b"form")), whole(rows.get(b"done")))

    def errors(self, limit: int | None = None) -> list[RowError]:
        """What is wrong, row by row; that of the first `limit` rows."""
        numbers = sorted(self._rows)[:limit]
        return [RowError(row, tuple(RowMessage(*m) for e in self._rows[row] for m in e.messages)) for row in numbers]

    def failed_csv(self, *, column: str = "errors") -> FailedCsv:
        """These rows as a CSV file, with their messages in one more column, called `column` if there is a header."""
        texts = {
            row: next((entry.text for entry in self._rows[row] if entry.text is not None), None)
            for row in sorted(self._rows)
        }
        return FailedCsv([(texts[error.row], error) for error in self.errors()], self._form, column, self._target)


class FailedCsv:
    """Failed rows as a CSV file, in the bytes of the original: its columns, quotes, encoding and line ends; and in one
    more column what is wrong with each. Where the rows of no file are known, a column has their numbers.
    """

    def __init__(
        self,
        rows: list[tuple[bytes | None, RowError]],
        form: FileForm | None,
        column: str,
        target: Callable[[str], Target] = LOCAL.target,
    ) -> None:
        self._target = target
        self._rows = rows
        self._form = form or FileForm(header=b"row")
        self._column = column

    def __iter__(self) -> Iterator[bytes]:
        """Its lines."""
        form, mark = self._form, self._form.mark
        names = self._fields(form.header) if form.header else []
        width = max(len(names), form.columns)
        if names:
            yield mark + form.header + self._cell(_unlike(names, self._column)) + form.end
            mark = b""
        for text, error in self._rows:
            row = str(error.row).encode(form.encoding) if text is None else text
            missing = max(width - len(self._fields(row)), 0) * form.delimiter.encode(form.encoding)
            messages = "; ".join(map(str, error.messages))
            yield mark + row + missing + self._cell(_harmless(messages)) + form.end
            mark = b""

    def read(self) -> bytes:
        """All of it."""
        return b"".join(self)

    def write_to(self, file: BinaryIO) -> None:
        """Write it into a binary file."""
        file.writelines(self)

    def publish(self, url: str, *, content_type: str = "text/csv", metadata: Mapping[str, str] | None = None) -> None:
        """Have it appear at `url`, as a whole or not at all, in place of what stands there: at a path, or at an object
        of Cloud Storage, "gs://bucket/name". It blocks.

        Raises: ValueError for an address that is none; StoreError.
        """
        warn_if_loop_runs("apublish")
        self._publish(url, content_type, metadata or {})

    async def apublish(
        self, url: str, *, content_type: str = "text/csv", metadata: Mapping[str, str] | None = None
    ) -> None:
        """`publish` for async code."""
        await asyncio.to_thread(self._publish, url, content_type, metadata or {})

    def _publish(self, url: str, content_type: str, metadata: Mapping[str, str]) -> None:
        size = crc = 0
        for line in self:
            size, crc = size + len(line), crc32c(line, crc)
        target = self._target(url)
        target.write(Finished(self.__iter__, size, crc, content_type, metadata), target.generation())

    def _fields(self, row: bytes) -> list[str]:
        # With QUOTE_NONNUMERIC it would want numbers.
        quoting = csv.QUOTE_NONE if self._form.quotechar is None else csv.QUOTE_MINIMAL
        text = row.decode(self._form.encoding, "replace")
        reader = csv.reader(io.StringIO(text, newline=""), **{**dialect_of(self._form), "quoting": quoting})
        return next(reader, [])

    def _cell(self, text: str) -> bytes:
        """The delimiter, and a field of this text."""
        form, out = self._form, io.StringIO()
        if not text:
            return form.delimiter.encode(form.encoding)
        try:
            csv.writer(out, lineterminator="\r\n", **dialect_of(self._form)).writerow([text])
            cell = form.delimiter + out.getvalue().removesuffix("\r\n")
        except csv.Error:
            # Without quotes there is no way to write a delimiter or a line end.
            special = f"{form.delimiter}{form.quotechar or ''}{form.escapechar or ''}\r\n"
            cell = form.delimiter + text.translate({ord(each): " " for each in special})
        return cell.encode(form.encoding, "replace")


def dialect_of(form: FileForm) -> dict[str, Any]:
    """What the `csv` module is to be told."""
    return {
        "delimiter": form.delimiter,
        "quotechar": form.quotechar,
        "quoting": csv.QUOTE_NONE if form.quotechar is None else form.quoting,
        "escapechar": form.escapechar,
        "doublequote": form.doublequote,
        "skipinitialspace": form.skipinitialspace,
    }


def _unlike(names: list[str], name: str) -> str:
    """`name`, or one like it that is not among `names`: it may be the second time that this file comes back."""
    number, free = 1, name
    while free in names:
        number += 1
        free = f"{name} {number}"
    return free


def _harmless(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text
