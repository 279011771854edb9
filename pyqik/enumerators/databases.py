"""What differs between databases to read from: connections of DB-API drivers and of SQLAlchemy, engines, and functions
that open a connection. Neither SQLAlchemy nor a driver is imported here unless the caller's object comes from it.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pyqik.core.functions import runs_when_called
from pyqik.enumerators.sql_text import PARAMSTYLES, Wording, statement

_MYSQL: Final = frozenset({"MySQLdb", "cymysql", "mariadb", "mysql", "pymysql"})
_STANDARD_QUOTES: Final = frozenset({"pg8000", "postgresql", "psycopg", "psycopg2", "sqlite", "sqlite3"})
_NO_PARAMS: Final[Mapping[str, Any]] = {}


# Where these want each `%` doubled, by the name that the driver has or that SQLAlchemy has for it. All others want it
# everywhere, as DB-API has it.
_DOUBLED: Final = {
    "mysql": frozenset[str](),
    "mysqlconnector": frozenset[str](),
    "pg8000": frozenset({""}),
    "pymssql": frozenset[str](),
}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a connection wants its statements, and how it quotes the name of a column."""

    wording: Wording
    quote: Callable[[str], str]


class Answer(NamedTuple):
    """What a statement gave: the names of the columns, the rows, and how many rows it has touched (-1: not known)."""

    names: tuple[str, ...]
    rows: list[Sequence[Any]]
    touched: int


class Link(ABC):
    """A connection, whatever it is."""

    dialect: Dialect

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    @abstractmethod
    def run(self, sql: str, params: Mapping[str, Any] = _NO_PARAMS) -> Answer:
        """Run one statement, whose parameters are written as `:name`, and fetch all of its rows."""

    @abstractmethod
    def run_select(self, select: Any, params: Mapping[str, Any]) -> Answer:
        """Run what is built with SQLAlchemy. Raises: TypeError for a connection that is not from it."""

    def end_reading(self) -> None:
        """End the transaction in which something was read. For a connection that nobody else uses."""
        # Not every driver has transactions; and a connection that broke is heard of at the next statement.
        with suppress(Exception):
            self.connection.rollback()


class DriverLink(Link):
    """A connection of a DB-API driver, or of Django, which has the same methods."""

    def __init__(self, connection: Any) -> None:
        if not runs_when_called(getattr(connection, "commit", len)):
            raise TypeError(
                f"{_name(connection)} is for async code; give a connection of a driver that is not: an async job's "
                "rows are read in a thread"
            )
        super().__init__(connection)
        self.dialect = _dialect_of(connection)

    def run(self, sql: str, params: Mapping[str, Any] = _NO_PARAMS) -> Answer:
        ready = statement(sql, self.dialect.wording)
        cursor = self.connection.cursor()
        try:
            if ready.names:
                cursor.execute(ready.text, ready.values(params))
            else:
                cursor.execute(ready.text)
            if cursor.description is None:
                return Answer((), [], cursor.rowcount)
            names = tuple(column[0] for column in cursor.description)
            return Answer(names, _as_sequences(cursor.fetchall()), cursor.rowcount)
        finally:
            cursor.close()

    def run_select(self, select: Any, params: Mapping[str, Any]) -> Answer:
        raise TypeError(
            f"the query is a {type(select).__qualname__} of SQLAlchemy, and the database is {_name(self.connection)}; "
            "give an Engine or a Connection of SQLAlchemy"
        )


class AlchemyLink(Link):
    """A connection of SQLAlchemy."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        dialect = connection.dialect
        wording = _wording(dialect.paramstyle, dialect.driver, dialect.name in ("mysql", "mariadb"))
        self.dialect = Dialect(wording, dialect.identifier_preparer.quote_identifier)

    def run(self, sql: str, params: Mapping[str, Any] = _NO_PARAMS) -> Answer:
        # Not `text(sql)`: that finds parameters within quotes, too.
        ready = statement(sql, self.dialect.wording)
        options = {"no_parameters": not ready.names, "preserve_rowcount": True}
        values = ready.values(params) if ready.names else None
        return _answer_of(self.connection.exec_driver_sql(ready.text, values, execution_options=options))

    def run_select(self, select: Any, params: Mapping[str, Any]) -> Answer:
        return _answer_of(self.connection.execute(select, dict(params)))


def link_of(connection: Any) -> Link:
    """How to use a connection. Raises: TypeError for what is none, or is for async code."""
    if hasattr(connection, "cursor") and not isinstance(connection, type):
        return DriverLink(connection)
    if is_from("sqlalchemy", connection):
        from sqlalchemy.engine import Connection

        if isinstance(connection, Connection):
            return AlchemyLink(connection)
        way_out = _way_out(connection, "give engine.connect() or session.connection()")
        raise TypeError(f"{_name(connection)} is no Connection; {way_out}")
    raise TypeError(f"{_name(connection)} is no connection; give one of a DB-API driver or of SQLAlchemy")


class Database(ABC):
    """Where batches are read: as a context manager, from the first one to the last."""

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027  # Most have nothing to close.
        """Close what was opened."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[Link]:
        """A connection for one batch."""


