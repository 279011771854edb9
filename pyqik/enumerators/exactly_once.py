"""Items whose effects in a SQL database happen exactly once: the cursor is committed together with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from pyqik.core.errors import PyqikError
from pyqik.enumerators.sql_cursors import SavedCursor, SqlCursors
from pyqik.jobs import context
from pyqik.jobs.source import Bookmark, Bookmarking, Source, Throttled, cursor_of, cursor_text

T = TypeVar("T")
C = TypeVar("C")

#: What stands in the place of a cursor when the loop has come to its end.
_DONE: Final = ""


def exactly_once(
    source: Source[T, C], connection: Any, *, table: str = "pyqik_cursors", create: bool = False, name: str = ""
) -> Source[T, C]:
    """The items of `source`; what the loop does with each in the transaction of `connection` is done exactly once.

        with engine.connect() as connection:
            for row in pyqik.each(enumerators.exactly_once(enumerators.csv_rows(path), connection)):
                connection.execute(insert(payments).values(row))

    When the next item is asked for, the cursor is written into `table` and the transaction is committed, both at once:
    after a crash the loop goes on after the last item that was committed. An item that fails is rolled back. So the
    loop must neither commit nor roll back by itself, and what it does elsewhere (a mail, another database) is done at
    least once, as always. Of two runs of the same job one only can commit: the other ends with `CursorTaken`. It is for
    plain jobs: in an `async def` another thread asks for the items, which must not use the loop's connection.

    `connection` is one of a DB-API driver or of SQLAlchemy, not in autocommit mode. `create` makes the table if there
    is none (see `SqlCursors`). It keeps a row for each job and `name`, which is needed for as long as the job may be
    run again: remove rows of the last month but one from time to time. A second loop of a job needs another `name`.

    What the job keeps in Redis (counters, rows, ids) may be behind the table after a crash; a `pyqik.file` would lack
    rows then, and is refused.

    Raises, in the loop: PyqikError if the job writes a file; CursorTaken; InvalidCursor for a committed cursor that the
    codec cannot read; what the driver raises; ValueError for a connection in autocommit mode.
    """
    return _ExactlyOnce(source, connection, table, create, name)


class _ExactlyOnce(Source[T, C]):
    def __init__(self, source: Source[T, C], connection: Any, table: str, create: bool, name: str) -> None:
        self._source = source
        self._connection = connection
        self._table = table
        self._create = create
        self._name = name
        self.codec = source.codec
        self.blocking = True

    def open(self, cursor: C | None = None) -> Iterator[tuple[T, C]]:
        return self._opened(self._source.open)

    def reopen(self, cursor: C, bookmark: Bookmark) -> Iterator[tuple[T, C]]:
        return self._opened(
            lambda saved: self._source.open() if saved is None else self._source.reopen(saved, bookmark)
        )

    def _opened(self, open_at: Callable[[C | None], Iterator[tuple[T, C]]]) -> Iterator[tuple[T, C]]:
        _refuse_autocommit(self._connection)
        cursors = SqlCursors(self._connection, table=self._table)
        if self._create:
            cursors.create()
            self._connection.commit()
        running = context.running()
        if running is not None and running.begin_long_run().files.are_open:
            raise PyqikError(
                "a loop with exactly_once may go on, after a crash, behind what the file has that this job writes; "
                "publish the file before, or write it in a job of its own"
            )
        jid = "" if running is None else running.jid
        # Where Redis was is of no matter: it may be behind what was committed.
        saved = cursors.load(jid, self._name) if jid else None
        self._connection.rollback()
        return _Transactions(self, open_at, cursors, self._connection, jid, self._name, saved)

    def decoded(self, text: str) -> C:
        """The cursor that a JSON text stands for. Raises: InvalidCursor."""
        return cursor_of(text.encode(), self.codec)

    def encoded(self, cursor: C) -> str:
        """The JSON text of a cursor. Raises: InvalidCursor."""
        return cursor_text(cursor, self.codec, "the loop").decode()


class _Transactions(Iterator[tuple[T, C]]):
    """Pairs of item and cursor; asking for the next one commits what was done for the one before."""

    runs_ahead = True

    def __init__(
        self,
        source: _ExactlyOnce[T, C],
        open_at: Callable[[C | None], Iterator[tuple[T, C]]],
        cursors: SqlCursors,
        connection: Any,
        jid: str,
        name: str,
        saved: SavedCursor | None,
    ) -> None:
        self._source = source
        self._cursors = cursors
        self._connection = connection
        self._jid = jid
        self._name = name
        self._counter = None if saved is None else saved.counter
        self._working = False
        if saved is not None and saved.cursor == _DONE:
            self._pairs: Iterator[tuple[T, C]] = iter(())
        else:
            self._pairs = open_at(None if saved is None else source.decoded(saved.cursor))

    def __next__(self) -> tuple[T, C]:
        try:
            pair = next(self._pairs, None)
            if self._working:
                self._commit(_DONE if pair is None else self._source.encoded(pair[1]))
        except Throttled as throttled:
            if self._working:
                self._commit(self._source.encoded(throttled.cursor))
            raise
        except BaseException:
            self._working = False
            self._connection.rollback()
            raise
        if pair is None:
            raise StopIteration
        self._working = True
        return pair

    def finish(self) -> None:
        """The loop was left by `break`: its last item counts, and no other one follows."""
        if self._working:
            self._commit(_DONE)

    def bookmark(self) -> Bookmark:
        return self._pairs.bookmark() if isinstance(self._pairs, Bookmarking) else None

    def close(self) -> None:
        """What was not committed by now belongs to an item that will be done again."""
        if self._working:
            self._connection.rollback()
        if hasattr(self._pairs, "close"):
            self._pairs.close()

    def _commit(self, cursor: str) -> None:
        if self._jid:
            self._counter = self._cursors.save(self._jid, self._name, cursor, self._counter)
        self._connection.commit()
        self._working = False


def _refuse_autocommit(connection: Any) -> None:
    """Raises: ValueError if each statement would be committed by itself, without its cursor."""
    by_driver = getattr(connection, "autocommit", None) is True
    by_sqlite = type(connection).__module__.startswith("sqlite3") and connection.isolation_level is None
    by_mysql = hasattr(connection, "get_autocommit") and bool(connection.get_autocommit())
    by_alchemy = (
        hasattr(connection, "get_execution_options")
        and connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"
    )
    if by_driver or by_sqlite or by_mysql or by_alchemy:
        raise ValueError(
            "the connection is in autocommit mode, so that an effect would be committed without its cursor; "
            "turn that off for exactly_once()"
        )
