"""Rows and batches of SQL queries: from any cursor on the rest is the same, and no row is lost without an error."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import (
    Column,
    Date,
    DateTime,
    Engine,
    Integer,
    MetaData,
    Table,
    TypeDecorator,
    Uuid,
    bindparam,
    column,
    create_engine,
    func,
    insert,
    literal,
    select,
    text,
    union_all,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pyqik.core.errors import InvalidCursor
from pyqik.enumerators import DATE, DATETIME, DECIMAL, UUID_TEXT
from pyqik.enumerators.sql import sql_batches, sql_rows
from pyqik.jobs.loops import each
from pyqik.jobs.source import Codec, Source

HEX = Codec(bytes.hex, bytes.fromhex)
QUERY = "SELECT id, name FROM users"


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    """A database with nothing in it."""
    with closing(sqlite3.connect(":memory:")) as connection:
        yield connection


@pytest.fixture
def users(db: sqlite3.Connection) -> sqlite3.Connection:
    """Users 1 to 7, in the table `users`."""
    db.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name)")
    add(db, *range(1, 8))
    return db


@pytest.fixture
def engine() -> Iterator[Engine]:
    """A database with nothing in it, as SQLAlchemy has it."""
    engine = create_engine("sqlite://")
    yield engine
    engine.dispose()


def add(db: sqlite3.Connection, *numbers: int) -> None:
    db.executemany("INSERT INTO users VALUES (?, ?)", [(number, f"user {number}") for number in numbers])


def remove(db: sqlite3.Connection, *numbers: int) -> None:
    db.executemany("DELETE FROM users WHERE id = ?", [(number,) for number in numbers])


def table(db: sqlite3.Connection, column: str, *values: Any) -> None:
    """A table `t` of one column."""
    db.execute(f"CREATE TABLE t ({column})")
    db.executemany("INSERT INTO t VALUES (?)", [(value,) for value in values])


def filled(engine: Engine, column: Column[Any], *values: Any) -> Table:
    """The same with SQLAlchemy."""
    made = Table("t", MetaData(), column)
    made.create(engine)
    with engine.begin() as connection:
        connection.execute(insert(made), [{column.name: value} for value in values])
    return made


def ids(source: Source[Any, Any], cursor: Any = None) -> list[int]:
    return [row["id"] for row, _ in source.open(cursor)]


def through_json(source: Source[Any, Any], cursor: Any) -> Any:
    """A cursor as a later run of the job gets it."""
    written = json.dumps(cursor if source.codec is None else source.codec.encode(cursor))
    return json.loads(written) if source.codec is None else source.codec.decode(json.loads(written))


# Rows, batches and cursors.


@pytest.mark.parametrize("batch", [1, 2, 6, 7, 8, 500])
def test_all_rows_come_in_the_order_of_the_key_each_with_its_key(users: sqlite3.Connection, batch: int) -> None:
    pairs = list(sql_rows(users, QUERY + " ORDER BY id DESC", batch=batch).open())

    assert pairs == [({"id": number, "name": f"user {number}"}, number) for number in range(1, 8)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 500])
def test_batches_have_the_key_of_their_first_row(users: sqlite3.Connection, size: int) -> None:
    batches = list(sql_batches(users, QUERY, size=size).open())

    assert [[row["id"] for row in rows] for rows, _ in batches] == [
        list(range(first, min(first + size, 8))) for first in range(1, 8, size)
    ]
    assert [cursor for _, cursor in batches] == list(range(1, 8, size))


@pytest.mark.parametrize(
    ("cursor", "rest"),
    [
        pytest.param(None, [1, 2, 3, 4, 5, 6, 7], id="none"),
        pytest.param(1, [1, 2, 3, 4, 5, 6, 7], id="the first"),
        pytest.param(4, [4, 5, 6, 7], id="one in the middle"),
        pytest.param(7, [7], id="the last"),
        pytest.param(8, [], id="after the last"),
        pytest.param(-5, [1, 2, 3, 4, 5, 6, 7], id="before the first"),
    ],
)
def test_opened_at_a_cursor_it_begins_with_that_row(users: sqlite3.Connection, cursor: Any, rest: list[int]) -> None:
    assert ids(sql_rows(users, QUERY, batch=3), cursor) == rest


def test_a_row_that_is_gone_leaves_its_place_to_the_next_one(users: sqlite3.Connection) -> None:
    remove(users, 4)

    assert ids(sql_rows(users, QUERY, batch=2), 4) == [5, 6, 7]
    assert [cursor for _, cursor in sql_batches(users, QUERY, size=2).open(4)] == [5, 7]


def test_no_rows_are_no_items(users: sqlite3.Connection) -> None:
    query = QUERY + " WHERE id > 100"

    assert list(sql_rows(users, query).open()) == list(sql_rows(users, query).open(5)) == []
    assert list(sql_batches(users, query).open()) == []


def test_opening_reads_nothing_yet(db: sqlite3.Connection) -> None:
    pairs = sql_rows(db, "SELECT id FROM nowhere").open()

    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        next(pairs)


def test_the_engine_learns_what_it_has_to_know(users: sqlite3.Connection) -> None:
    rows, batches = sql_rows(users, QUERY), sql_batches(users, QUERY)

    assert (rows.blocking, rows.one_by_one, rows.codec) == (True, True, None)
    assert (batches.blocking, batches.one_by_one, batches.codec) == (True, False, None)


def test_a_loop_goes_over_it(users: sqlite3.Connection) -> None:
    query = QUERY + " WHERE id > :low"

    assert [row["id"] for row in each(sql_rows(users, query, params={"low": 5}))] == [6, 7]


@pytest.mark.parametrize(
    "query", [QUERY + ";", f"  {QUERY} ;\n", f"{QUERY} -- all of them", f"WITH a AS ({QUERY}) SELECT * FROM a"]
)
def test_a_query_may_end_as_one_does(users: sqlite3.Connection, query: str) -> None:
    assert ids(sql_rows(users, query, batch=3), 4) == [4, 5, 6, 7]


def test_keys_may_be_as_large_as_they_get(db: sqlite3.Connection) -> None:
    table(db, "id INTEGER PRIMARY KEY", -(2**63), 0, 2**63 - 2, 2**63 - 1)
    source = sql_rows(db, "SELECT id FROM t", batch=1)

    assert ids(source) == [-(2**63), 0, 2**63 - 2, 2**63 - 1]
    assert ids(source, through_json(source, 2**63 - 1)) == [2**63 - 1]


def test_keys_may_be_text(db: sqlite3.Connection) -> None:
    names = ["", "'; DROP TABLE t; --", "10", "9", "Z", "a", "ä", "🙂"]
    table(db, "name TEXT PRIMARY KEY", *names)
    source = sql_rows(db, "SELECT name FROM t", key="name", batch=2)

    assert [cursor for _, cursor in source.open()] == names
    assert [[cursor for _, cursor in source.open(name)] for name in names] == [names[i:] for i in range(len(names))]


def test_a_column_may_have_any_name_that_is_an_identifier(db: sqlite3.Connection) -> None:
    table(db, '"order" INTEGER', 1, 2, 3)

    assert [cursor for _, cursor in sql_rows(db, "SELECT * FROM t", key="order", batch=1).open()] == [1, 2, 3]
    assert [cursor for _, cursor in sql_rows(db, "SELECT * FROM t", key="ORDER", batch=1).open(2)] == [2, 3]


# Composite keys.


def test_a_key_of_some_columns_has_a_list_for_a_cursor(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE t (shop, id, PRIMARY KEY (shop, id))")
    db.executemany("INSERT INTO t VALUES (?, ?)", [("a", 1), ("a", 2), ("b", 1), ("b", 3)])
    source = sql_rows(db, "SELECT * FROM t", key=("shop", "id"), batch=1)

    cursors = [cursor for _, cursor in source.open()]
    written = [json.dumps(source.codec and source.codec.encode(cursor)) for cursor in cursors]

    assert written == ['["a", 1]', '["a", 2]', '["b", 1]', '["b", 3]']
    assert [cursor for _, cursor in source.open(through_json(source, ("a", 2)))] == cursors[1:]
    assert [cursor for _, cursor in source.open(["a", 2])] == cursors[1:]


def test_a_key_of_one_column_in_a_tuple_has_a_list_as_well(users: sqlite3.Connection) -> None:
    source = sql_rows(users, QUERY, key=("id",), batch=2)

    assert [cursor for _, cursor in source.open((6,))] == [(6,), (7,)]
    assert source.codec is not None
    assert source.codec.encode((6,)) == [6]


TRIPLES = "SELECT c, b, a FROM t WHERE a > :low"
TRIPLES_BUILT = (
    select(column("c"), column("b"), column("a")).select_from(text("t")).where(column("a") > bindparam("low"))
)
ROWS = st.lists(st.tuples(st.integers(-3, 3), st.text(max_size=2), st.integers(0, 2)), unique=True, max_size=20)


@given(rows=ROWS, batch=st.integers(1, 8), built=st.booleans())
def test_from_any_row_on_the_rest_is_the_same(rows: list[tuple[int, str, int]], batch: int, built: bool) -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE t (a INTEGER, b TEXT, c INTEGER)"))
        for row in rows:
            connection.exec_driver_sql("INSERT INTO t VALUES (?, ?, ?)", row)
        query = TRIPLES_BUILT if built else TRIPLES
        source = sql_rows(connection, query, key=("a", "b", "c"), params={"low": -3}, batch=batch)

        pairs = list(source.open())
        rests = [list(source.open(through_json(source, cursor))) for _, cursor in pairs]

    assert [cursor for _, cursor in pairs] == sorted(row for row in rows if row[0] > -3)
    assert rests == [pairs[index:] for index in range(len(pairs))]
    engine.dispose()


# The table changes while the loop runs.


def test_rows_that_come_in_before_the_loop_are_seen_and_rows_behind_it_are_not(users: sqlite3.Connection) -> None:
    pairs = sql_rows(users, QUERY, batch=3).open()
    first = [next(pairs)[1] for _ in range(3)]

    add(users, 0, 8)

    assert first + [cursor for _, cursor in pairs] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_the_row_at_which_the_next_batch_begins_may_be_deleted(users: sqlite3.Connection) -> None:
    pairs = sql_rows(users, QUERY, batch=3).open()
    first = [next(pairs)[1] for _ in range(3)]

    remove(users, 1, 2, 3, 4)

    assert first + [cursor for _, cursor in pairs] == [1, 2, 3, 5, 6, 7]


def test_all_that_is_left_may_be_deleted(users: sqlite3.Connection) -> None:
    pairs = sql_rows(users, QUERY, batch=3).open()
    first = [next(pairs)[1] for _ in range(3)]

    remove(users, 4, 5, 6, 7)

    assert first + [cursor for _, cursor in pairs] == [1, 2, 3]


def test_a_row_is_as_it_is_when_its_batch_is_read(users: sqlite3.Connection) -> None:
    pairs = sql_rows(users, QUERY, batch=3).open()
    next(pairs)

    users.execute("UPDATE users SET name = 'new'")

    assert [row["name"] for row, _ in pairs] == ["user 2", "user 3", "new", "new", "new", "new"]


CHANGES = st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=4)


@given(first=st.sets(st.integers(0, 30)), batch=st.integers(1, 5), steps=st.lists(CHANGES, min_size=1, max_size=30))
def test_a_row_that_is_there_all_the_time_is_seen_once(
    first: set[int], batch: int, steps: list[list[tuple[bool, int]]]
) -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name)")
        add(db, *first)
        stayed, seen = set(first), []
        for (_, cursor), changes in zip(sql_rows(db, QUERY, batch=batch).open(), steps, strict=False):
            seen.append(cursor)
            for comes, number in changes:
                db.execute(
                    "INSERT OR IGNORE INTO users VALUES (?, '')" if comes else "DELETE FROM users WHERE id = ?",
                    (number,),
                )
                stayed -= set() if comes else {number}

    assert seen == sorted(set(seen))
    assert {number for number in stayed if number <= max(seen, default=-1)} <= set(seen)


# Keys that could lose a row.


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 500])
@pytest.mark.parametrize("values", [[1, 2, 2, 3], [1, 1, 2, 3], [1, 2, 3, 3], ["a", "b", "b", "c"]], ids=repr)
def test_a_key_that_two_rows_have_is_an_error(db: sqlite3.Connection, values: list[Any], batch: int) -> None:
    table(db, "id", *values)

    with pytest.raises(
        InvalidCursor, match=r"the key 'id' is not unique: more than one row has .*; order by a key that"
    ):
        list(sql_rows(db, "SELECT id FROM t", batch=batch).open())


def test_a_composite_key_that_two_rows_have_is_an_error(db: sqlite3.Connection) -> None:
    table(db, "id", 1, 2, 2)

    with pytest.raises(InvalidCursor, match=r"the key \('id', 'five'\) is not unique: more than one row has \(2, 5\)"):
        list(sql_rows(db, "SELECT id, 5 AS five FROM t", key=("id", "five")).open())


@pytest.mark.parametrize(("batch", "cursor"), [(1, None), (2, None), (5, None), (500, "b"), (500, "C")], ids=repr)
def test_a_key_that_only_the_database_holds_for_the_same_is_an_error_if_it_could_lose_a_row(
    db: sqlite3.Connection, batch: int, cursor: str | None
) -> None:
    table(db, "name TEXT COLLATE NOCASE", "a", "B", "b", "B ", "c", "C", "d")

    with pytest.raises(InvalidCursor, match=r"not unique: more than one row has '\w' for the database, to which upper"):
        list(sql_rows(db, "SELECT name FROM t", key="name", batch=batch).open(cursor))


def test_an_order_of_text_that_is_not_python_s_is_none_of_its_business(db: sqlite3.Connection) -> None:
    table(db, "name TEXT COLLATE NOCASE UNIQUE", "b", "A", "C", "_", "a b")
    source = sql_rows(db, "SELECT name FROM t", key="name", batch=2)

    names = [cursor for _, cursor in source.open()]

    assert names == ["_", "A", "a b", "b", "C"]
    assert [[cursor for _, cursor in source.open(name)] for name in names] == [names[i:] for i in range(5)]


@pytest.mark.parametrize("cursor", [None, 1, 3])
def test_a_key_that_is_null_is_an_error(db: sqlite3.Connection, cursor: int | None) -> None:
    table(db, "id", 1, None, 3)
    query = "SELECT id, CASE id WHEN 3 THEN NULL ELSE 1 END AS part FROM t WHERE id > 0 OR :all"

    with pytest.raises(
        InvalidCursor, match=r"the key 'id' is NULL in some row, which no batch would have; leave such rows"
    ):
        list(sql_rows(db, query, params={"all": True}).open())
    with pytest.raises(InvalidCursor, match=r"the key \('id', 'part'\) is NULL"):
        list(sql_rows(db, query, key=("id", "part"), params={"all": False}).open())


def test_a_key_that_has_become_null_is_seen_in_its_row(users: sqlite3.Connection) -> None:
    query = "SELECT id, CASE name WHEN 'gone' THEN NULL ELSE id END AS k FROM users"
    pairs = sql_rows(users, query, key=("id", "k"), batch=3).open()
    next(pairs)

    users.execute("UPDATE users SET name = 'gone' WHERE id = 6")

    with pytest.raises(InvalidCursor, match="is NULL in some row"):
        list(pairs)


def test_a_column_that_the_query_does_not_have_is_an_error_that_names_those_it_has(users: sqlite3.Connection) -> None:
    with pytest.raises(ValueError, match="the query has no column 'key', which the key names; it has id, name"):
        list(sql_rows(users, QUERY, key="key").open())


@pytest.mark.parametrize("query", ["SELECT *, id FROM users", "SELECT a.id, b.name, b.id FROM users a, users b"])
def test_two_columns_of_one_name_are_an_error(users: sqlite3.Connection, query: str) -> None:
    with pytest.raises(ValueError, match="the query has two columns 'id'; name one of them otherwise: id AS"):
        list(sql_rows(users, query, key="id").open())


@pytest.mark.parametrize("key", ["users.id", "id DESC", "id, name", "", '"id"', "1", "id\n", ["id", "id"], [], ["a b"]])
def test_what_cannot_be_the_name_of_a_column_is_an_error(users: sqlite3.Connection, key: Any) -> None:
    with pytest.raises(ValueError, match="the key"):
        sql_rows(users, QUERY, key=key)


def test_keys_that_do_not_come_in_order_are_an_error(engine: Engine) -> None:
    class Backwards(TypeDecorator[int]):
        impl = Integer
        cache_ok = True

        def process_result_value(self, value: int | None, dialect: Any) -> int:
            return -(value or 0)

    made = filled(engine, Column("id", Backwards), 1, 2, 3)

    with pytest.raises(InvalidCursor, match="the rows do not come in the order of the key 'id': near -1"):
        list(sql_rows(engine, select(made)).open())


@pytest.fixture
def stored_shorter(engine: Engine) -> Table:
    """The first three days of 2026; the second is stored as SQLite's CURRENT_TIMESTAMP, without the digits after the
    seconds that SQLAlchemy's parameters have."""
    made = filled(engine, Column("at", DateTime), *(datetime(2026, 1, day) for day in (1, 2, 3)))
    with engine.begin() as connection:
        connection.execute(text("UPDATE t SET at = '2026-01-02 00:00:00' WHERE at LIKE '2026-01-02%'"))
    return made


