"""The rows of a SQL query, one by one or in batches. Each batch is a query of its own that begins at a key."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from pyqik.core.errors import InvalidCursor
from pyqik.enumerators.databases import Answer, Link, database_of
from pyqik.enumerators.sql_keys import Codecs, Key, same
from pyqik.enumerators.sql_queries import Query, query_of
from pyqik.jobs.source import Source

if TYPE_CHECKING:
    from sqlalchemy.sql.selectable import SelectBase

#: The names of the columns, the rows, and their keys.
_Batch: TypeAlias = tuple[tuple[str, ...], list[Sequence[Any]], list[Any]]

#: As many characters of a query are shown beside an error.
_SHOWN: Final = 500


def sql_rows(
    database: Any,
    query: str | SelectBase,
    *,
    key: str | Sequence[str] = "id",
    params: Mapping[str, Any] | None = None,
    batch: int = 500,
    codec: Codecs = None,
) -> Source[Mapping[str, Any], Any]:
    """The rows of a query in the order of `key`; the cursor is the key of the row, as in Sidekiq.

        query = "SELECT id, email FROM users WHERE idle_days > :days"
        for user in pyqik.each(enumerators.sql_rows(engine, query, params={"days": 30})):
            remind(user["email"])

    `query` is text with parameters as `:name`, without ORDER BY and LIMIT, or a Select of SQLAlchemy. Text needs a
    database that knows LIMIT; a Select works with any. Rows are dictionaries.

    `key` names what is unique and never NULL in the query's result, and should have an index: one column, or some, as
    in `key=("shop_id", "id")`, whose cursor is a list. `batch` rows are read by one query,
    `SELECT * FROM (query) WHERE key >= cursor ORDER BY key LIMIT batch + 1`; nothing stays open on the server until the
    next one. Rows that meanwhile come in behind the loop are not seen, those that come in before it are.

    `codec` says how a key is written that JSON does not hold, as `enumerators.DATE`; of several columns each has one,
    or None: `codec=(None, enumerators.DATE)`.

    `database` is best an Engine, of which a connection is borrowed for each batch, or a function that opens a
    connection (or gives one that a pool lends, as a context manager): it is closed after the last row. A connection
    that is given open is used as it is: nothing on it is committed or rolled back, and a transaction that reading
    begins stays open; the loop must not be left to another thread if it is one of sqlite3. An async job's rows are read
    in a thread of their own, where a connection of sqlite3 must also have been opened: give a function or an Engine.

    Raises, in the loop: InvalidCursor for a key that is not unique, is NULL, cannot be written down or does not find
    its row; ValueError for what is wrong with columns and parameters; TypeError; errors of the database as they are.
    """
    return _Rows("sql_rows", database, query, key, params, batch, codec)


def sql_batches(
    database: Any,
    query: str | SelectBase,
    *,
    key: str | Sequence[str] = "id",
    params: Mapping[str, Any] | None = None,
    size: int = 500,
    codec: Codecs = None,
) -> Source[list[Mapping[str, Any]], Any]:
    """The rows of a query in lists of up to `size`; the cursor is the key of the first one in each, as in Sidekiq.

        for users in pyqik.each(enumerators.sql_batches(engine, query, size=1000)):
            sync([user["id"] for user in users])

    A batch that was interrupted is read again from its first row on. Everything else is as of `sql_rows`.
    """
    return _Batches("sql_batches", database, query, key, params, size, codec)


class _Sql(Source[Any, Any]):
    blocking = True

    def __init__(
        self,
        function: str,
        database: Any,
        query: Any,
        key: str | Sequence[str],
        params: Mapping[str, Any] | None,
        size: int,
        codec: Codecs,
    ) -> None:
        if type(size) is not int or size < 1:
            raise ValueError(f"{function} is to read {size!r} rows at a time; write a whole number from 1 up")
        database_of(database)  # So that a mistake is heard of here.
        self._database = database
        self._query = query
        self._key = Key(key, codec)
        self._params = dict(params or {})
        self._size = size
        self.codec = self._key.codec

    def open(self, cursor: Any = None) -> Iterator[tuple[Any, Any]]:
        """Raises, some of them in the loop: InvalidCursor, ValueError, TypeError, and errors of the database."""
        walk = _Walk(self._query, self._params, self._key, self._size)
        return self._pairs(walk.batches(self._database, self._key.checked(cursor)))

    def _pairs(self, batches: Generator[_Batch]) -> Iterator[tuple[Any, Any]]:
        raise NotImplementedError


class _Rows(_Sql):
    one_by_one = True

    def _pairs(self, batches: Generator[_Batch]) -> Iterator[tuple[Any, Any]]:
        with closing(batches):
            for names, rows, keys in batches:
                # All of it but the `yield` is a loop of C.
                yield from zip(map(dict, map(zip, repeat(names), rows)), keys, strict=True)


class _Batches(_Sql):
    def _pairs(self, batches: Generator[_Batch]) -> Iterator[tuple[Any, Any]]:
        with closing(batches):
            for names, rows, keys in batches:
                yield list(map(dict, map(zip, repeat(names), rows))), keys[0]


class _Walk:
    """One way through the rows of a query.

    Each query gives one row more than a batch has, and the next one begins with that row. So a row is always found by
    the cursor that a resumed job would have, and two rows with one key are seen side by side, even between batches.
    """

    def __init__(self, query: Any, params: Mapping[str, Any], key: Key, size: int) -> None:
        self._written = query
        self._params = params
        self._key = key
        self._size = size
        self._number = 0
        self._names: tuple[str, ...] = ()
        self._query: Query

    def batches(self, database: Any, cursor: Any) -> Generator[_Batch]:
        """From the row at `cursor` on. The rows of a batch are gone as soon as the next one is asked for."""
        with database_of(database) as opened:
            with self._noting(), opened.reading() as link:
                rows, keys = self._first(link, cursor)
            while keys:
                following = keys[self._size :]
                del rows[self._size :], keys[self._size :]
                last = keys[-1]
                yield self._names, rows, keys
                if not following:
                    return
                # Or two batches would be held while the next one is read.
                rows.clear()
                with self._noting(), opened.reading() as link:
                    rows, keys = self._read(link, following[0], last)

    def _first(self, link: Link, cursor: Any) -> tuple[list[Sequence[Any]], list[Any]]:
        self._query = query_of(self._written, self._params, link.dialect)
        self._query.use_key(self._key.find(self._query.columns(link)))
        if cursor is None and any(None in row for row in self._query.nulls(link).rows):
            raise InvalidCursor(self._key.null())
        return self._read(link, cursor, None)

    def _read(self, link: Link, cursor: Any, last: Any) -> tuple[list[Sequence[Any]], list[Any]]:
        self._number += 1
        answer = self._page(link, cursor, self._size + 1)
        keys = list(map(self._key.of, answer.rows))
        if keys:
            self._key.check(keys, cursor, last)
        elif cursor is not None:
            for row in self._page(link, None, 1).rows:
                self._key.check_kin(cursor, self._key.of(row))
        self._check_found(link, cursor, keys)
        self._names = answer.names
        return answer.rows, keys

    def _check_found(self, link: Link, cursor: Any, keys: list[Any]) -> None:
        """A row that is not found by its cursor may be gone. Or the driver does not give the key as it is stored (a
        time with other digits, a text without its padding): then the row stands before its own cursor, and would be
        lost. Raises: InvalidCursor.
        """
        if cursor is None or (keys and same(keys[0], cursor)):
            return
        for row in self._query.before(link, self._key.parts(cursor)).rows:
            if same(tuple(row), self._key.parts(cursor)):
                raise InvalidCursor(self._key.lost(cursor))

    def _page(self, link: Link, cursor: Any, limit: int) -> Answer:
        return self._query.page(link, None if cursor is None else self._key.parts(cursor), limit)

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # No values: they may be a customer's.
            error.add_note(f"Batch {max(self._number, 1)} of {self._size} rows by {self._key}: {self._shown()}")
            raise

    def _shown(self) -> str:
        text = " ".join(str(self._written).split())
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
