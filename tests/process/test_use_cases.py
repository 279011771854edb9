"""The use cases of `tests/examples` as real processes run them: undisturbed, deployed over, and killed."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

import pyqik
from pyqik.api import DeadSet
from tests.process.conftest import StartWork
from tests.support.process import ROOT, WorkProcess
from tests.support.wait import wait_until

USE_CASES = ROOT / "tests" / "examples" / "use_cases"
MODULES = ["latency", "shop.short_export", "shop.long_export", "shop.csv_import"]
#: Days, orders, or rows.
COUNT = 400
#: As many are done, in turn, before the next deploy or kill comes.
LEAST, MOST = 5, 30

#: As if the database were on another machine, and it takes its time as long as there is a file of that name: no job is
#: done then before the test comes to disturb it. It is the process that is killed, so nothing need be on the disk.
LATENCY = """
import threading
from pathlib import Path
from sqlalchemy import Engine, event

@event.listens_for(Engine, "connect")
def be_quick(connection, _):
    connection.execute("PRAGMA synchronous = OFF")

@event.listens_for(Engine, "after_cursor_execute")
def wait(*_):
    threading.Event().wait(0.015 if Path("slow").exists() else 0.001)
"""

StartShop = Callable[[], WorkProcess]

TEXTS = ["Kaffee", 'Tee "grün",\nlose', "Käse 🧀", "Brot\r\n(geschnitten)"]


@dataclass(frozen=True)
class UseCase:
    """A job, and its arguments but for the path at which it publishes, which comes last."""

    name: str
    job_class: str
    args: tuple[Any, ...]
    #: What is kept in Redis for a while when it is done.
    kept: tuple[str, ...] = ()

    @property
    def undisturbed(self) -> str:
        """The jid of the run with which others are compared."""
        return f"{self.name}-undisturbed"

    @property
    def disturbed(self) -> str:
        """The jid of the run that has to bear something."""
        return f"{self.name}-disturbed"


CASES = [
    UseCase("short", "Exports::SalesByDay", ("2001-01-01", "2002-02-04")),
    UseCase("long", "Exports::OrderLines", (7, "2002-12-31"), ("progress",)),
    UseCase("import", "Imports::Customers", ("upload.csv",), ("progress", "rows", "errors")),
]


class Shop:
    """The application's directory, with its database, an upload, the store for files of jobs, and what is published."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.slow = directory / "slow"
        (directory / "latency.py").write_text(LATENCY)
        (directory / "published").mkdir()
        (directory / "pyqik.toml").write_text('flush_interval = 0.05\nfiles = "parts"\n')
        with self.database() as connection:
            connection.executescript((USE_CASES / "structure.sql").read_text("utf-8"))
            days = [(number, str(date(2001, 1, 1) + timedelta(number))) for number in range(COUNT)]
            connection.executemany("INSERT INTO orders VALUES (?, 7, ?, 'Zoë')", days)
            lines = [(n, p, TEXTS[(n + p) % 4], n, p) for n in range(COUNT) for p in range(n % 4)]
            connection.executemany("INSERT INTO order_lines VALUES (?, ?, ?, ?, ?)", lines)
            connection.commit()
        rows = [f'{n}@b.org,"Zoë\r\n{n}",,{"1.00" if n % 5 else "one"}' for n in range(COUNT)]
        (directory / "upload.csv").write_text("\r\n".join(["email,name,born_on,credit", *rows]), "utf-8", newline="")

    def database(self) -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(self.directory / "shop.sqlite"))

    def take_customers(self) -> list[Any]:
        """All of them, who are removed."""
        with self.database() as connection, connection:
            customers = connection.execute("SELECT * FROM customers ORDER BY email").fetchall()
            connection.execute("DELETE FROM customers")
            return customers

    def published(self, jid: str) -> Path:
        return self.directory / "published" / f"{jid}.csv"

    @property
    def parts(self) -> list[Path]:
        """What is in the store, but for the mark that says whose it is."""
        return [path for path in (self.directory / "parts").rglob("*") if path.is_file() and path.name != ".pyqik"]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.fixture
def start_shop(start_work: StartWork, shop: Shop) -> StartShop:
    """`pyqik work` with the use cases, in that directory."""
    environment = {"PYTHONPATH": f"{USE_CASES}:{ROOT}", "DATABASE_URL": "sqlite:///shop.sqlite"}
    options = ("-q", "shop", "-c", "3")
    return lambda: start_work(*options, modules=MODULES, environment=environment, cwd=shop.directory)