@pytest.mark.parametrize(
    ("batch", "cursor"),
    [
        pytest.param(1, None, id="between two batches"),
        pytest.param(500, datetime(2026, 1, 2), id="when a job goes on"),
    ],
)
def test_a_row_that_its_own_cursor_does_not_find_is_an_error(
    engine: Engine, stored_shorter: Table, batch: int, cursor: datetime | None
) -> None:
    source = sql_rows(engine, select(stored_shorter), key="at", codec=DATETIME, batch=batch)

    with pytest.raises(InvalidCursor, match=r"the key 'at' does not find its own row: .*2026, 1, 2.*; cast it"):
        list(source.open(cursor))


def test_a_row_that_its_own_cursor_does_not_find_is_an_error_with_text_as_well(tmp_path: Path) -> None:
    sqlite3.register_converter("TEST_LOWERED", lambda stored: stored.decode().lower())
    with closing(sqlite3.connect(":memory:", detect_types=sqlite3.PARSE_DECLTYPES)) as db:
        db.execute("CREATE TABLE t (shop INTEGER, name TEST_LOWERED, PRIMARY KEY (shop, name))")
        db.executemany("INSERT INTO t VALUES (1, ?)", [("A",), ("B",), ("C",)])
        source = sql_rows(db, "SELECT * FROM t", key=("shop", "name"), batch=2)

        with pytest.raises(InvalidCursor, match=r"does not find its own row: the one with \(1, 'c'\)"):
            list(source.open())


