"""Long jobs in each of the styles that the guide (`pyqik.long_jobs`) shows: stopped, crashed, and gone on with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import Engine, create_engine, text

import pyqik
from pyqik import enumerators, long_jobs, testing

#: What the applications below have done, in order.
done: list[Any] = []


@pyqik.job("Customers::Import", queue="imports")
def import_customers(path: str) -> None:
    for row in pyqik.each(enumerators.csv_rows(path)):
        upsert_customer(row)
        pyqik.counters["imported"] += 1
    notify(pyqik.counters["imported"])


@dataclass(frozen=True)
class Page:
    """One page of something that is read over the network."""

    name: str
    next_name: str | None


PAGES: Final = {page.name: page for page in (Page("first", "b"), Page("b", "c"), Page("c", None))}


def fetch(name: str | None) -> Page | None:
    return None if name is None else PAGES[name]


def pages(cursor: str | None) -> Iterator[tuple[Page, str]]:
    page = fetch(cursor or "first")
    while page is not None:
        yield page, page.name
        page = fetch(page.next_name)


@pyqik.job("Pages::Read")
def read_pages() -> None:
    for page in pyqik.each(pages):
        done.append(page.name)


@pyqik.job("Days::Rebuild")
def rebuild_days(days: int) -> None:
    for day in range(pyqik.resume(0), days):
        rebuild_day(day)
        pyqik.checkpoint(day + 1)


@pyqik.job("Items::Purge")
def purge(ids: list[str]) -> None:
    for item_id in ids:
        pyqik.raise_if_stopping()
        if item_id not in done:
            done.append(item_id)


@pyqik.job("Reports::Rebuild", queue="reports")
def rebuild_report(days: int) -> None:
    with pyqik.step("rebuild") as step:
        for day in range(step.resume(default=0), days):
            rebuild_day(day)
            step.checkpoint(day + 1)
    with pyqik.step("announce"):
        announce()


class BackfillSlugs(pyqik.IterableJob, name="BackfillSlugs", queue="low"):
    def build_enumerator(self, ids: list[int], *, cursor: int | None) -> pyqik.Source[int, int]:
        return enumerators.array(ids)

    def each_iteration(self, post_id: int, ids: list[int]) -> None:
        write_slug(post_id)

    def on_complete(self) -> None: ...


@pyqik.job("RemindUsers")
def remind_users(days: int) -> None:
    query = "SELECT id, email FROM users WHERE idle_days > :days"
    for user in pyqik.each(enumerators.sql_rows(engine, query, key="id", params={"days": days})):
        remind(user["email"])


@pyqik.job("RemindUsers::Plain")
def remind_users_in_a_plain_loop(days: int) -> None:
    with engine.connect() as db:
        for user in db.execute(QUERY, {"days": days}).mappings():
            remind(user["email"])


@pyqik.job("Numbers::Add")
def add_numbers(numbers: list[int]) -> None:
    for number in pyqik.each(enumerators.array(numbers)):
        done.append(number)


@pyqik.job("Numbers::AddFromTheEnd")
def add_numbers_from_the_end(numbers: list[int]) -> None:
    source = enumerators.array(numbers[::-1])
    for number in pyqik.each(source, version=2, migrate=lambda cursor, version: None):
        done.append(number)


QUERY: Final = text("SELECT id, email FROM users WHERE idle_days > :days")
engine: Engine


def upsert_customer(row: Mapping[Any, Any]) -> None:
    done.append(row["name"])


def notify(imported: int) -> None:
    done.append(f"imported {imported}")


def rebuild_day(day: int) -> None:
    done.append(day)


def announce() -> None:
    done.append("announced")


def write_slug(post_id: int) -> None:
    done.append(post_id)


def remind(email: str) -> None:
    done.append(email)


@pytest.fixture(autouse=True)
def application() -> Iterator[None]:
    """Nothing has been done yet; in the database are some users."""
    global engine
    done.clear()
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT, idle_days INTEGER)"))
        users = [{"id": number, "email": f"{number}@example.org", "days": number} for number in range(1, 6)]
        connection.execute(text("INSERT INTO users VALUES (:id, :email, :days)"), users)
    yield
    engine.dispose()


@pytest.fixture
def customers(tmp_path: Path) -> str:
    """A table of four customers."""
    path = tmp_path / "customers.csv"
    path.write_text('id,name\n1,Zoë\n2,"Ann\nLee"\n3,Bo\n4,Cy\n', "utf-8")
    return str(path)


def test_an_import_goes_on_at_the_very_next_row(customers: str) -> None:
    run = testing.perform(import_customers, customers, interrupt_after=2)
    assert run.interrupted
    assert done == ["Zoë", "Ann\nLee"]

    assert run.again().completed
    assert done == ["Zoë", "Ann\nLee", "Bo", "Cy", "imported 4"]


def test_a_generator_function_of_ones_own_is_a_source() -> None:
    run = testing.perform(read_pages, interrupt_after=2)

    assert run.again().completed
    assert done == ["first", "b", "c"]


@pytest.mark.parametrize("job", [rebuild_days, rebuild_report], ids=["checkpoints", "steps"])
def test_what_has_no_loop_goes_on_at_its_checkpoint(job: Any) -> None:
    run = testing.perform(job, 4, interrupt_after=2)
    assert done == [0, 1]

    assert run.again().completed
    assert [day for day in done if day != "announced"] == [0, 1, 2, 3]


def test_a_safe_place_saves_nothing() -> None:
    run = testing.perform(purge, ["a", "b", "c"], interrupt_after=2)
    assert run.interrupted
    assert run.cursor is None

    assert run.again().completed
    assert done == ["a", "b", "c"]


def test_a_class_looks_as_in_ruby() -> None:
    run = testing.perform(BackfillSlugs, [7, 8, 9], interrupt_after=2)
    assert run.cursor == 2

    assert run.again().completed
    assert done == [7, 8, 9]


def test_a_query_is_gone_through_by_its_key() -> None:
    remind_users_in_a_plain_loop(2)
    whole = done.copy()
    done.clear()

    run = testing.perform(remind_users, 2, interrupt_after=1)

    assert run.again().completed
    assert done == whole == ["3@example.org", "4@example.org", "5@example.org"]


def test_called_like_any_function_it_is_a_plain_loop(customers: str) -> None:
    import_customers(customers)
    remind_users(4)

    assert done == ["Zoë", "Ann\nLee", "Bo", "Cy", "imported 4", "5@example.org"]


def test_a_new_version_of_a_cursor_begins_anew_if_it_is_told_so() -> None:
    run = testing.perform(add_numbers, [1, 2, 3], interrupt_after=2)
    done.clear()

    assert testing.perform(add_numbers_from_the_end, [1, 2, 3], state=run.state).completed
    assert done == [3, 2, 1]


@pytest.mark.parametrize(
    ("job", "arguments"), [(rebuild_days, [3]), (rebuild_report, [3]), (BackfillSlugs, [[1, 2, 3]]), (read_pages, [])]
)
def test_nothing_is_left_out_wherever_a_job_is_interrupted(job: Any, arguments: list[Any]) -> None:
    testing.perform(job, *arguments).or_raise()
    whole = set(done)

    for run in testing.every_interruption(job, *arguments, before=done.clear):
        assert set(done) == whole, run.story


def test_what_the_guide_shows_is_what_runs_here() -> None:
    here = re.sub(r"\s+", " ", Path(__file__).read_text("utf-8"))
    shown = [
        re.sub(r"\s+#.*", "", line).strip().removesuffix(" ...")
        for block in re.findall(r"::\n\n((?: {4}.*\n|\n)+)", long_jobs.__doc__ or "")
        for line in block.splitlines()
    ]

    missing = [line for line in shown if line and line not in here]
    assert (len(shown) > 40, missing) == (True, [])
