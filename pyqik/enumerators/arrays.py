"""Sequences that are in memory: the arguments of a job, for instance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import TypeVar

from pyqik.core.errors import InvalidCursor
from pyqik.jobs.source import Source

T = TypeVar("T")


def array(items: Sequence[T]) -> Source[T, int]:
    """The items of a list or tuple. The cursor is the index, as that of Sidekiq's `array_enumerator`.

    The job must be given the same items in the same order each time it runs, as it is if they are its arguments.
    """
    return _Array(items)


class _Array(Source[T, int]):
    one_by_one = True

    def __init__(self, items: Sequence[T]) -> None:
        self._items = items

    def open(self, cursor: int | None = None) -> Iterator[tuple[T, int]]:
        first = index_of(cursor, "array")
        # Both run in C: the loop over them costs no more than one over the items.
        return zip(islice(self._items, first, None), count(first), strict=False)


def index_of(cursor: object, what: str) -> int:
    """The index that a cursor is; 0 for None. Raises: InvalidCursor."""
    if cursor is None:
        return 0
    if type(cursor) is not int or cursor < 0:
        raise InvalidCursor(f"the cursor of {what} is {cursor!r}; it must be an index, a whole number from 0 up")
    return cursor
