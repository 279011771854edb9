"""Sources made of sources: whatever is wrapped, an interrupted loop goes on at the item that comes next."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pyqik
from pyqik import enumerators
from pyqik.core.errors import InvalidCursor
from pyqik.enumerators import array, chunked, limit, nested
from pyqik.jobs.source import Source, Throttled, tuple_of


def from_each_cursor(source: Source[Any, Any]) -> None:
    """Opened at any of its cursors, through JSON, it gives the rest."""
    pairs = list(source.open())
    for index, (_, cursor) in enumerate(pairs):
        again = json.loads(json.dumps(cursor))
        assert list(source.open(again)) == pairs[index:]


@given(st.lists(st.integers()))
def test_an_array_goes_on_anywhere(items: list[int]) -> None:
    from_each_cursor(array(items))


@pytest.mark.parametrize("cursor", [-1, "1", 1.0, True, [1]], ids=repr)
def test_a_cursor_that_is_no_index_is_refused(cursor: Any) -> None:
    with pytest.raises(InvalidCursor, match="must be an index"):
        array([1, 2]).open(cursor)


def test_a_cursor_behind_the_end_gives_nothing() -> None:
    assert list(array([1, 2]).open(7)) == []


@given(st.lists(st.integers()), st.integers(1, 5))
def test_chunks_go_on_anywhere(items: list[int], size: int) -> None:
    from_each_cursor(chunked(array(items), size))

    assert [item for chunk, _ in chunked(array(items), size).open() for item in chunk] == items


@given(st.lists(st.lists(st.lists(st.integers(), max_size=3), max_size=3), max_size=3))
def test_nested_sources_go_on_anywhere(tree: list[list[list[int]]]) -> None:
    source = nested(array(tree), lambda branch: array(branch), lambda branch, twig: array(twig))
    from_each_cursor(source)

    assert [item for item, _ in source.open()] == [leaf for branch in tree for twig in branch for leaf in twig]


def test_an_inner_cursor_counts_only_for_its_outer_item() -> None:
    outer = {1: ["a", "b"], 3: ["c", "d"]}

    class Keys(Source[int, int]):
        def open(self, cursor: int | None = None) -> Iterator[tuple[int, int]]:
            return iter([(key, key) for key in outer if key >= (cursor or 0)])

    source = nested(Keys(), lambda key: array(outer[key]))

    # The item 2 is gone.
    assert [item for item, _ in source.open([2, 1])] == ["c", "d"]


@pytest.mark.parametrize("cursor", [1, [1], [1, 2, 3], "x"], ids=repr)
def test_a_cursor_that_is_none_of_nested_sources_is_refused(cursor: Any) -> None:
    with pytest.raises(InvalidCursor, match="list of 2 cursors"):
        nested(array([1]), lambda item: array([2])).open(cursor)


class Days(Source[date, date]):
    codec = enumerators.DATE

    def open(self, cursor: date | None = None) -> Iterator[tuple[date, date]]:
        days = [date(2027, 1, day) for day in range(1, 4)]
        return iter([(day, day) for day in days if cursor is None or day >= cursor])


def test_nested_sources_write_their_cursors_by_their_codecs() -> None:
    source = nested(Days(), lambda day: Days())
    from_each_cursor(source)

    assert [cursor for _, cursor in source.open()][4] == ["2027-01-02", "2027-01-02"]


def interrupted(source: Source[Any, Any], done: list[Any] | None = None) -> Throttled:
    """What stops it, after the items in `done`."""
    done = [] if done is None else done
    with pytest.raises(Throttled) as caught:
        done.extend(item for item, _ in source.open())
    return caught.value


def busy_at(call: int) -> Any:
    """True at that call, once."""
    calls = iter(range(1000))
    return lambda: next(calls) == call


@pytest.fixture
def asked_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyqik.enumerators.combined.ASK_EVERY", 0.0)


@pytest.mark.usefixtures("asked_each_time")
def test_a_limit_stops_before_an_item() -> None:
    throttled = interrupted(limit(array([10, 11, 12]), when=busy_at(1), backoff=7))

    assert (throttled.cursor, throttled.seconds) == (1, 7.0)


@pytest.mark.usefixtures("asked_each_time")
def test_what_has_come_of_a_chunk_is_done_before_its_limit_stops_it() -> None:
    source = chunked(limit(array([10, 11, 12, 13]), when=busy_at(3)), 2)
    pairs = source.open()

    assert [next(pairs), next(pairs)] == [([10, 11], 0), ([12], 2)]
    with pytest.raises(Throttled) as caught:
        next(pairs)
    assert caught.value.cursor == 3


def limited_inside(when: Any) -> Source[Any, Any]:
    return nested(array([[1, 2], [3, 4]]), lambda outer: limit(array(outer), when=when))


def limited_outside(when: Any) -> Source[Any, Any]:
    return nested(limit(array([[1, 2], [3, 4]]), when=when), array)


def limited_at_the_bottom(when: Any) -> Source[Any, Any]:
    tree = [[[1, 2]], [[3, 4]]]
    return nested(array(tree), array, lambda branch, twig: limit(array(twig), when=when))


@pytest.mark.usefixtures("asked_each_time")
@pytest.mark.parametrize(
    ("make", "cursor", "done"),
    [(limited_inside, [0, 1], [1]), (limited_outside, [1, None], [1, 2]), (limited_at_the_bottom, [0, 0, 1], [1])],
)
def test_a_limit_within_nested_sources_says_where_all_of_them_are(make: Any, cursor: Any, done: list[int]) -> None:
    source, seen = make(busy_at(1)), list[int]()

    assert interrupted(source, seen).cursor == cursor
    assert seen == done
    assert [*seen, *(item for item, _ in source.open(cursor))] == [1, 2, 3, 4]


def test_a_limit_asks_once_a_second() -> None:
    calls: list[int] = []
    list(limit(array(list(range(1000))), when=lambda: bool(calls.append(1))).open())

    assert len(calls) == 1


@pytest.mark.parametrize(("call", "named"), [
    (lambda: chunked(array([1]), 0), "size 0"),
    (lambda: limit(array([1]), when=lambda: True, backoff=0), "backoff 0"),
])  # fmt: skip
def test_what_cannot_be_is_refused(call: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        call()


def test_a_codec_for_tuples() -> None:
    codec = tuple_of(None, enumerators.DATE)
    value = (7, date(2027, 1, 1))

    assert codec.decode(json.loads(json.dumps(codec.encode(value)))) == value
    with pytest.raises(ValueError, match="zip"):
        codec.encode((1,))


def test_they_are_public() -> None:
    assert {"array", "chunked", "limit", "nested"} <= set(pyqik.enumerators.__all__)
