"""Long jobs that Ruby and Python have in common: where one stops the other goes on, and either cancels the other's."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

import pyqik
from compat.conftest import StartPyqik, web_versions
from compat.evidence import registered
from compat.iterables import Batches, Gated, Numbers, RecordBatches, Records, Rows
from compat.processes import RunningProgram
from compat.real_sidekiq import RealSidekiq
from tests.support.wait import wait_until

#: The queue that both serve, one after the other.
QUEUE = "long"
#: Seconds until jobs are where they have been let go. Where Ruby is to write the state, it waits 5 for that.
PATIENCE = 20.0
#: What a process logs when it has told its jobs to stop, and they still run.
STOPPING = {"sidekiq": "Pausing to allow jobs to finish", "pyqik": "stop: waiting for running jobs"}

NUMBERS = [10, "ü", None, 1.5, {"a": [1]}, [], False, -1, 2**60]
#: The lines of a CSV file, None for a blank one. By twos, two of the batches have nothing but blank lines.
LINES = [
    *(["1", "Zoë"], None, ["2", "two\nlines"], ["3", 'she said "hello", twice'], None, ["4", "\n"], None, None),
    *(["5", "𝄞 and ü"], ["6", "a\r\nb"], None, ["7", "\n\n2,\n"], None, None, ["8", "plain"], ["9", " "]),
]
ROWS = [line for line in LINES if line]
BATCHES = [batch for i in range(0, len(LINES), 2) if (batch := [line for line in LINES[i : i + 2] if line])]
RECORDS = [[3, "Zoë"], [4, "𝄞"], [9, "it's"], [10, "a"], [1000, "b"], [2**40, "c"], [2**40 + 1, "d"], [2**62, "e"]]
#: In the order of their codes, which is that of bytes; by twos.
PLACES = [
    *([["", "nowhere"], ["10", "a"]], [["9", "b"], ["B'C", "it's"]], [["Z", "c"], ["a", "d"]]),
    *([["ab", "e"], ["z", "f"]], [["ä", "g"], ["ﬀ", "h"]], [["𝄞", "i"], ["𝄞𝄞", "j"]]),
]
#: What a job of each class goes over, as it is written down.
ITEMS: dict[str, list[Any]] = {
    "Long::Numbers": NUMBERS,
    "Long::Rows": ROWS,
    "Long::Batches": BATCHES,
    "Long::Records": RECORDS,
    "Long::RecordBatches": PLACES,
}
#: Where a job of each class is resumed: at each item, between two, where one is gone, and behind the last.
CURSORS: dict[str, list[Any]] = {
    "Long::Numbers": [None, *range(len(NUMBERS) + 2)],
    "Long::Rows": [None, *range(len(LINES) + 2)],
    "Long::Batches": [None, *range(len(LINES) // 2 + 3)],
    "Long::Records": [None, *(number for number, _ in RECORDS), 0, 5, 2**62 + 1],
    "Long::RecordBatches": [None, *(code for batch in PLACES for code, _ in batch), "B", "ö", "𝄢", "𝅘"],
}

newest = pytest.mark.parametrize("sidekiq", ["8.1"], indirect=True)

#: Starts a process of "ruby" or "python" that runs what waits in the queue.
Start = Callable[[str], RunningProgram]


@dataclass(frozen=True)
class LongJob:
    """A job that was pushed, with the items that it goes over."""

    redis: redis_py.Redis
    job_class: str
    jid: str
    items: list[Any]

    @property
    def ledger(self) -> list[list[Any]]:
        """What has been done in either language, as [language, what, value]."""
        entries: Any = self.redis.lrange(f"ledger:{self.jid}", 0, -1)
        return [json.loads(entry) for entry in entries]

    @property
    def state(self) -> dict[str, str]:
        """The fields of its state."""
        fields: Any = self.redis.hgetall(f"it-{self.jid}")
        return {name.decode(): value.decode() for name, value in fields.items()}

    @property
    def added(self) -> dict[str, str]:
        """What Python has added to Ruby's own fields."""
        return {name: value for name, value in self.state.items() if name not in ("ex", "c", "rt", "items")}

    @property
    def begun(self) -> int:
        """How many items have been begun."""
        return sum(what == "item" for _, what, _ in self.ledger)

    @property
    def is_over(self) -> bool:
        """Whether it has come to its end, and has left no state."""
        return self.callbacks[-1:] == ["on_complete"] and not self.redis.exists(f"it-{self.jid}")

    @property
    def callbacks(self) -> list[str]:
        """The callbacks that were called."""
        return [what for _, what, _ in self.ledger if what != "item"]

    def let(self, items: int, last: str = "go") -> None:
        """Let the job go on for so many items. `last` is what it hears at the last one; "fail" is for both languages,
        "flush" for Ruby alone.
        """
        self.redis.rpush(f"gate:{self.jid}", *["go"] * (items - 1), last)

    def finish(self) -> None:
        """Let the job go on to its end, and wait for that."""
        self.let(len(self.items))
        wait_until(lambda: self.is_over, PATIENCE, f"the end of {self.job_class}")

    def wait_for_item(self, count: int) -> None:
        """Wait until so many items have been begun."""
        wait_until(lambda: self.begun >= count, PATIENCE, f"item {count} of {self.job_class}")