def push(redis: redis_py.Redis, case: UseCase, jid: str) -> None:
    args = [*case.args, f"published/{jid}.csv"]
    payload = {"class": case.job_class, "args": args, "jid": jid, "retry": 5, "queue": "shop", "created_at": 1.5}
    redis.lpush("queue:shop", json.dumps(payload))


def wait_for_end(redis: redis_py.Redis, shop: Shop, jid: str) -> None:
    wait_until(shop.published(jid).exists, 60, f"{jid} has published its file")
    wait_until(lambda: not redis.exists(f"it-{jid}", "queue:shop"), 30, f"the end of {jid}")


def wait_for_items(redis: redis_py.Redis, jid: str, run: int, items: int) -> int:
    """Wait until so many are done, the last of them by the run of this number; how many are."""

    def done() -> int:
        progress = client.progress(jid)
        is_there = progress is not None and progress.executions == run and progress.done >= items
        return int(progress.done) if progress is not None and is_there else 0

    client = pyqik.Client(redis)
    return wait_until(done, 60, f"{items} items of {jid}, in run {run}")


def check(redis: redis_py.Redis, shop: Shop, case: UseCase) -> None:
    """It came out as if nothing had happened, and nothing is left of it."""
    jid = case.disturbed
    assert shop.published(jid).read_bytes() == shop.published(case.undisturbed).read_bytes()
    left: Any = redis.keys(f"*{jid}*")
    # A crash counts for three days.
    assert {key.decode() for key in left} - {f"pyqik:crashes:{jid}"} == {f"{each}/{jid}" for each in case.kept}
    assert all(redis.ttl(key) > 0 for key in left)


def check_all(redis: redis_py.Redis, shop: Shop, cases: list[UseCase]) -> None:
    for case in cases:
        check(redis, shop, case)
    jids = [jid for case in cases for jid in (case.disturbed, case.undisturbed)]
    assert {path.stem for path in (shop.directory / "published").iterdir()} == set(jids)
    assert shop.parts == []
    left: Any = redis.keys()
    of_all_jobs = {"queues", "stat:processed", "stat:failed", "pyqik:files"}
    assert {key.decode() for key in left if redis.ttl(key) < 0} <= of_all_jobs


def test_three_deploys_change_nothing(start_shop: StartShop, shop: Shop, redis: redis_py.Redis) -> None:
    work = start_shop()
    for case in CASES:
        push(redis, case, case.undisturbed)
    for case in CASES:
        wait_for_end(redis, shop, case.undisturbed)
    customers = shop.take_customers()

    shop.slow.touch()
    for case in CASES:
        push(redis, case, case.disturbed)
    items = dict.fromkeys(CASES, 0)
    for deploy in (1, 2, 3):
        more = random.randint(LEAST, MOST)
        items = {case: wait_for_items(redis, case.disturbed, deploy, items[case] + more) for case in CASES}
        work.end()
        assert redis.llen("queue:shop") == 3, "one of them was done before"
        if deploy == 3:
            shop.slow.unlink()
        work = start_shop()
    for case in CASES:
        wait_for_end(redis, shop, case.disturbed)
    work.end()

    check_all(redis, shop, CASES)
    assert (redis.get("stat:processed"), int(redis.get("stat:failed") or 0)) == (b"6", 0)
    assert shop.take_customers() == customers
    assert len(customers) == COUNT - COUNT // 5


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_three_kills_change_nothing(start_shop: StartShop, shop: Shop, redis: redis_py.Redis, case: UseCase) -> None:
    work = start_shop()
    push(redis, case, case.undisturbed)
    wait_for_end(redis, shop, case.undisturbed)
    customers = shop.take_customers()

    shop.slow.touch()
    push(redis, case, case.disturbed)
    items = 0
    for kill in (1, 2, 3):
        items = wait_for_items(redis, case.disturbed, kill, items + random.randint(LEAST, MOST))
        # The one that has the job was started last: what was in a crash runs alone next.
        os.kill(work.children[-1], signal.SIGKILL)
        assert not shop.published(case.disturbed).exists(), "it was done before"
    shop.slow.unlink()
    if case.name == "short":
        # It does not get on between two kills: that many, and a person has to look.
        dead = DeadSet(redis=redis)
        wait_until(lambda: dead.size == 1, 30, "it is in the dead set")
        for entry in dead:
            assert "SIGKILL" in (entry.error_message or "")
            entry.retry()
    wait_for_end(redis, shop, case.disturbed)
    work.end()

    check_all(redis, shop, [case])
    assert shop.take_customers() == customers
