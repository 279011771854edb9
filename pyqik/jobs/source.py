"""What a loop goes over: a `Source`, whose items have cursors, so that it can be opened in the middle; and codecs, for
cursors that JSON does not hold as they are.
"""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable
from uuid import UUID

from pyqik.core.errors import ContinueIn, InvalidCursor
from pyqik.wire.iteration import decode_cursor, encode_cursor

Item_co = TypeVar("Item_co", covariant=True)
C = TypeVar("C")
T = TypeVar("T")

#: What tells a source, beside the cursor, where its item is: a byte offset, for instance. Plain JSON.
Bookmark: TypeAlias = Any


class Source(ABC, Generic[Item_co, C]):
    """A lazy sequence of items, each with a cursor; opening it reads nothing yet.

    A cursor is that of the item that comes next, as in Sidekiq: opened at it, a source begins with that item, or with
    the one after it, should it be gone.
    """

    #: How its cursors are written; None for what JSON gives back as it was.
    codec: Codec[C] | None = None
    #: Whether asking for the next item may wait for a disk or a server: an async job then asks in a thread.
    blocking: bool = False
    #: Whether a cursor always names the same single item. If the source fails after an item that is done, that item is
    #: then left out the next time. A batch is done again instead: it may be made of other items by then.
    one_by_one: bool = False

    @abstractmethod
    def open(self, cursor: C | None = None) -> Iterator[tuple[Item_co, C]]:
        """Pairs of item and cursor, from `cursor` on; from the first one if that is None.

        Raises: InvalidCursor, at the latest when the first pair is asked for, for one that cannot be of this source.
        """

    def reopen(self, cursor: C, bookmark: Bookmark) -> Iterator[tuple[Item_co, C]]:
        """The same as `open`, with what `Bookmarking.bookmark` said at some item: at this one or at an earlier one."""
        return self.open(cursor)


@runtime_checkable
class Bookmarking(Protocol):
    """Pairs that know more about the place of an item than its cursor says."""

    def bookmark(self) -> Bookmark:
        """That of the pair that was given last. It is asked for at each write of the state, and must be quick."""
        ...


@runtime_checkable
class RunningAhead(Protocol):
    """Pairs whose cursor is kept elsewhere, and may be ahead of all that the state of the job says after a crash."""

    #: Always true.
    runs_ahead: bool


@dataclass(frozen=True, slots=True)
class FileForm:
    """How a CSV file is written: what it takes to write rows like its own."""

    #: The bytes of the header without its line end, and those before it; empty if there is none.
    header: bytes = b""
    mark: bytes = b""
    encoding: str = "utf-8"
    end: bytes = b"\n"
    delimiter: str = ","
    quotechar: str | None = '"'
    quoting: int = csv.QUOTE_MINIMAL
    escapechar: str | None = None
    doublequote: bool = True
    skipinitialspace: bool = False
    #: How many columns there are; 0 if that is not known.
    columns: int = 0


class FileRow(NamedTuple):
    """One row of a file. `number` is that which a spreadsheet shows: the first line has 1. `text` has no line end."""

    number: int
    text: bytes


@runtime_checkable
class RowGiving(Protocol):
    """Pairs whose items are the rows of a file, one by one."""

    #: How many it has given.
    given: int

    def row(self) -> FileRow:
        """The one that was given last."""
        ...

    def form(self) -> FileForm:
        """How the file is written."""
        ...


class Throttled(ContinueIn):
    """What an enumerator raises in the place of an item, for the job to go on at `cursor` in some seconds."""

    def __init__(self, seconds: float, cursor: Any) -> None:
        super().__init__(seconds)
        self.cursor: Final = cursor


@dataclass(frozen=True, slots=True)
class Codec(Generic[T]):
    """How a value that JSON does not hold is written, and read again: `decode(encode(value)) == value`."""

    encode: Callable[[T], Any]
    decode: Callable[[Any], T]


def cursor_text(cursor: T | None, codec: Codec[T] | None, what: str) -> bytes:
    """The JSON text of a cursor. Raises: InvalidCursor, naming `what`, if it would not come back as it was."""
    return encode_cursor(cursor if codec is None or cursor is None else codec.encode(cursor), what)


def cursor_of(text: bytes, codec: Codec[T] | None) -> T:
    """The cursor that such a text stands for. Raises: InvalidCursor if the codec cannot read it."""
    value: T = decode_cursor(text)
    if codec is None:
        return value
    try:
        return codec.decode(value)
    except Exception as error:
        raise InvalidCursor(f"the saved cursor {value!r} does not fit its codec: {error}") from error


DATE: Final[Codec[date]] = Codec(date.isoformat, date.fromisoformat)
DATETIME: Final[Codec[datetime]] = Codec(datetime.isoformat, datetime.fromisoformat)
DECIMAL: Final[Codec[Decimal]] = Codec(str, Decimal)
UUID_TEXT: Final[Codec[UUID]] = Codec(str, UUID)


def tuple_of(*parts: Codec[Any] | None) -> Codec[tuple[Any, ...]]:
    """A codec for tuples of this length; None for a part that JSON holds as it is: `tuple_of(None, DATE)`."""

    def encode(value: tuple[Any, ...]) -> list[Any]:
        return [part.encode(each) if part else each for part, each in zip(parts, value, strict=True)]

    def decode(value: Any) -> tuple[Any, ...]:
        return tuple(part.decode(each) if part else each for part, each in zip(parts, value, strict=True))

    return Codec(encode, decode)