@pytest.fixture
def start(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> Start:
    def start(language: str) -> RunningProgram:
        if language == "ruby":
            return sidekiq.start_worker(QUEUE, concurrency=5)
        return pyqik_worker(QUEUE, options=("-r", "compat.iterables", "-c", "5")).program

    return start


@pytest.fixture
def numbers(sidekiq: RealSidekiq) -> LongJob:
    """One job that waits in the queue."""
    return push(sidekiq, "Long::Numbers", NUMBERS, NUMBERS)


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, object]:
    """What a job of each class goes over: its argument."""
    table, database = tmp_path / "products.csv", tmp_path / "products.sqlite3"
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([["id", "name"], *(line or [] for line in LINES)])
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT)")
        connection.executemany("INSERT INTO products VALUES (?, ?)", RECORDS)
        connection.execute("CREATE TABLE places (code TEXT PRIMARY KEY, name TEXT)")
        connection.executemany("INSERT INTO places VALUES (?, ?)", [place for batch in PLACES for place in batch])
    return {
        "Long::Numbers": NUMBERS,
        **dict.fromkeys(["Long::Rows", "Long::Batches"], str(table)),
        **dict.fromkeys(["Long::Records", "Long::RecordBatches"], str(database)),
    }


@pytest.fixture
def one_of_each(sidekiq: RealSidekiq, sources: dict[str, object]) -> list[LongJob]:
    """One of each class."""
    return [push(sidekiq, job_class, sources[job_class], items) for job_class, items in ITEMS.items()]


def push(sidekiq: RealSidekiq, job_class: str, source: object, items: list[Any]) -> LongJob:
    """Push a job through Sidekiq's client."""
    return LongJob(sidekiq.redis, job_class, sidekiq.push_job(job_class, source, queue=QUEUE), items)


def run_and_stop(start: Start, language: str, jobs: Sequence[LongJob], items: int) -> None:
    """Have a process run the jobs, and stop it with a TERM while each of them is at the last of so many items."""
    ends = [job.begun + items for job in jobs]
    for job in jobs:
        job.let(items - 1)
    process = start(language)
    for job, end in zip(jobs, ends, strict=True):
        job.wait_for_item(end)
    process.terminate()
    process.wait_for_line(STOPPING[process.name])
    for job in jobs:
        job.let(1)
    assert process.wait(15) == 0


def run_to_the_end(start: Start, language: str, jobs: Sequence[LongJob]) -> None:
    """Have a process run the jobs until they are over."""
    start(language)
    for job in jobs:
        job.finish()


def fail(job: LongJob, item: int) -> None:
    """Have the job, which runs, fail at its item of that number."""
    job.let(item, "fail")
    wait_until(lambda: job.redis.zcard("retry"), PATIENCE, f"{job.job_class} among the retries")


def fail_and_stop(sidekiq: RealSidekiq, process: RunningProgram, job: LongJob, item: int) -> None:
    """Have the job fail, and be back in its queue for another process."""
    fail(job, item)
    process.terminate()
    assert process.wait(15) == 0
    sidekiq.act("entry", set="retry", jid=job.jid, action="retry")


def done(language: str, items: Sequence[Any]) -> list[list[Any]]:
    """What the items of a run write into the ledger of their job."""
    return [[language, "item", item] for item in items]


