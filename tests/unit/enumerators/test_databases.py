"""Connections of drivers and of SQLAlchemy, engines, functions that open a connection: how each is used and left."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, literal, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import QueuePool

from pyqik.enumerators.databases import database_of, link_of
from pyqik.enumerators.sql import sql_rows

QUERY = "SELECT id FROM users"


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A database with users 1 to 5."""
    path = str(tmp_path / "db.sqlite3")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE users (id INTEGER PRIMARY KEY)")
        connection.executemany("INSERT INTO users VALUES (?)", [(number,) for number in range(1, 6)])
        connection.commit()
    return path


@pytest.fixture
def engine(file: str) -> Iterator[Engine]:
    """The same as SQLAlchemy sees it."""
    engine = create_engine(f"sqlite:///{file}")
    yield engine
    engine.dispose()


class Recorded(sqlite3.Connection):
    """A connection that writes down how it is treated."""

    calls: list[str]

    def commit(self) -> None:
        self.calls.append("commit")
        super().commit()

    def rollback(self) -> None:
        self.calls.append("rollback")
        super().rollback()

    def close(self) -> None:
        self.calls.append("close")
        super().close()


@pytest.fixture
def calls() -> list[str]:
    """What was called of the connection that `recorded` has opened."""
    return []


@pytest.fixture
def recorded(file: str, calls: list[str]) -> Iterator[Callable[[], Recorded]]:
    """Opens a connection and says so."""
    opened: list[Recorded] = []

    def connect() -> Recorded:
        connection = sqlite3.connect(file, factory=Recorded)
        connection.calls = calls
        calls.append("open")
        opened.append(connection)
        return connection

    yield connect
    for connection in opened:
        sqlite3.Connection.close(connection)


class FakeConnection:
    """What the driver `fakedb` opens: it writes down what it is given, and asks SQLite."""

    __module__ = "fakedb.connections"

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.executed: list[tuple[str, Any]] = []

    def cursor(self) -> Any:
        return FakeCursor(self._connection.cursor(), self.executed)


class FakeCursor:
    def __init__(self, cursor: Any, executed: list[tuple[str, Any]]) -> None:
        self._cursor = cursor
        self._executed = executed

    def execute(self, statement: str, params: dict[str, Any] | None = None) -> None:
        self._executed.append((statement, params))
        marks = {} if params is None else {name: f":{name}" for name in params}
        self._cursor.execute(statement if params is None else statement % marks, params or {})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch, file: str) -> Iterator[Any]:
    """A connection of a driver that nobody knows."""
    module: Any = ModuleType("fakedb")
    module.paramstyle = "pyformat"
    monkeypatch.setitem(sys.modules, "fakedb", module)
    own = sqlite3.connect(file)
    yield FakeConnection(own)
    own.close()


def as_dictionary(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> dict[str, Any]:
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


def ids(database: Any, batch: int = 2) -> list[int]:
    return [row["id"] for row, _ in sql_rows(database, QUERY, batch=batch).open()]


def test_what_a_function_opens_for_the_first_row_is_closed_after_the_last(
    recorded: Callable[[], Recorded], calls: list[str]
) -> None:
    source = sql_rows(recorded, QUERY, batch=2)
    pairs = source.open()
    before = list(calls)

    assert [row["id"] for row, _ in pairs] == [1, 2, 3, 4, 5]
    assert before == []
    assert calls == ["open", "rollback", "rollback", "rollback", "close"]


def test_no_transaction_stays_open_between_two_batches(recorded: Callable[[], Recorded], calls: list[str]) -> None:
    pairs = sql_rows(recorded, QUERY, batch=2).open()

    next(pairs)

    assert calls == ["open", "rollback"]


def test_what_a_function_opens_is_closed_when_the_loop_is_left(
    recorded: Callable[[], Recorded], calls: list[str]
) -> None:
    pairs: Any = sql_rows(recorded, QUERY, batch=2).open()
    next(pairs)

    pairs.close()

    assert calls[-1] == "close"


def test_what_a_function_opens_is_closed_after_an_error_which_passes_as_it_is(
    recorded: Callable[[], Recorded], calls: list[str]
) -> None:
    pairs = sql_rows(recorded, "SELECT id FROM userz").open()

    with pytest.raises(sqlite3.OperationalError, match="no such table: userz") as caught:
        next(pairs)

    assert calls == ["open", "close"]
    assert caught.value.__notes__ == ["Batch 1 of 500 rows by 'id': SELECT id FROM userz"]


def test_a_function_may_lend_a_connection_of_a_pool(file: str) -> None:
    ends: list[str] = []

    @contextmanager
    def lend() -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(file)) as connection:
            yield connection
            ends.append("given back")

    assert ids(lend) == [1, 2, 3, 4, 5]
    assert ends == ["given back"]


