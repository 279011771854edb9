"""A long export: the same file wherever it is interrupted, and everybody can see how far it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from shop import long_export, web
from shop.long_export import export_order_lines

import pyqik
from pyqik import testing
from pyqik.jobs import growing_file
from tests.support.running import run_queued

Place = Callable[[int, str, str, list[tuple[str, int, int]]], None]

ADDRESS = "gs://shop-exports/7/0c5d.csv"
MEANT = (7, "2026-11-22", ADDRESS)
HEADER = b"order,day,customer,product,quantity,cents\r\n"
WHOLE = (
    HEADER.decode() + "1,2026-11-01,Zoë,Kaffee,1,899\r\n"
    '1,2026-11-01,Zoë,"Tee ""grün"",\nlose",2,450\r\n'
    '3,2026-11-03,"王芳, 2. Stock",Käse 🧀,1,1250\r\n'
    '3,2026-11-03,"王芳, 2. Stock","Brot\r\n(geschnitten)",1,420\r\n'
    '3,2026-11-03,"王芳, 2. Stock",Kaffee,3,899\r\n'
    "5,2026-11-22,Ann,Kaffee,1,899\r\n"
).encode()


@pytest.fixture
def orders(place: Place) -> None:
    """Four orders that are meant, one of them without a line, and others."""
    place(7, "2026-11-01", "Zoë", [("Kaffee", 1, 899), ('Tee "grün",\nlose', 2, 450)])
    place(8, "2026-11-01", "Jürgen", [("of another shop", 2, 899)])
    place(
        7, "2026-11-03", "王芳, 2. Stock", [("Käse 🧀", 1, 1250), ("Brot\r\n(geschnitten)", 1, 420), ("Kaffee", 3, 899)]
    )
    place(7, "2026-11-04", "Zoë", [])
    place(7, "2026-11-22", "Ann", [("Kaffee", 1, 899)])
    place(7, "2026-11-23", "Zoë", [("of today", 1, 1)])


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of 4 MiB: so small an export has many parts then, and is cut in the middle of them."""
    monkeypatch.setattr(growing_file, "PIECE", 7)
    monkeypatch.setattr(growing_file, "BUFFER", 3)


