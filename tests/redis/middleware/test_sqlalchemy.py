"""`sqlalchemy_sessions` with a real SQLAlchemy and a database in a file: each job has a session of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import async_scoped_session, async_sessionmaker
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from structlog.testing import capture_logs

import pyqik
from pyqik.middleware import sqlalchemy_sessions
from tests.redis.middleware.conftest import RunJobs


def nothing_around(payload: pyqik.Payload) -> Iterator[None]:
    """What a process without the middleware has."""
    yield


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A database with an empty table `note`."""
    engine = create_engine(f"sqlite:///{tmp_path}/db.sqlite3")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE note (number PRIMARY KEY)"))
    yield engine
    engine.dispose()


@pytest.fixture
def sessions(engine: Engine) -> scoped_session[Session]:
    """The application's registry: one session for each thread."""
    return scoped_session(sessionmaker(engine))


def insert(sessions: scoped_session[Session], number: int) -> None:
    """Write a row."""
    sessions.execute(text("INSERT INTO note VALUES (:number)"), {"number": number})


def rows(engine: Engine) -> list[int]:
    """What has been committed."""
    with engine.connect() as connection:
        return list(connection.scalars(text("SELECT number FROM note ORDER BY number")))


def test_each_job_has_a_session_of_its_own(run_jobs: RunJobs, sessions: scoped_session[Session]) -> None:
    seen: list[tuple[Session, threading.Thread]] = []

    def look() -> None:
        seen.append((sessions(), threading.current_thread()))

    run_jobs(sqlalchemy_sessions(sessions), look, look)

    assert seen[0][0] is not seen[1][0]
    assert seen[0][1] is seen[1][1]


ERRORS = [None, ValueError("no"), SystemExit(1), pyqik.Shutdown("stop")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("kind", ["with", "without"])
def test_what_a_job_has_not_committed_does_not_leak_into_the_next_job_of_the_thread(
    run_jobs: RunJobs, engine: Engine, sessions: scoped_session[Session], kind: str, error: BaseException | None
) -> None:
    runs: list[threading.Thread] = []

    def first() -> None:
        runs.append(threading.current_thread())
        if len(runs) == 1:
            insert(sessions, 1)
            if error is not None:
                raise error

    def second() -> None:
        runs.append(threading.current_thread())
        insert(sessions, 2)
        sessions.commit()

    middleware = sqlalchemy_sessions(sessions) if kind == "with" else nothing_around
    run_jobs(middleware, first, second)

    assert len(set(runs)) == 1
    assert rows(engine) == ([2] if kind == "with" else [1, 2])


@pytest.mark.parametrize(("kind", "ending"), [("with", "job.done"), ("without", "job.failed")])
def test_a_failed_transaction_does_not_leak_into_the_next_job(
    run_jobs: RunJobs, engine: Engine, sessions: scoped_session[Session], kind: str, ending: str
) -> None:
    def collide() -> None:
        for _ in range(2):
            insert(sessions, 1)

    def break_connection() -> None:
        # As if the server had gone away in the middle of a transaction.
        raw: Any = sessions.connection().connection.dbapi_connection
        raw.close()
        insert(sessions, 2)

    def goes_on() -> None:
        insert(sessions, 3)
        sessions.commit()

    middleware = sqlalchemy_sessions(sessions) if kind == "with" else nothing_around
    endings = run_jobs(middleware, collide, break_connection, goes_on)

    assert endings == ["job.failed", "job.failed", ending]
    assert rows(engine) == ([3] if kind == "with" else [])


def test_a_job_that_opens_no_session_pays_for_none(run_jobs: RunJobs) -> None:
    made: list[int] = []
    sessions = scoped_session(lambda: made.append(1))  # type: ignore[arg-type,return-value]  # it is never made

    endings = run_jobs(sqlalchemy_sessions(sessions), lambda: None)

    assert (endings, made) == (["job.done"], [])


class Stubborn:
    """A registry whose session cannot be closed."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.registry = self
        self.cleared = 0

    def remove(self) -> None:
        raise self.error

    def clear(self) -> None:
        """What `scoped_session.registry` has."""
        self.cleared += 1


def test_a_session_that_cannot_be_closed_is_forgotten_and_the_job_is_done(run_jobs: RunJobs) -> None:
    registry = Stubborn(OSError("the server went away"))

    with capture_logs() as lines:
        endings = run_jobs(sqlalchemy_sessions(registry), lambda: None)

    assert (endings, registry.cleared) == (["job.done"], 2)
    assert len([line for line in lines if line["event"].startswith("a session could not be closed")]) == 2


def test_an_interruption_while_the_session_is_closed_passes_through_and_leaves_no_session() -> None:
    registry = Stubborn(pyqik.Shutdown("stop"))
    around = sqlalchemy_sessions(registry)(pyqik.Payload({}))

    with pytest.raises(pyqik.Shutdown):
        next(around)

    assert registry.cleared == 1


def test_an_async_job_leaves_the_sessions_of_its_thread_alone(
    run_jobs: RunJobs, sessions: scoped_session[Session]
) -> None:
    seen: list[Session] = []

    async def look() -> None:
        seen.append(sessions())

    async def look_again() -> None:
        seen.append(sessions())

    run_jobs(sqlalchemy_sessions(sessions), look, look_again)

    assert seen[0] is seen[1]


def test_a_registry_of_async_sessions_is_refused_with_the_way_out() -> None:
    registry = async_scoped_session(async_sessionmaker(), scopefunc=threading.get_ident)

    with pytest.raises(TypeError, match="async with AsyncSession"):
        sqlalchemy_sessions(registry)


def test_a_session_factory_is_no_registry() -> None:
    with pytest.raises(TypeError, match="give sqlalchemy_sessions a scoped_session"):
        sqlalchemy_sessions(sessionmaker())  # type: ignore[arg-type]  # that is what is tested