def test_a_function_may_open_a_connection_of_sqlalchemy(engine: Engine) -> None:
    pool: Any = engine.pool

    assert ids(engine.connect) == [1, 2, 3, 4, 5]
    assert pool.checkedout() == 0


def test_a_function_opens_a_new_connection_for_each_loop(recorded: Callable[[], Recorded], calls: list[str]) -> None:
    source = sql_rows(recorded, QUERY)

    list(source.open())
    list(source.open(3))

    assert calls.count("open") == calls.count("close") == 2


def test_a_function_that_opens_something_else_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"builtins\.int is no connection"):
        ids(lambda: 5)


def test_a_given_connection_is_neither_committed_nor_rolled_back_nor_closed(
    recorded: Callable[[], Recorded], calls: list[str]
) -> None:
    connection = recorded()
    connection.execute("INSERT INTO users VALUES (6)")

    assert ids(connection) == [1, 2, 3, 4, 5, 6]
    assert calls == ["open"]


def test_a_given_connection_of_sqlalchemy_keeps_its_transaction(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("INSERT INTO users VALUES (6)"))
        during = ids(connection)
        connection.rollback()
        after = ids(connection)

    assert (during, after) == ([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5])


def test_the_connection_of_a_session_sees_what_the_session_has_not_committed(engine: Engine) -> None:
    with Session(engine) as session:
        session.execute(text("DELETE FROM users WHERE id > 2"))

        assert ids(session.connection()) == [1, 2]


def test_a_connection_out_of_sqlalchemy_s_pool_tells_its_driver(engine: Engine) -> None:
    with closing(engine.raw_connection()) as connection:
        assert link_of(connection).dialect.wording.paramstyle == "qmark"
        assert ids(connection) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "factory",
    [sqlite3.Row, as_dictionary],
    ids=["rows", "dictionaries"],
)  # fmt: skip
def test_a_given_connection_may_have_rows_of_its_own_kind(file: str, factory: Any) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.row_factory = factory

        pairs = list(sql_rows(connection, "SELECT 'a' AS name, id FROM users", batch=2).open(4))

    assert pairs == [({"name": "a", "id": 4}, 4), ({"name": "a", "id": 5}, 5)]


def test_an_engine_lends_a_connection_only_while_a_batch_is_read(file: str) -> None:
    engine = create_engine(f"sqlite:///{file}", poolclass=QueuePool)
    taken: list[str] = []
    event.listen(engine, "checkout", lambda *_: taken.append("taken"))
    event.listen(engine, "checkin", lambda *_: taken.append("given back"))
    pairs = sql_rows(engine, QUERY, batch=2).open()

    next(pairs)
    after_one = list(taken)
    rest = list(pairs)
    engine.dispose()

    assert after_one == ["taken", "given back"]
    assert taken == ["taken", "given back"] * 3
    assert len(rest) == 4


def test_an_engine_takes_text_as_it_stands(engine: Engine) -> None:
    query = "SELECT id, ':x 5%' AS a, \"id\" % :two AS b FROM users -- :y"

    rows = [row for row, _ in sql_rows(engine, query, params={"two": 2}).open(5)]

    assert rows == [{"id": 5, "a": ":x 5%", "b": 1}]


def test_a_driver_is_given_values_apart_from_the_text(connection: Any) -> None:
    query = "SELECT id FROM users WHERE id > :low"
    evil = "1; DROP TABLE users"

    pairs = sql_rows(connection, query, params={"low": evil}, batch=1).open(2)

    assert list(pairs) == []
    assert {params["low"] for _, params in connection.executed} == {evil}
    assert not any(evil in text for text, _ in connection.executed)


def test_a_driver_is_given_the_cursor_as_a_parameter(connection: Any) -> None:
    list(sql_rows(connection, QUERY, batch=9).open(4))

    assert connection.executed[-1] == (
        f"SELECT * FROM (\n{QUERY}\n) AS pyqik_rows WHERE id >= %(pyqik_0)s ORDER BY id LIMIT 10",
        {"pyqik_0": 4},
    )