def test_times_are_in_order_even_when_the_clocks_are_put_back(engine: Engine) -> None:
    class Epoch(TypeDecorator[datetime]):
        impl = Integer
        cache_ok = True

        def process_bind_param(self, value: datetime | None, dialect: Any) -> int | None:
            return None if value is None else int(value.timestamp())

        def process_result_value(self, value: int | None, dialect: Any) -> datetime:
            return datetime.fromtimestamp(value or 0, ZoneInfo("Europe/Berlin"))

    times = [datetime(2026, 10, 24, 23, 30, tzinfo=UTC) + index * timedelta(minutes=30) for index in range(6)]
    made = filled(engine, Column("at", Epoch), *times)
    source = sql_rows(engine, select(made), key="at", codec=DATETIME, batch=2)

    cursors = [cursor for _, cursor in source.open()]
    rests = [[cursor for _, cursor in source.open(through_json(source, cursor))] for cursor in cursors]

    assert [cursor.astimezone(UTC) for cursor in cursors] == times
    assert rests == [cursors[index:] for index in range(6)]


# Keys and cursors that JSON does not hold.


class Cents(TypeDecorator[Decimal]):
    """An exact number, in a column of whole ones."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Any) -> int | None:
        return None if value is None else int(value * 100)

    def process_result_value(self, value: int | None, dialect: Any) -> Decimal:
        return Decimal(value or 0) / 100


KINDS = [
    pytest.param(Date(), [date(2026, 1, day) for day in range(1, 6)], DATE, "datetime.date", "DATE", id="date"),
    pytest.param(
        *(DateTime(), [datetime(2026, 1, 1, hour, 0, 0, hour) for hour in range(5)]),
        *(DATETIME, "datetime.datetime", "DATETIME"),
        id="datetime",
    ),
    pytest.param(
        *(Cents(), [Decimal(n) / 100 for n in range(-2, 3)], DECIMAL, "decimal.Decimal", "DECIMAL"), id="decimal"
    ),
    pytest.param(Uuid(), [UUID(int=n << 120) for n in range(5)], UUID_TEXT, "uuid.UUID", "UUID_TEXT", id="uuid"),
]


@pytest.mark.parametrize(("column", "values", "codec", "kind", "name"), KINDS)
def test_a_codec_writes_keys_that_json_does_not_hold(
    engine: Engine, column: Any, values: list[Any], codec: Codec[Any], kind: str, name: str
) -> None:
    source = sql_rows(engine, select(filled(engine, Column("k", column), *values)), key="k", codec=codec, batch=2)

    assert [cursor for _, cursor in source.open()] == values
    assert [cursor for _, cursor in source.open(through_json(source, values[2]))] == values[2:]


@pytest.mark.parametrize(("column", "values", "codec", "kind", "name"), KINDS)
def test_each_column_of_a_key_has_a_codec_of_its_own(
    engine: Engine, column: Any, values: list[Any], codec: Codec[Any], kind: str, name: str
) -> None:
    query = select(filled(engine, Column("k", column), *values), literal("a").label("shop"))
    source = sql_rows(engine, query, key=("shop", "k"), codec=(None, codec), batch=2)

    assert [cursor for _, cursor in source.open()] == [("a", value) for value in values]
    assert next(cursor for _, cursor in source.open(through_json(source, ("a", values[2])))) == ("a", values[2])


@pytest.mark.parametrize(("column", "values", "codec", "kind", "name"), KINDS)
def test_without_a_codec_the_error_names_the_one_that_is_missing(
    engine: Engine, column: Any, values: list[Any], codec: Codec[Any], kind: str, name: str
) -> None:
    query = select(filled(engine, Column("k", column), *values), literal("a").label("shop"))

    with pytest.raises(InvalidCursor, match=rf"the key 'k' is of type {kind}, .*; write codec=enumerators\.{name}\b"):
        list(sql_rows(engine, query, key="k").open())
    with pytest.raises(InvalidCursor, match=rf"write codec=\(None, enumerators\.{name}\)"):
        list(sql_rows(engine, query, key=("shop", "k")).open())


def test_bytes_need_a_codec(db: sqlite3.Connection) -> None:
    table(db, "id BLOB", b"\x00", b"\x01\xff", b"\xff")
    source = sql_rows(db, "SELECT id FROM t", codec=HEX, batch=1)

    with pytest.raises(
        InvalidCursor, match=r"builtins\.bytes, which JSON does not hold; write a codec for it, or select"
    ):
        list(sql_rows(db, "SELECT id FROM t").open())
    assert [cursor for _, cursor in source.open(through_json(source, b"\x01\xff"))] == [b"\x01\xff", b"\xff"]


@pytest.mark.parametrize("codec", [None, Codec(float.hex, float.fromhex)], ids=["without", "with a codec"])
def test_a_float_is_no_key(db: sqlite3.Connection, codec: Codec[float] | None) -> None:
    table(db, "id", 0.1, 0.2)

    with pytest.raises(
        InvalidCursor, match="the key 'id' is a float, which comes back from a driver rounded; order by"
    ):
        list(sql_rows(db, "SELECT id FROM t", codec=codec).open())


@pytest.mark.parametrize(
    ("codec", "message"),
    [
        pytest.param(
            DATE, r"makes datetime\.date\(2026, 1, 1\) of datetime\.datetime\(2026, 1, 1, 7", id="one that drops"
        ),
        pytest.param(DECIMAL, r"does not take datetime\.datetime\(2026, 1, 1, 7, 0\): ", id="one that fails"),
    ],
)
def test_a_codec_that_does_not_fit_is_an_error(engine: Engine, codec: Codec[Any], message: str) -> None:
    made = filled(engine, Column("at", DateTime), datetime(2026, 1, 1, 7))

    with pytest.raises(InvalidCursor, match=f"the codec of the key 'at' {message}"):
        list(sql_rows(engine, select(made), key="at", codec=codec).open())


@pytest.mark.parametrize(
    ("key", "codec"),
    [("id", (DATE,)), ("id", "DATE"), (("a", "b"), DATE), (("a", "b"), (DATE,)), (("a", "b"), [DATE, None, None])],
    ids=["several for one", "a text", "one for several", "too few", "too many"],
)
def test_codecs_that_do_not_go_with_the_key_are_refused(users: sqlite3.Connection, key: Any, codec: Any) -> None:
    with pytest.raises(TypeError, match=r"codec=.* does not go with the key .*; write (one|a tuple of 2)"):
        sql_rows(users, QUERY, key=key, codec=codec)


# Cursors from Redis are data.


@pytest.mark.parametrize(
    ("key", "cursor"),
    [
        *(("id", cursor) for cursor in ([1], {"id": 1}, 1.5, [])),
        *(
            (("id", "name"), cursor)
            for cursor in (1, "ab", [1], [1, "a", 2], [1, [2]], [1, None], {"id": 1, "name": "a"})
        ),
    ],
    ids=repr,
)
def test_a_cursor_that_cannot_be_one_is_refused(users: sqlite3.Connection, key: Any, cursor: Any) -> None:
    with pytest.raises(InvalidCursor, match="the cursor is"):
        list(sql_rows(users, QUERY, key=key).open(cursor))


def test_a_cursor_that_is_no_list_does_not_fit_the_codec_of_a_composite_key(users: sqlite3.Connection) -> None:
    codec = sql_rows(users, QUERY, key=("id", "name")).codec

    assert codec is not None
    with pytest.raises(ValueError, match="it is no list of 2"):
        codec.decode("ab")


@pytest.mark.parametrize(
    ("key", "cursor"), [("id", "4"), ("id", "zzz"), ("name", 4), (("id", "name"), [4, 4])], ids=repr
)
def test_a_cursor_of_another_type_than_the_key_is_refused(users: sqlite3.Connection, key: Any, cursor: Any) -> None:
    with pytest.raises(InvalidCursor, match=r"values such as .*; it is not of this query"):
        list(sql_rows(users, QUERY, key=key).open(cursor))


def test_a_cursor_is_never_a_part_of_the_text(db: sqlite3.Connection) -> None:
    table(db, "name TEXT", "a", "b")
    seen: list[str] = []
    db.set_trace_callback(seen.append)

    list(sql_rows(db, "SELECT name FROM t", key="name").open("x' OR 1=1 --"))

    assert any("'x'' OR 1=1 --'" in statement for statement in seen)


# Queries and parameters.


def test_parameters_are_bound_by_name_and_only_outside_of_quotes(users: sqlite3.Connection) -> None:
    query = """
        SELECT id, ':low' AS a, "name" AS ":name", '%' AS c -- :low
        FROM users WHERE id > :low AND id < :high /* :other */ AND name <> ':high'
    """

    rows = [row for row, _ in sql_rows(users, query, params={"low": 2, "high": 4}, batch=1).open()]

    assert rows == [{"id": 3, "a": ":low", ":name": "user 3", "c": "%"}]


@pytest.mark.parametrize(
    ("query", "params", "message"),
    [
        ("id > :low", {}, "the query has the parameter :low, and params has no 'low'"),
        ("id > :low", {"low": 1, "shop": 2}, "params has 'shop', and the query has no parameter :shop"),
        ("id > ':low'", {"low": 1}, "params has 'low', and the query has no parameter :low"),
        ("id > :pyqik_0", {"pyqik_0": 1}, "names that begin with pyqik_ are taken"),
    ],
)
def test_parameters_that_do_not_go_with_the_query_are_an_error(
    users: sqlite3.Connection, query: str, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        list(sql_rows(users, f"{QUERY} WHERE {query}", params=params).open())


@pytest.mark.parametrize("query", ["", " ; "])
def test_an_empty_query_is_an_error(users: sqlite3.Connection, query: str) -> None:
    with pytest.raises(ValueError, match="the query is empty; write a SELECT"):
        list(sql_rows(users, query).open())


@pytest.mark.parametrize("query", [text(QUERY), 5, select], ids=["text of SQLAlchemy", "number", "function"])
def test_what_is_no_query_is_an_error(users: sqlite3.Connection, query: Any) -> None:
    with pytest.raises(TypeError, match=r"the query is of type .*; write its text, or a Select of SQLAlchemy"):
        list(sql_rows(users, query).open())


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "500"], ids=repr)
def test_a_size_that_is_none_is_refused(users: sqlite3.Connection, size: Any) -> None:
    with pytest.raises(ValueError, match=r"sql_rows is to read .* rows at a time"):
        sql_rows(users, QUERY, batch=size)
    with pytest.raises(ValueError, match=r"sql_batches is to read .* rows at a time"):
        sql_batches(users, QUERY, size=size)


def test_an_error_of_the_database_is_told_with_the_batch_and_the_query(users: sqlite3.Connection) -> None:
    pairs = sql_rows(users, f"{QUERY}\n  WHERE id > :low", params={"low": 0}, batch=3).open()
    next(pairs)

    users.execute("DROP TABLE users")

    with pytest.raises(sqlite3.OperationalError, match=r"^no such table: users") as caught:
        list(pairs)
    assert caught.value.__notes__ == ["Batch 2 of 3 rows by 'id': SELECT id, name FROM users WHERE id > :low"]


# Queries that are built with SQLAlchemy.


class Base(DeclarativeBase):
    """The models of this module."""


class User(Base):
    """A row of `users`."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@pytest.fixture
