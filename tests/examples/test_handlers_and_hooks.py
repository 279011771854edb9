"""What a process does around its jobs: handlers of errors and deaths, hooks, options for all jobs, fit connections."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_py
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import scoped_session, sessionmaker

import pyqik
from pyqik.middleware import sqlalchemy_sessions
from tests.support.running import run_queued

tracked: list[tuple[str, str]] = []
broken: list[list[object]] = []
models: list[str] = []

Session = scoped_session(sessionmaker())


# Called after each run that failed, also if it will be retried. None: what came was no job at all.
def report(error: BaseException, payload: pyqik.Payload | None) -> None:
    tracked.append((payload.job_class if payload else "", str(error)))


# Called when a job is given up.
def mourn(payload: pyqik.Payload, error: BaseException) -> None:
    broken.append(payload.args)


@pyqik.job("Exports::Upload")
def upload(shop_id: int) -> None:
    raise ConnectionError("the store is away")


@pyqik.job("Exports::Rank")
def rank(shop_id: int) -> None:
    assert models == ["ranking"]
    Session.execute(text("INSERT INTO ranks VALUES (:shop)"), {"shop": shop_id})
    if shop_id == 2:
        raise ValueError("a shop without orders")
    Session.commit()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """The application's database."""
    engine = create_engine(f"sqlite:///{tmp_path}/shop.sqlite3")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE ranks (shop)"))
    Session.configure(bind=engine)
    yield engine
    engine.dispose()


@pytest.fixture(autouse=True)
def application(redis_url: str) -> None:
    """Configuration in code, and a hook."""
    pyqik.configure(pyqik.Config(redis=redis_url, default_job_options={"queue": "exports", "retry": 0}))

    @pyqik.on("startup")
    def load_model() -> None:
        models.append("ranking")

    for noted in (tracked, broken, models):
        noted.clear()


def test_options_for_all_jobs_are_weaker_than_a_push(redis: redis_py.Redis) -> None:
    upload.perform_async(1)
    upload.set(queue="urgent").perform_async(1)

    assert [redis.llen("queue:exports"), redis.llen("queue:urgent")] == [1, 1]


def test_handlers_hear_of_errors_and_deaths(redis_url: str) -> None:
    upload.perform_async(1)
    upload.set(retry=3).perform_async(2)

    run_queued(redis_url, ["exports"], jobs=2, error_handlers=[report], death_handlers=[mourn])

    assert tracked == [("Exports::Upload", "the store is away")] * 2
    assert broken == [[1]]


def test_each_job_has_a_session_of_its_own_and_the_model_was_loaded_before(redis_url: str, engine: Engine) -> None:
    for shop in (1, 2, 3):
        rank.perform_async(shop)

    run_queued(redis_url, ["exports"], jobs=3, server_middleware=[sqlalchemy_sessions(Session)])

    with engine.connect() as connection:
        assert sorted(connection.scalars(text("SELECT shop FROM ranks"))) == [1, 3]
