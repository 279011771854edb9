"""The book of the engine's doings, with the job `Note` registered."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.redis.worker.engine import Book, Gate, declare_note, listening


@pytest.fixture
def book() -> Iterator[Book]:
    """What the engine does in this test."""
    with listening() as book:
        declare_note(book)
        yield book


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate for jobs; opened at the end, so that no thread is left behind it."""
    gate = Gate()
    yield gate
    gate.open()