def test_a_driver_is_given_nothing_beside_a_text_without_parameters(connection: Any) -> None:
    list(sql_rows(connection, "SELECT id, '5%' AS rate FROM users", batch=9).open())

    assert all(params is None for _, params in connection.executed)
    assert all("'5%'" in text for text, _ in connection.executed)


def test_a_key_of_some_columns_is_compared_so_that_an_index_is_of_use(connection: Any) -> None:
    list(sql_rows(connection, "SELECT id, 1 AS a, 2 AS b FROM users", key=("a", "b", "id"), batch=9).open([1, 2, 4]))

    assert connection.executed[-1] == (
        "SELECT * FROM (\nSELECT id, 1 AS a, 2 AS b FROM users\n) AS pyqik_rows "
        "WHERE a >= %(pyqik_0)s AND (a > %(pyqik_0)s OR (a = %(pyqik_0)s "
        "AND b >= %(pyqik_1)s AND (b > %(pyqik_1)s OR (b = %(pyqik_1)s AND id >= %(pyqik_2)s)))) "
        "ORDER BY a, b, id LIMIT 10",
        {"pyqik_0": 1, "pyqik_1": 2, "pyqik_2": 4},
    )


def test_names_are_quoted_only_for_drivers_that_are_known(connection: Any) -> None:
    unknown = link_of(connection).dialect.quote("order")
    with closing(sqlite3.connect(":memory:")) as own:
        known = link_of(own).dialect.quote('a"b')

    assert (unknown, known) == ("order", '"a""b"')


def test_a_driver_without_a_paramstyle_is_an_error(connection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys.modules["fakedb"], "paramstyle")

    with pytest.raises(TypeError, match=r"driver of fakedb\.connections\.FakeConnection cannot be found.*Engine"):
        sql_rows(connection, QUERY)


def test_the_driver_may_be_that_of_a_class_above(connection: Any) -> None:
    derived = type("Mine", (FakeConnection,), {"__module__": "app.db"})(None)

    assert link_of(derived).dialect.wording.paramstyle == "pyformat"


@pytest.mark.parametrize(
    ("vendor", "mysql", "quoted"), [("mysql", True, "`id`"), ("sqlite", False, '"id"'), ("oracle", False, "id")]
)
def test_a_connection_of_django_takes_what_django_takes(vendor: str, mysql: bool, quoted: str) -> None:
    kind = type("DatabaseWrapper", (), {"__module__": "django.db.backends.any.base", "cursor": 1, "vendor": vendor})

    dialect = link_of(kind()).dialect

    assert (dialect.wording.paramstyle, dialect.wording.mysql) == ("format", mysql)
    assert dialect.wording.doubled == {"", "quoted"}
    assert dialect.quote("id") == quoted


@pytest.mark.parametrize(
    ("database", "message"),
    [
        pytest.param("sqlite:///db", r"of type builtins\.str; give a connection, a function", id="address"),
        pytest.param(None, "NoneType; give a connection", id="nothing"),
        pytest.param(object.__new__(AsyncEngine), r"AsyncEngine.*create_engine\(", id="engine for async"),
        pytest.param(object.__new__(AsyncConnection), r"create_engine\(", id="connection for async"),
        pytest.param(Session(), r"Session.*give the Engine, or session\.connection\(\)", id="session"),
        pytest.param(sessionmaker(), "give the Engine", id="maker of sessions"),
        pytest.param(scoped_session(sessionmaker()), "give the Engine", id="registry of sessions"),
    ],
)
def test_what_is_no_database_is_refused_with_the_way_out(database: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        database_of(database)


def test_a_connection_for_async_code_is_refused() -> None:
    class Connection:
        cursor = None

        async def commit(self) -> None: ...

    with pytest.raises(TypeError, match=r"Connection is for async code; .*rows are read in a thread"):
        database_of(Connection())


def test_a_select_needs_a_database_of_sqlalchemy() -> None:
    with (
        closing(sqlite3.connect(":memory:")) as connection,
        pytest.raises(TypeError, match=r"the query is a Select of SQLAlchemy, and the database is sqlite3\.Connection"),
    ):
        list(sql_rows(connection, select(literal(1).label("id"))).open())