def run(language: str, begin: str, items: Sequence[Any], *end: str) -> list[list[Any]]:
    """What one run, with its callbacks, writes into the ledger of its job."""
    return [[language, begin, None], *done(language, items), *([language, what, None] for what in end)]


def pairs(job_class: type[Gated], source: Any, cursor: Any) -> list[list[Any]]:
    """What a job goes over in Python from a cursor on: each item as it is written down, with its own cursor."""
    job = job_class()
    return [[job.shown(item), at] for item, at in job.build_enumerator(source, cursor=cursor).open(cursor)]


def ledgers(jobs: Sequence[LongJob]) -> dict[str, list[list[Any]]]:
    """The ledger of each job, by class."""
    return {job.job_class: job.ledger for job in jobs}


@web_versions
def test_a_job_goes_from_ruby_to_python_and_back(
    sidekiq: RealSidekiq, start: Start, one_of_each: list[LongJob]
) -> None:
    run_and_stop(start, "ruby", one_of_each, 3)
    run_and_stop(start, "python", one_of_each, 2)
    run_to_the_end(start, "ruby", one_of_each)

    assert ledgers(one_of_each) == {
        job.job_class: [
            *run("ruby", "on_start", job.items[:3], "on_stop"),
            *run("python", "on_resume", job.items[3:5], "on_stop"),
            *run("ruby", "on_resume", job.items[5:], "on_stop", "on_complete"),
        ]
        for job in one_of_each
    }
    assert not sidekiq.redis.exists("retry", f"queue:{QUEUE}")


@web_versions
def test_a_job_goes_from_python_to_ruby_and_back(
    sidekiq: RealSidekiq, start: Start, one_of_each: list[LongJob]
) -> None:
    run_and_stop(start, "python", one_of_each, 3)
    run_and_stop(start, "ruby", one_of_each, 2)
    run_to_the_end(start, "python", one_of_each)

    assert ledgers(one_of_each) == {
        job.job_class: [
            *run("python", "on_start", job.items[:3], "on_stop"),
            *run("ruby", "on_resume", job.items[3:5], "on_stop"),
            *run("python", "on_resume", job.items[5:], "on_stop", "on_complete"),
        ]
        for job in one_of_each
    }
    assert not sidekiq.redis.exists("retry", f"queue:{QUEUE}")
    counted = {job.job_class: int(sidekiq.redis.get(f"counted:{job.jid}") or 0) for job in one_of_each}
    assert counted == {job.job_class: len(job.items) - 2 for job in one_of_each}


@newest
def test_a_loop_in_a_function_goes_to_ruby_and_back(sidekiq: RealSidekiq, start: Start) -> None:
    loop = push(sidekiq, "Long::Loop", NUMBERS, NUMBERS)

    run_and_stop(start, "python", [loop], 3)
    run_and_stop(start, "ruby", [loop], 2)
    run_to_the_end(start, "python", [loop])

    assert loop.ledger == [
        *done("python", NUMBERS[:3]),
        *run("ruby", "on_resume", NUMBERS[3:5], "on_stop"),
        *done("python", NUMBERS[5:]),
        ["python", "on_complete", None],
    ]


@web_versions
@pytest.mark.parametrize("job_class", [Numbers, Rows, Batches, Records, RecordBatches])
def test_both_languages_find_the_same_at_each_cursor(
    sidekiq: RealSidekiq, sources: dict[str, object], job_class: type[Gated]
) -> None:
    name = f"Long::{job_class.__name__}"
    cursors = CURSORS[name]

    in_ruby = sidekiq.read("pairs", name, source=sources[name], cursors=cursors)

    in_python = [pairs(job_class, sources[name], cursor) for cursor in cursors]
    assert in_ruby == in_python
    assert [item for item, _ in in_python[0]] == ITEMS[name]


@web_versions
def test_what_python_adds_to_a_state_is_left_alone_by_ruby(start: Start, one_of_each: list[LongJob]) -> None:
    run_and_stop(start, "python", one_of_each, 3)
    added = {job.job_class: job.added for job in one_of_each}

    run_and_stop(start, "ruby", one_of_each, 2)

    assert {job.job_class: job.added for job in one_of_each} == added
    assert {job.job_class: set(job.added) for job in one_of_each} == {
        "Long::Numbers": {"counters", "stops"},
        "Long::Rows": {"counters", "stops", "loops"},
        "Long::Batches": {"counters", "stops", "loops"},
        "Long::Records": {"counters", "stops"},
        "Long::RecordBatches": {"counters", "stops"},
    }


