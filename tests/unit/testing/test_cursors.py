"""Cursors in tests are those of production: through JSON, with codecs, over versions and other code."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

import pyqik
from pyqik import enumerators, testing
from tests.unit.testing.styles import ITEMS, array, numbers


def test_a_cursor_that_json_does_not_hold_fails_as_in_production(done: list[Any]) -> None:
    def days(cursor: date | None) -> Iterator[tuple[int, date]]:
        for day in range(1, 4):
            yield day, date(2027, 1, day)

    @pyqik.job
    def walks() -> None:
        for day in pyqik.each(days):
            done.append(day)

    run = testing.perform(walks)

    assert isinstance(run.error, pyqik.InvalidCursor)
    assert "value.isoformat()" in str(run.error)
    assert done == []


def test_a_cursor_with_a_codec_is_shown_as_json_has_it() -> None:
    def days(cursor: date | None) -> Iterator[tuple[int, date]]:
        for day in range(cursor.day if cursor else 1, 4):
            yield day, date(2027, 1, day)

    @pyqik.job
    def walks() -> None:
        for _ in pyqik.each(days, codec=enumerators.DATE):
            pass

    run = testing.perform(walks, interrupt_after=1)

    assert run.cursor == "2027-01-02"
    assert run.again().items == 2


class Versioned(pyqik.IterableJob, name="Versioned"):
    """Its cursors change their meaning."""

    def build_enumerator(self, *, cursor: int | None) -> pyqik.Source[int, int]:
        return enumerators.array(ITEMS)

    def each_iteration(self, item: int) -> None: ...


def test_a_cursor_of_another_version_needs_a_migration(monkeypatch: pytest.MonkeyPatch) -> None:
    run = testing.perform(Versioned, interrupt_after=4)
    monkeypatch.setattr(Versioned, "cursor_version", 1)

    deployed = run.again()

    assert isinstance(deployed.error, pyqik.InvalidCursor)
    assert "interrupted at a cursor of version 0, and this code's is 1" in str(deployed.error)
    assert (deployed.place, deployed.cursor) == ("retry", 4)

    monkeypatch.setattr(Versioned, "migrate_cursor", lambda self, cursor, version: cursor + 1)

    assert deployed.again().items == 1


def test_other_code_may_go_on_over_the_same_state(done: list[Any]) -> None:
    run = testing.perform(array(done.append), 6, interrupt_after=2)

    @pyqik.job("LongAnew")
    def anew(count: int) -> None:
        for item in pyqik.each(numbers(count), version=1, migrate=lambda cursor, version: cursor * 2):
            done.append(item)

    testing.perform(anew, 6, state=run.state)

    assert done == [0, 1, 4, 5]
