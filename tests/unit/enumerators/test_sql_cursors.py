"""Cursors in the author's own database: they hold when the work holds, and of two runs of one job one can commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine

from pyqik.core.errors import PyqikError
from pyqik.enumerators.sql_cursors import CursorTaken, SavedCursor, SqlCursors

JID = "a" * 24

#: Opens a connection to one database; each is closed when the test ends.
Connect = Callable[[], Any]


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A database with the table of cursors, and one for work."""
    path = str(tmp_path / "db.sqlite3")
    with closing(sqlite3.connect(path)) as connection:
        SqlCursors(connection).create()
        connection.execute("CREATE TABLE work (number)")
        connection.commit()
    return path


@pytest.fixture
def engine(file: str) -> Iterator[Engine]:
    """The same, as SQLAlchemy has it."""
    engine = create_engine(f"sqlite:///{file}")
    yield engine
    engine.dispose()


@pytest.fixture(params=["driver", "sqlalchemy"])
def connect(request: pytest.FixtureRequest, file: str, engine: Engine) -> Iterator[Connect]:
    """With each kind of connection in turn."""
    opened = []

    def connect() -> Any:
        # A lock that does not come is an error at once.
        made: Any = sqlite3.connect(file, timeout=0) if request.param == "driver" else engine.connect()
        opened.append(made)
        return made

    yield connect
    for connection in opened:
        connection.close()


def test_nothing_is_saved_at_first(connect: Connect) -> None:
    assert SqlCursors(connect()).load(JID) is None


def test_what_was_saved_is_loaded(connect: Connect) -> None:
    cursors = SqlCursors(connect())

    cursors.save(JID, "", '["a", 5]', None)

    assert cursors.load(JID) == SavedCursor(cursor='["a", 5]', counter=1)


def test_each_save_counts(connect: Connect) -> None:
    cursors = SqlCursors(connect())

    counter = cursors.save(JID, "", "1", None)
    counter = cursors.save(JID, "", "1", counter)
    counter = cursors.save(JID, "", "2", counter)

    assert counter == 3
    assert cursors.load(JID) == SavedCursor(cursor="2", counter=3)


def test_each_loop_and_each_job_has_its_own(connect: Connect) -> None:
    cursors = SqlCursors(connect())

    cursors.save(JID, "rows", "1", None)
    cursors.save(JID, "Rows", "2", None)
    cursors.save("b", "rows", "3", None)

    assert [cursors.load(*place) for place in [(JID, "rows"), (JID, "Rows"), ("b", "rows"), (JID, "")]] == [
        *(SavedCursor(text, 1) for text in "123"),
        None,
    ]


def test_it_is_the_caller_who_commits_and_the_cursor_holds_with_the_work(connect: Connect, file: str) -> None:
    connection = connect()
    run = getattr(connection, "exec_driver_sql", None) or connection.execute
    cursors = SqlCursors(connection)

    run("INSERT INTO work VALUES (1)")
    counter = cursors.save(JID, "", "1", None)
    connection.commit()
    run("INSERT INTO work VALUES (2)")
    cursors.save(JID, "", "2", counter)
    connection.rollback()

    with closing(sqlite3.connect(file)) as own:
        assert own.execute("SELECT number FROM work").fetchall() == [(1,)]
        assert SqlCursors(own).load(JID) == SavedCursor("1", 1)


def test_of_two_runs_that_begin_only_one_can_save(connect: Connect) -> None:
    first, second = connect(), connect()
    begun = [SqlCursors(each).load(JID) for each in (first, second)]
    second.rollback()

    SqlCursors(first).save(JID, "rows", "5", None)
    first.commit()

    assert begun == [None, None]
    with pytest.raises(CursorTaken, match=f"the loop 'rows' of job {JID} was begun by another run of it"):
        SqlCursors(second).save(JID, "rows", "6", None)


def test_of_two_runs_that_go_on_only_one_can_save(connect: Connect) -> None:
    first, second = connect(), connect()
    counter = SqlCursors(first).save(JID, "", "5", None)
    first.commit()

    SqlCursors(second).save(JID, "", "6", counter)
    second.commit()

    with pytest.raises(CursorTaken, match=f"the loop of job {JID} is not at save 1 any more: another run"):
        SqlCursors(first).save(JID, "", "7", counter)
    assert SqlCursors(second).load(JID) == SavedCursor("6", 2)


def test_a_run_whose_state_was_removed_cannot_save(connect: Connect) -> None:
    cursors = SqlCursors(connect())
    counter = cursors.save(JID, "", "5", None)

    cursors.forget(JID)

    with pytest.raises(CursorTaken):
        cursors.save(JID, "", "6", counter)