def fail_in_order(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the database fail for once, when two lines of this order have been written."""

    def lines(order: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
        for position, line in enumerate(lines_of(order)):
            if (order["id"], position) == (number, 2) and failures:
                raise failures.pop()
            yield line

    lines_of, failures = long_export.lines_of, [ConnectionError("the database is away")]
    monkeypatch.setattr(long_export, "lines_of", lines)


@pytest.mark.usefixtures("orders")
def test_every_line_of_every_order_that_is_meant_is_published() -> None:
    run = testing.perform(export_order_lines, *MEANT).or_raise()

    assert run.published == {ADDRESS: WHOLE}
    assert run.counters == {"lines": 6}
    assert (run.progress.done, run.progress.total, run.progress.note) == (4, 4, "publishing")


@pytest.mark.parametrize("parts", ["of 4 MiB", "of 7 bytes"])
@pytest.mark.usefixtures("orders")
def test_the_file_is_the_same_wherever_the_export_is_interrupted(parts: str, request: pytest.FixtureRequest) -> None:
    if parts == "of 7 bytes":
        request.getfixturevalue("small_parts")
    for run in testing.every_interruption(export_order_lines, *MEANT):
        assert run.published == {ADDRESS: WHOLE}, run.story
        assert run.files == {"order_lines.csv": WHOLE}, run.story
        assert run.counters == {"lines": 6}, run.story
        assert (run.progress.done, run.progress.total) == (4, 4), run.story


@pytest.mark.usefixtures("orders")
def test_nothing_is_published_before_all_of_it_is_there() -> None:
    run = testing.perform(export_order_lines, *MEANT, interrupt_after=2)

    assert (run.interrupted, run.place, run.cursor) == (True, "front", 4)
    assert run.published == {}
    assert run.files["order_lines.csv"] == b"".join(WHOLE.splitlines(keepends=True)[:8])
    assert (run.progress.percent, run.progress.note) == (50, "writing the orders")


@pytest.mark.parametrize("parts", ["of 4 MiB", "of 7 bytes"])
@pytest.mark.usefixtures("orders")
def test_an_error_in_the_middle_of_an_order_is_retried_from_that_order(
    parts: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if parts == "of 7 bytes":
        request.getfixturevalue("small_parts")
    fail_in_order(3, monkeypatch)
    run = testing.perform(export_order_lines, *MEANT)

    assert (run.failed, run.place, run.cursor) == (True, "retry", 3)
    assert run.files["order_lines.csv"] == b"".join(WHOLE.splitlines(keepends=True)[:4])
    assert (run.counters, run.published) == ({"lines": 2}, {})
    run = run.again()
    assert run.completed
    assert (run.published, run.counters) == ({ADDRESS: WHOLE}, {"lines": 6})


@pytest.mark.usefixtures("orders")
def test_a_crash_costs_what_was_done_since_the_last_write_and_no_byte() -> None:
    run = testing.perform(export_order_lines, *MEANT, crash_after=3, flush_after=1)

    assert (run.crashed, run.cursor) == (True, 3)
    assert run.again().published == {ADDRESS: WHOLE}


def test_an_export_of_nothing_has_a_header() -> None:
    run = testing.perform(export_order_lines, *MEANT).or_raise()

    assert run.published == {ADDRESS: HEADER}


def test_an_export_of_one_row(place: Place) -> None:
    place(7, "2026-11-01", "Zoë", [("Kaffee", 1, 899)])

    for run in testing.every_interruption(export_order_lines, *MEANT):
        assert run.published == {ADDRESS: HEADER + "1,2026-11-01,Zoë,Kaffee,1,899\r\n".encode()}, run.story


@pytest.mark.usefixtures("orders")
def test_called_like_any_function_it_writes_the_same_file_here_and_now(tmp_path: Path) -> None:
    export_order_lines(7, "2026-11-22", str(tmp_path / "orders.csv"))

    assert (tmp_path / "orders.csv").read_bytes() == WHOLE


@pytest.mark.usefixtures("orders")
def test_rails_pushes_it_and_a_web_process_shows_how_far_it_is(
    redis_url: str, redis: redis_py.Redis, tmp_path: Path
) -> None:
    # What Sidekiq::Client.push writes.
    job = {
        "class": "Exports::OrderLines",
        "queue": "exports",
        "args": [7, "2026-11-22", str(tmp_path / "orders.csv")],
        "retry": True,
        "jid": "c0ffee" * 4,
        "created_at": 1795478400000,
        "enqueued_at": 1795478400000,
    }
    redis.sadd("queues", "exports")
    redis.lpush("queue:exports", json.dumps(job))
    with pyqik.Client(redis_url) as client:
        assert web.status(client, "c0ffee" * 4) == "waiting"

        assert run_queued(redis_url, ["exports"], files=str(tmp_path / "parts")) == ["job.done"]
        assert web.status(client, "c0ffee" * 4) == "done; publishing"

    assert (tmp_path / "orders.csv").read_bytes() == WHOLE
    assert redis.hget(f"progress/{'c0ffee' * 4}", "total") == b"4"
    assert not (tmp_path / "parts" / ("c0ffee" * 4)).exists()


def test_a_web_process_shows_what_is_left(redis: redis_py.Redis) -> None:
    """As a run of it leaves it there that was stopped after an hour."""
    redis.hset(
        "progress/c0ffee",
        mapping={"done": 900, "items": 900, "total": 3600, "note": "writing the orders", "pace": 0.25, "at": 1.5},
    )

    assert web.status(pyqik.Client(redis), "c0ffee") == "writing the orders: 900 of 3600 (25 %), 180 minutes left"