@web_versions
def test_an_interrupted_python_job_waits_as_ruby_pushed_it(sidekiq: RealSidekiq, start: Start) -> None:
    jids = [
        sidekiq.push_job("Long::Numbers", [1.0, 1e3, 2**60, "ü𝄞/<&>\u2028", {"z": None, "a": 1}], queue=QUEUE, **fields)
        for fields in ({}, {"retry": 3, "tags": ["ü"], "cattr": {"user": 1}})
    ]
    jobs = [LongJob(sidekiq.redis, "Long::Numbers", jid, []) for jid in jids]
    before = sidekiq.redis.lrange(f"queue:{QUEUE}", 0, -1)

    run_and_stop(start, "python", jobs, 3)

    assert sorted(sidekiq.redis.lrange(f"queue:{QUEUE}", 0, -1)) == sorted(before)
    assert sidekiq.read("stats")["failed"] == 0


@web_versions
def test_a_job_that_failed_in_ruby_is_retried_in_python(sidekiq: RealSidekiq, start: Start, numbers: LongJob) -> None:
    """7.3.2 writes no state when an item fails; what it did since the last time is done again, here from the top."""
    fail_and_stop(sidekiq, start("ruby"), numbers, 3)

    run_to_the_end(start, "python", [numbers])

    again = {"7.3": ("on_start", NUMBERS), "8.1": ("on_resume", NUMBERS[2:])}[sidekiq.version]
    assert numbers.ledger == [
        *run("ruby", "on_start", NUMBERS[:3]),
        *run("python", *again, "on_stop", "on_complete"),
    ]


@web_versions
def test_a_job_that_failed_in_python_is_retried_in_ruby(sidekiq: RealSidekiq, start: Start, numbers: LongJob) -> None:
    fail_and_stop(sidekiq, start("python"), numbers, 3)

    run_to_the_end(start, "ruby", [numbers])

    assert numbers.ledger == [
        *run("python", "on_start", NUMBERS[:3]),
        *run("ruby", "on_resume", NUMBERS[2:], "on_stop", "on_complete"),
    ]


@web_versions
def test_a_job_whose_ruby_process_was_killed_goes_on_in_python(
    sidekiq: RealSidekiq, start: Start, numbers: LongJob
) -> None:
    """Sidekiq loses the job itself, but not the state; pushed again under its jid, it goes on there."""
    numbers.let(3, "flush")
    ruby = start("ruby")
    numbers.wait_for_item(4)

    ruby.kill()

    assert not sidekiq.redis.exists(f"queue:{QUEUE}", "retry")
    sidekiq.push_job(numbers.job_class, NUMBERS, queue=QUEUE, jid=numbers.jid)
    run_to_the_end(start, "python", [numbers])
    assert numbers.ledger == [
        *run("ruby", "on_start", NUMBERS[:4]),
        *run("python", "on_resume", NUMBERS[3:], "on_stop", "on_complete"),
    ]