def people(engine: Engine) -> Engine:
    """Users 1 to 7."""
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(User), [{"id": number, "name": f"user {number}"} for number in range(1, 8)])
    return engine


def test_a_select_of_a_model_has_its_columns(people: Engine) -> None:
    pairs = sql_rows(people, select(User).where(User.id > bindparam("low")), params={"low": 4}, batch=2).open()

    assert list(pairs) == [({"id": number, "name": f"user {number}"}, number) for number in (5, 6, 7)]


def test_a_select_may_be_a_union(people: Engine) -> None:
    query = union_all(select(User.id).where(User.id < 3), select(User.id).where(User.id > 5))

    assert ids(sql_rows(people, query, batch=2), 2) == [2, 6, 7]


def test_a_select_may_be_in_batches_by_a_composite_key(people: Engine) -> None:
    query = select((User.id % 2).label("odd"), User.id)
    source = sql_batches(people, query, key=("odd", "id"), size=2)

    assert [cursor for _, cursor in source.open(through_json(source, (0, 4)))] == [(0, 4), (1, 1), (1, 5)]


@pytest.mark.parametrize(
    ("query", "params", "message"),
    [
        pytest.param(select(User.name, func.count()), {}, "no column 'id'.* it has name, count", id="without the key"),
        pytest.param(select(User, User.id + 1, User.id), {}, "two columns 'id'", id="a column twice"),
        pytest.param(select(User), {"low": 1}, "params has 'low', and the query has no", id="without the parameter"),
    ],
)
def test_a_select_that_does_not_fit_is_an_error(
    people: Engine, query: Any, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        list(sql_rows(people, query, params=params).open())


# Threads and memory.


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A database in a file, with users 1 to 7."""
    path = str(tmp_path / "db.sqlite3")
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name)")
        add(db, *range(1, 8))
        db.commit()
    return path


async def collected(source: Source[Any, Any]) -> list[int]:
    return [row["id"] async for row in each(source)]


@pytest.mark.parametrize(
    "database", [lambda file: lambda: sqlite3.connect(file), lambda file: create_engine(f"sqlite:///{file}")]
)
def test_an_async_loop_reads_in_a_thread_that_opens_its_own_connection(
    file: str, database: Callable[[str], Any]
) -> None:
    given = database(file)

    assert asyncio.run(collected(sql_rows(given, QUERY, batch=2))) == [1, 2, 3, 4, 5, 6, 7]
    if isinstance(given, Engine):
        given.dispose()


def test_a_connection_of_another_thread_is_refused_by_sqlite(users: sqlite3.Connection) -> None:
    with (
        ThreadPoolExecutor(1) as other_thread,
        pytest.raises(sqlite3.ProgrammingError, match="created in a thread can only be used in that same thread"),
    ):
        other_thread.submit(list, sql_rows(users, QUERY).open()).result()


def test_no_more_than_a_batch_is_held(db: sqlite3.Connection) -> None:
    numbers = "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n LIMIT 200000) SELECT id FROM n"
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    db.execute(f"INSERT INTO t {numbers}")
    pairs = sql_rows(db, "SELECT id, 'x' || id AS name FROM t", batch=500).open()

    tracemalloc.start()
    try:
        count = sum(1 for _ in pairs)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert count == 200_000
    assert peak < 500_000
