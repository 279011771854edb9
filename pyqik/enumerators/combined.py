"""Sources made of sources: one inside of the other, slowed down, or in chunks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final, TypeVar

from pyqik.core.errors import InvalidCursor
from pyqik.jobs.source import Bookmark, Bookmarking, Codec, Source, Throttled

T = TypeVar("T")
C = TypeVar("C")

#: Seconds for which the answer of a `limit`'s `when` counts.
ASK_EVERY: Final = 1.0


def nested(outer: Source[Any, Any], *inner: Callable[..., Source[Any, Any]]) -> Source[Any, list[Any]]:
    """For each item of `outer` the items of a source that is made for it, and so on inwards; yields the innermost ones.

        nested(sql_rows(db, SHOPS), lambda shop: sql_rows(db, ORDERS, params={"shop": shop["id"]}))

    Each function is called with the items around it, the outermost first. The cursor is the list of all cursors.
    """
    if not inner:
        raise TypeError("nested() needs a source and at least one function that makes the inner one")
    return _Nested(outer, inner)


def chunked(source: Source[T, C], size: int) -> Source[list[T], C]:
    """Lists of up to `size` items; the cursor is that of the first one in each."""
    if type(size) is not int or size < 1:
        raise ValueError(f"chunked() was given the size {size!r}; write a whole number from 1 up")
    return _Chunked(source, size)


def limit(source: Source[T, C], *, when: Callable[[], bool], backoff: float = 30.0) -> Source[T, C]:
    """The items of `source`, as long as `when()` is false: for a database that is busy, or a rate that is used up.

        limit(sql_rows(db, query), when=lambda: replica_lag(db) > 5, backoff=60)

    It is asked before an item, at most once a second. As soon as it is true the job gives back its thread: it goes to
    the schedule and continues at this item after `backoff` seconds. No attempt is spent.
    """
    if not backoff > 0:
        raise ValueError(f"limit() was given the backoff {backoff!r}; write seconds, more than 0")
    return _Limited(source, when, backoff)


class _Nested(Source[Any, list[Any]]):
    def __init__(self, outer: Source[Any, Any], inner: tuple[Callable[..., Source[Any, Any]], ...]) -> None:
        self._outer = outer
        self._inner = inner
        self.blocking = True  # What is made later may wait.

    def open(self, cursor: list[Any] | None = None) -> Iterator[tuple[Any, list[Any]]]:
        levels = len(self._inner) + 1
        if cursor is not None and (not isinstance(cursor, list) or len(cursor) != levels):
            raise InvalidCursor(f"the cursor of a nested source is {cursor!r}; it must be a list of {levels} cursors")
        return self._pairs(self._outer, (), cursor or [])

    def _pairs(
        self, source: Source[Any, Any], around: tuple[Any, ...], cursor: list[Any]
    ) -> Iterator[tuple[Any, list[Any]]]:
        encode, decode = _both_ways(source.codec)
        first = decode(cursor[0]) if cursor and cursor[0] is not None else None
        inwards = len(self._inner) - len(around)
        pairs = source.open(first)
        try:
            for item, place in pairs:
                written = encode(place)
                if not inwards:
                    yield item, [written]
                    continue
                # Where the inner one was counts only for the item that it was made for, which may be gone.
                rest = cursor[1:] if cursor and place == first else []
                yield from self._inside((*around, item), written, rest)
        except _Inside as inner:
            raise inner.throttled from None
        except Throttled as throttled:
            raise Throttled(throttled.seconds, [encode(throttled.cursor), *[None] * inwards]) from None
        finally:
            _close(pairs)

    def _inside(self, items: tuple[Any, ...], written: Any, rest: list[Any]) -> Iterator[tuple[Any, list[Any]]]:
        make = self._inner[len(items) - 1]
        try:
            for innermost, places in self._pairs(make(*items), items, rest):
                yield innermost, [written, *places]
        except Throttled as throttled:
            raise _Inside(Throttled(throttled.seconds, [written, *throttled.cursor])) from None


class _Inside(Exception):
    """A throttling that has the cursors of all levels inwards."""

    def __init__(self, throttled: Throttled) -> None:
        super().__init__()
        self.throttled = throttled


class _Wrapped(Source[T, C]):
    """What has the cursors of another source."""

    def __init__(self, source: Source[Any, C]) -> None:
        self._source = source
        self.codec = source.codec
        self.blocking = source.blocking
        self.one_by_one = source.one_by_one

    def open(self, cursor: C | None = None) -> Iterator[tuple[T, C]]:
        return self._over(self._source.open(cursor))

    def reopen(self, cursor: C, bookmark: Bookmark) -> Iterator[tuple[T, C]]:
        return self._over(self._source.reopen(cursor, bookmark))

    def _over(self, pairs: Iterator[tuple[Any, C]]) -> Iterator[tuple[T, C]]:
        raise NotImplementedError


class _Chunked(_Wrapped[list[T], C]):
    def __init__(self, source: Source[T, C], size: int) -> None:
        super().__init__(source)
        self.one_by_one = False
        self._size = size

    def _over(self, pairs: Iterator[tuple[T, C]]) -> Iterator[tuple[list[T], C]]:
        return _Chunks(pairs, self._size)


class _Chunks(Iterator[tuple[list[T], C]]):
    """Pairs of chunk and cursor; the bookmark is that of the chunk's first item."""

    def __init__(self, pairs: Iterator[tuple[T, C]], size: int) -> None:
        self._pairs = pairs
        self._size = size
        self._bookmark: Bookmark = None
        self._end: Throttled | None = None

    def __next__(self) -> tuple[list[T], C]:
        if self._end is not None:
            raise self._end
        item, cursor = next(self._pairs)
        if isinstance(self._pairs, Bookmarking):
            self._bookmark = self._pairs.bookmark()
        chunk = [item]
        try:
            chunk.extend(item for item, _ in islice(self._pairs, self._size - 1))
        except Throttled as end:
            # What has come by then is not to be lost.
            self._end = end
        return chunk, cursor

    def bookmark(self) -> Bookmark:
        return self._bookmark

    def close(self) -> None:
        _close(self._pairs)


class _Limited(_Wrapped[T, C]):
    def __init__(self, source: Source[T, C], when: Callable[[], bool], backoff: float) -> None:
        super().__init__(source)
        self._when = when
        self._backoff = backoff

    def _over(self, pairs: Iterator[tuple[T, C]]) -> Iterator[tuple[T, C]]:
        return _Limit(pairs, self._when, self._backoff)


class _Limit(Iterator[tuple[T, C]]):
    def __init__(self, pairs: Iterator[tuple[T, C]], when: Callable[[], bool], backoff: float) -> None:
        self._pairs = pairs
        self._when = when
        self._backoff = backoff
        self._ask_at = time.monotonic()

    def __next__(self) -> tuple[T, C]:
        pair = next(self._pairs)
        if time.monotonic() >= self._ask_at:
            if self._when():
                raise Throttled(self._backoff, pair[1])
            self._ask_at = time.monotonic() + ASK_EVERY
        return pair

    def bookmark(self) -> Bookmark:
        return self._pairs.bookmark() if isinstance(self._pairs, Bookmarking) else None

    def close(self) -> None:
        _close(self._pairs)


def _close(pairs: Iterator[Any]) -> None:
    if hasattr(pairs, "close"):
        pairs.close()


def _both_ways(codec: Codec[Any] | None) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    return (_same, _same) if codec is None else (codec.encode, codec.decode)


def _same(cursor: Any) -> Any:
    return cursor