def test_to_forget_a_job_removes_all_of_its_cursors_and_no_other(connect: Connect) -> None:
    cursors = SqlCursors(connect())
    for place in [(JID, "a"), (JID, "b"), ("other", "a")]:
        cursors.save(*place, "1", None)

    cursors.forget(JID)
    cursors.forget(JID)

    assert [cursors.load(*place) is None for place in [(JID, "a"), (JID, "b"), ("other", "a")]] == [True, True, False]


def test_the_table_is_made_once_and_may_have_another_name(connect: Connect) -> None:
    cursors = SqlCursors(connect(), table="main.app_cursors")

    cursors.create()
    cursors.save(JID, "", "1", None)
    cursors.create()

    assert cursors.load(JID) == SavedCursor("1", 1)


def test_the_time_of_the_last_save_is_kept_for_people(connect: Connect, file: str) -> None:
    connection = connect()
    SqlCursors(connection).save(JID, "", "1", None)
    connection.commit()

    with closing(sqlite3.connect(file)) as own:
        assert own.execute("SELECT updated_at LIKE '20__-__-__ __:__:__' FROM pyqik_cursors").fetchall() == [(1,)]


def test_values_are_never_a_part_of_the_text(connect: Connect) -> None:
    evil = "'; DROP TABLE pyqik_cursors; --"
    cursors = SqlCursors(connect())

    cursors.save(evil, evil, evil, None)

    assert cursors.load(evil, evil) == SavedCursor(evil, 1)


@pytest.mark.parametrize("table", ["", "a b", "a;b", "a.b.c", '"a"', "a--", "a\n"], ids=repr)
def test_what_is_no_name_of_a_table_is_refused(file: str, table: str) -> None:
    with closing(sqlite3.connect(file)) as connection, pytest.raises(ValueError, match="write a name such as"):
        SqlCursors(connection, table=table)


@pytest.mark.parametrize(
    ("jid", "name", "message"),
    [
        ("a" * 65, "", "the jid 'a+'… has 65 characters; the table has room for 64"),
        (JID, "n" * 121, "the name 'n+'… has 121 characters; the table has room for 120"),
    ],
    ids=["jid", "name"],
)
def test_what_a_database_could_cut_off_is_refused(connect: Connect, jid: str, name: str, message: str) -> None:
    cursors = SqlCursors(connect())

    with pytest.raises(ValueError, match=message):
        cursors.save(jid, name, "1", None)
    with pytest.raises(ValueError, match=message):
        cursors.load(jid, name)


def test_a_table_to_which_two_loops_are_the_same_is_an_error(file: str) -> None:
    with closing(sqlite3.connect(file)) as connection:
        columns = "jid TEXT, name TEXT COLLATE NOCASE, cursor_json TEXT, counter INTEGER, updated_at TEXT"
        connection.execute(f"CREATE TABLE ci ({columns}, PRIMARY KEY (jid, name))")
        cursors = SqlCursors(connection, table="ci")
        cursors.save(JID, "rows", "1", None)

        with pytest.raises(PyqikError, match=f"has the cursor of 'rows' of '{JID}', and takes 'Rows' of .*collation"):
            cursors.load(JID, "Rows")


def test_an_error_that_is_none_of_another_run_passes_as_it_is(file: str) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("DROP TABLE pyqik_cursors")

        with pytest.raises(sqlite3.OperationalError, match="no such table: pyqik_cursors"):
            SqlCursors(connection).save(JID, "", "1", None)


def test_a_driver_that_has_one_error_for_all_is_understood(file: str) -> None:
    class DatabaseError(Exception):
        """As pg8000 raises it."""

    class Connection:
        __module__ = "sqlite3"

        def cursor(self) -> Any:
            raise DatabaseError({"S": "ERROR", "C": "23505", "M": "duplicate key value violates unique constraint"})

    with pytest.raises(CursorTaken):
        SqlCursors(Connection()).save(JID, "", "1", None)


@pytest.mark.parametrize("connection", ["sqlite://", create_engine("sqlite://"), lambda: None], ids=type)
def test_only_a_connection_can_be_in_the_transaction_of_the_work(connection: Any) -> None:
    with pytest.raises(TypeError, match=r"is no [cC]onnection; give (one of a DB-API driver|.*engine\.connect\(\))"):
        SqlCursors(connection)


def test_a_taken_cursor_is_an_error_of_pyqik() -> None:
    assert issubclass(CursorTaken, PyqikError)
