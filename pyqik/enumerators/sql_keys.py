"""The key by which a query is read: its form, its cursors, and whether the rows' keys can be relied on.

A row whose key is NULL is in no batch, and of two rows with one key a resumed job could do one only, or both again:
what could lose or repeat a row is an error here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import islice, pairwise
from operator import itemgetter, lt
from typing import Any, Final, TypeAlias
from uuid import UUID

from pyqik.core.errors import InvalidCursor
from pyqik.jobs.source import Codec, tuple_of

#: One for the key, or one for each of its columns; None for what JSON holds as it is.
Codecs: TypeAlias = Codec[Any] | Sequence[Codec[Any] | None] | None

_IDENTIFIER: Final = re.compile(r"[^\W\d]\w*")
_PLAIN: Final = frozenset({int, str, bool})
_READY: Final[Mapping[type, str]] = {date: "DATE", datetime: "DATETIME", Decimal: "DECIMAL", UUID: "UUID_TEXT"}
# Python and every database agree on their order. On that of text they do not, nor on that of a UUID.
_NUMBERS: Final = frozenset({int, bool, Decimal})
_ORDERED: Final = (_NUMBERS, frozenset({date}), frozenset({datetime}))


class Key:
    """See the module's docstring. Raises: TypeError, ValueError for what cannot be a key, or does not go with it."""

    def __init__(self, key: str | Sequence[str], codec: Codecs) -> None:
        self._single = isinstance(key, str)
        self.names: tuple[str, ...] = (key,) if isinstance(key, str) else tuple(key)
        for name in self.names:
            if not isinstance(name, str) or not _IDENTIFIER.fullmatch(name):
                raise ValueError(f"the key has {name!r}; write the name of a column of the query's result, such as id")
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f'the key is {key!r}; write one column, or some different ones: key=("shop_id", "id")')
        self._codecs = self._checked(codec)
        #: How its cursors are written.
        self.codec: Codec[Any] | None = self._codecs[0] if self._single else _list_of(self._codecs)
        #: The cursor of a row; there once `find` has been called.
        self.of: Callable[[Sequence[Any]], Any] = itemgetter(0)

    def _checked(self, codec: Codecs) -> tuple[Codec[Any] | None, ...]:
        if self._single and (codec is None or isinstance(codec, Codec)):
            return (codec,)
        if not self._single and codec is None:
            return (None,) * len(self.names)
        if not self._single and isinstance(codec, (tuple, list)) and len(codec) == len(self.names):
            return tuple(codec)
        wanted = "one" if self._single else f"a tuple of {len(self.names)}, as in codec=(None, DATE)"
        raise TypeError(f"codec={codec!r} does not go with the key {self}; write {wanted}")

    def __str__(self) -> str:
        return repr(self.names[0] if self._single else self.names)

    def find(self, columns: Sequence[str]) -> list[str]:
        """How a query calls its columns. Raises: ValueError if it does not have them."""
        found = [_found(name, columns) for name in self.names]
        places = [columns.index(name) for name in found]
        self.of = itemgetter(*places) if self._single or len(places) > 1 else lambda row: (row[places[0]],)
        return found

    # Cursors.

    def checked(self, cursor: Any) -> Any:
        """A cursor that somebody gave, a list as a tuple. Raises: InvalidCursor for what cannot be one."""
        if cursor is None:
            return None
        values = (cursor,) if self._single else tuple(cursor) if isinstance(cursor, (tuple, list)) else ()
        if len(values) != len(self.names) or any(
            codec is None and type(value) not in _PLAIN for codec, value in zip(self._codecs, values, strict=True)
        ):
            wanted = "a number or a string" if self._single else f"a list of {len(self.names)}"
            raise InvalidCursor(f"the cursor is {_shown(cursor)}, and the key {self} needs {wanted}")
        return cursor if self._single else values

    def parts(self, cursor: Any) -> tuple[Any, ...]:
        """The value of each column."""
        return (cursor,) if self._single else cursor

    def check_kin(self, cursor: Any, key: Any) -> None:
        """Raises: InvalidCursor if a cursor that somebody wrote is of another kind than the keys.

        SQLite and MySQL compare even then, and would give no rows, or all of them.
        """
        for ours, theirs in zip(self.parts(cursor), self.parts(key), strict=True):
            if isinstance(ours, str) != isinstance(theirs, str):
                raise InvalidCursor(
                    f"the cursor is {_shown(cursor)}, and the key {self} has values such as {_shown(key)}; it is "
                    "not of this query"
                )

    # Keys.

    def check(self, keys: Sequence[Any], cursor: Any, last: Any) -> None:
        """Check the keys of one batch, which was read from `cursor` on, after the row with `last` (None: the first).

        Raises: InvalidCursor.
        """
        if cursor is not None:
            self.check_kin(cursor, keys[0])
        columns = [keys] if self._single else list(zip(*keys, strict=True))
        kinds = [frozenset(map(type, column)) for column in columns]
        for name, codec, types in zip(self.names, self._codecs, kinds, strict=True):
            self._check_types(name, codec, types)
        self._check_written(keys[0])
        plain = list(map(_plain, keys)) if any(datetime in types for types in kinds) else keys
        if all(any(types <= group for group in _ORDERED) for types in kinds):
            self._check_order(plain, _plain(cursor))
        else:
            self._check_neighbours(plain)
            # A row before or after its place: to the database another one has the same key.
            for known, others in ((last, keys), (cursor, keys[1:])):
                if known is not None and known in others:
                    raise InvalidCursor(
                        f"{self._not_unique(known)} for the database, to which upper and lower case may be the same; "
                        f"{self._way_out()}"
                    )

    def _check_types(self, name: str, codec: Codec[Any] | None, types: Iterable[type]) -> None:
        for kind in types:
            if kind is type(None):
                raise InvalidCursor(self.null())
            if issubclass(kind, float):
                raise InvalidCursor(
                    f"the key {name!r} is a float, which comes back from a driver rounded; order by another column, or "
                    f"by one that the query casts to an exact type"
                )
            if codec is None and kind not in _PLAIN:
                written = _READY.get(kind)
                codecs = ["None" if each != name else f"enumerators.{written}" for each in self.names]
                way_out = "codec=" + (codecs[0] if self._single else f"({', '.join(codecs)})")
                raise InvalidCursor(
                    f"the key {name!r} is of type {kind.__module__}.{kind.__qualname__}, which JSON does not hold; "
                    f"write {way_out if written else 'a codec for it, or select it as text'}"
                )

    def _check_written(self, key: Any) -> None:
        if self.codec is None:
            return
        try:
            read = self.codec.decode(self.codec.encode(key))
        except Exception as error:
            raise InvalidCursor(f"the codec of the key {self} does not take {_shown(key)}: {error}") from error
        if not same(read, key):
            raise InvalidCursor(
                f"the codec of the key {self} makes {_shown(read)} of {_shown(key)}; write one that keeps it as it is"
            )

    def _check_order(self, keys: Sequence[Any], cursor: Any) -> None:
        try:
            if all(map(lt, keys, islice(keys, 1, None))) and (cursor is None or cursor <= keys[0]):
                return
        except (TypeError, ArithmeticError):  # With and without a time zone; NaN.
            pass
        self._check_neighbours(keys)
        raise InvalidCursor(
            f"the rows do not come in the order of the key {self}: near {_shown(keys[0])} the database has another "
            "order, or the cursor is of another type; order by what the driver gives as it is stored"
        )

    def _check_neighbours(self, keys: Sequence[Any]) -> None:
        for before, after in pairwise(keys):
            if before == after:
                raise InvalidCursor(f"{self._not_unique(after)}; {self._way_out()}")

    # What is said of them.

    def null(self) -> str:
        """What is wrong with a key that is NULL."""
        return (
            f"the key {self} is NULL in some row, which no batch would have; leave such rows out, or {self._way_out()}"
        )

    def lost(self, cursor: Any) -> str:
        """What is wrong with a key by which its own row is not found."""
        return (
            f"the key {self} does not find its own row: the one with {_shown(cursor)} comes before this value, as the "
            f"database stores it in another form than it is given; cast it in the query, or {self._way_out()}"
        )

    def _not_unique(self, key: Any) -> str:
        return f"the key {self} is not unique: more than one row has {_shown(key)}"

    def _way_out(self) -> str:
        return 'order by a key that is unique and never NULL, such as key="id" or key=("created_on", "id")'


def same(one: Any, other: Any) -> bool:
    """Whether two cursors are the same; of two times in different zones Python alone does not always say so."""
    return bool(_plain(one) == _plain(other))


def _plain(cursor: Any) -> Any:
    # Within one zone Python compares what the clocks show, which they show twice when they are put back.
    if isinstance(cursor, tuple):
        return tuple(map(_plain, cursor))
    return cursor.astimezone(UTC) if isinstance(cursor, datetime) and cursor.tzinfo is not None else cursor


def _found(name: str, columns: Sequence[str]) -> str:
    if name in columns:
        return name
    # A database may write names that are not quoted in capitals, or in small letters.
    similar = [column for column in columns if column.casefold() == name.casefold()]
    if len(similar) != 1:
        raise ValueError(f"the query has no column {name!r}, which the key names; it has {', '.join(columns)}")
    return similar[0]


def _list_of(codecs: tuple[Codec[Any] | None, ...]) -> Codec[tuple[Any, ...]]:
    inner = tuple_of(*codecs)

    def decode(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValueError(f"it is no list of {len(codecs)}")
        return inner.decode(value)

    return Codec(inner.encode, decode)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