@web_versions
def test_a_job_whose_python_process_was_killed_is_finished_in_ruby(
    sidekiq: RealSidekiq, start: Start, numbers: LongJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `flush_interval` 0 each item is safe, so no more than the one in hand is done again."""
    monkeypatch.setenv("PYQIK_FLUSH_INTERVAL", "0")
    numbers.let(2)
    python = start("python")
    numbers.wait_for_item(3)
    [victim] = [int(identity.split(":")[-2]) for identity in registered(sidekiq.redis)]

    os.kill(victim, signal.SIGKILL)

    numbers.wait_for_item(4)
    python.terminate()
    python.wait_for_line(STOPPING["pyqik"])
    numbers.let(1)
    assert python.wait(15) == 0
    run_to_the_end(start, "ruby", [numbers])
    assert numbers.ledger == [
        *run("python", "on_start", NUMBERS[:3]),
        *run("python", "on_resume", NUMBERS[2:3], "on_stop"),
        *run("ruby", "on_resume", NUMBERS[3:], "on_stop", "on_complete"),
    ]


@newest
def test_python_cancels_what_ruby_runs(sidekiq: RealSidekiq, start: Start, numbers: LongJob) -> None:
    """Ruby sees it when it writes the state."""
    start("ruby")
    numbers.wait_for_item(1)

    with pyqik.Client(sidekiq.redis_url) as client:
        client.cancel(numbers.jid)

    numbers.let(1, "flush")
    numbers.finish()
    assert numbers.ledger == run("ruby", "on_start", NUMBERS[:1], "on_cancel", "on_stop", "on_complete")


@web_versions
def test_python_cancels_what_waits_for_ruby(sidekiq: RealSidekiq, start: Start, numbers: LongJob) -> None:
    """7.3.2, which cannot be told, runs it as if nothing was; neither fails on the state that Python leaves."""
    with pyqik.Client(sidekiq.redis_url) as client:
        client.cancel(numbers.jid)

    run_to_the_end(start, "ruby", [numbers])

    assert (
        numbers.ledger
        == {
            "7.3": run("ruby", "on_start", NUMBERS, "on_stop", "on_complete"),
            "8.1": run("ruby", "on_start", [], "on_cancel", "on_stop", "on_complete"),
        }[sidekiq.version]
    )
    assert not sidekiq.redis.exists("retry")


@newest
def test_ruby_cancels_what_python_runs(
    sidekiq: RealSidekiq, start: Start, numbers: LongJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYQIK_FLUSH_INTERVAL", "0")
    start("python")
    numbers.wait_for_item(1)

    sidekiq.act("iteration", jid=numbers.jid)

    numbers.finish()
    assert numbers.ledger == run("python", "on_start", NUMBERS[:1], "on_cancel", "on_stop", "on_complete")


@newest
def test_ruby_cancels_what_waits_for_python(sidekiq: RealSidekiq, start: Start, numbers: LongJob) -> None:
    sidekiq.act("iteration", jid=numbers.jid)

    run_to_the_end(start, "python", [numbers])

    assert numbers.ledger == run("python", "on_start", [], "on_cancel", "on_stop", "on_complete")


@newest
def test_ruby_cancels_what_python_began(sidekiq: RealSidekiq, start: Start, numbers: LongJob) -> None:
    """What waits is the job that a stop has interrupted."""
    run_and_stop(start, "python", [numbers], 2)

    sidekiq.act("iteration", jid=numbers.jid)

    run_to_the_end(start, "ruby", [numbers])
    assert numbers.ledger == [
        *run("python", "on_start", NUMBERS[:2], "on_stop"),
        *run("ruby", "on_resume", [], "on_cancel", "on_stop", "on_complete"),
    ]


@newest
def test_python_cancels_what_ruby_began(sidekiq: RealSidekiq, start: Start, numbers: LongJob) -> None:
    run_and_stop(start, "ruby", [numbers], 2)

    with pyqik.Client(sidekiq.redis_url) as client:
        client.cancel(numbers.jid)

    run_to_the_end(start, "python", [numbers])
    assert numbers.ledger == [
        *run("ruby", "on_start", NUMBERS[:2], "on_stop"),
        *run("python", "on_resume", [], "on_cancel", "on_stop", "on_complete"),
    ]


@newest
def test_the_web_ui_shows_where_a_job_is_that_python_goes_on_with(
    sidekiq: RealSidekiq, start: Start, numbers: LongJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYQIK_FLUSH_INTERVAL", "0")
    run_and_stop(start, "ruby", [numbers], 2)
    runtime = float(numbers.state["rt"])
    numbers.let(1)
    start("python")
    numbers.wait_for_item(4)
    wait_until(lambda: sidekiq.read("work"), 15)

    html = sidekiq.web().get("/busy").html

    assert "owner" in numbers.state
    assert numbers.jid in html
    assert "cursor=3; exec=2; rt=" in html
    told = {"executions": 2, "runtime": runtime, "cursor": 3, "cancelled": None}
    assert sidekiq.read("iteration", numbers.jid) == told
    numbers.finish()


@newest
def test_the_web_ui_shows_where_a_python_job_failed(sidekiq: RealSidekiq, start: Start, numbers: LongJob) -> None:
    start("python")
    fail(numbers, 3)

    html = sidekiq.web().get("/retries").html

    assert "cursor=2; exec=1; rt=" in html