class _Given(Database):
    """A connection of the caller's, whose transactions are the caller's, too."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def reading(self) -> AbstractContextManager[Link]:
        return nullcontext(self._link)


class _Engine(Database):
    """A connection of its pool for each batch, in which no transaction stays open."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    @contextmanager
    def reading(self) -> Iterator[Link]:
        with self._engine.connect() as connection:
            yield AlchemyLink(connection)


class _Opened(Database):
    """One connection, opened for the first batch and closed after the last one."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._owned = ExitStack()
        self._link: Link | None = None

    def close(self) -> None:
        # Something was read: that is not undone by a connection that cannot be closed.
        with suppress(Exception):
            self._owned.close()

    @contextmanager
    def reading(self) -> Iterator[Link]:
        if self._link is None:
            self._link = self._open()
        yield self._link
        self._link.end_reading()

    def _open(self) -> Link:
        made = self._connect()
        if hasattr(made, "cursor") or hasattr(made, "exec_driver_sql"):
            self._owned.callback(made.close)
        elif hasattr(made, "__enter__"):
            # What a pool lends: it wants its connection back in its own way.
            made = self._owned.enter_context(made)
        return link_of(made)


def database_of(database: Any) -> Database:
    """What the author of a job gave. Nothing is opened yet. Raises: TypeError."""
    if is_from("sqlalchemy", database):
        from sqlalchemy.engine import Connection, Engine

        if isinstance(database, Engine):
            return _Engine(database)
        if not isinstance(database, Connection) and not hasattr(database, "cursor"):
            way_out = _way_out(database, "give the Engine, or session.connection() for what is not committed yet")
            raise TypeError(f"{_name(database)} is neither an Engine nor a Connection; {way_out}")
        return _Given(link_of(database))
    if hasattr(database, "cursor") and not isinstance(database, type):
        return _Given(link_of(database))
    if callable(database):
        return _Opened(database)
    raise TypeError(
        f"the database is of type {_name(database)}; give a connection, a function that opens one, or an Engine of "
        "SQLAlchemy"
    )


def is_from(package: str, thing: object) -> bool:
    """Whether its class, or one that this is derived from, comes from `package`."""
    return any(_package(kind.__module__) == package for kind in type(thing).__mro__)


def _way_out(thing: Any, otherwise: str) -> str:
    if ".asyncio" in type(thing).__module__:
        return "make an Engine with create_engine(...): an async job's rows are read in a thread"
    return otherwise


def _dialect_of(connection: Any) -> Dialect:
    """Raises: TypeError if nothing tells which driver it is of."""
    if is_from("django", connection):
        # Django takes this style, whatever the driver's own one is.
        return _dialect("format", "MySQLdb" if connection.vendor == "mysql" else connection.vendor)
    # SQLAlchemy's pools lend a proxy of the driver's connection.
    for each in (connection, getattr(connection, "dbapi_connection", None)):
        for kind in type(each).__mro__:
            name = kind.__module__
            while name:
                style = getattr(sys.modules.get(name), "paramstyle", None)
                if isinstance(style, str) and style in PARAMSTYLES:
                    return _dialect(style, _package(name))
                name = name.rpartition(".")[0]
    raise TypeError(
        f"the driver of {_name(connection)} cannot be found, as no module of it has a paramstyle; give the "
        "connection of the driver itself, or an Engine of SQLAlchemy"
    )


def _dialect(paramstyle: str, driver: str) -> Dialect:
    wording = _wording(paramstyle, driver, driver in _MYSQL)
    if wording.mysql:
        return Dialect(wording, lambda name: "`" + name.replace("`", "``") + "`")
    if driver in _STANDARD_QUOTES:
        return Dialect(wording, lambda name: '"' + name.replace('"', '""') + '"')
    # What a quote means to an unknown one is not known: to MySQL "id" is a string, and any key is greater or less.
    return Dialect(wording, lambda name: name)


def _wording(paramstyle: str, driver: str, mysql: bool) -> Wording:
    return Wording(paramstyle, mysql, _DOUBLED.get(driver, Wording(paramstyle).doubled))


def _answer_of(result: Any) -> Answer:
    if not result.returns_rows:
        return Answer((), [], result.rowcount)
    return Answer(tuple(result.keys()), list(result.fetchall()), result.rowcount)


def _as_sequences(rows: Any) -> list[Sequence[Any]]:
    """Rows of a connection that gives dictionaries are made into what all others give."""
    return [tuple(row.values()) for row in rows] if rows and isinstance(rows[0], Mapping) else list(rows)


def _package(module: str) -> str:
    return module.partition(".")[0]


def _name(thing: Any) -> str:
    kind = thing if isinstance(thing, type) else type(thing)
    return f"{kind.__module__}.{kind.__qualname__}"
