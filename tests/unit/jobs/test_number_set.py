"""Sets of whole numbers: what they hold, and what they cost where they are written."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyqik.jobs.number_set import NumberSet

NUMBERS = st.one_of(st.integers(-5000, 20000), st.integers(-(2**70), 2**70))
#: So close together that chunks are kept as bits.
CLOSE = st.builds(range, st.integers(-5000, 5000), st.integers(-5000, 5000), st.integers(1, 7)).map(list)


def written_and_read(fields: dict[str, bytes]) -> NumberSet:
    again = NumberSet()
    for field, value in fields.items():
        again.load(field.encode(), value)
    return again


@given(st.lists(st.one_of(st.lists(NUMBERS, max_size=60), CLOSE), max_size=5))
def test_it_is_the_same_set_after_it_was_written_in_parts(parts: list[list[int]]) -> None:
    numbers, fields, expected = NumberSet(), dict[str, bytes](), set[int]()
    for part in parts:
        for number in part:
            numbers.add(number)
        expected.update(part)
        fields |= numbers.written()
        assert numbers.written() == {}

    for each in (numbers, written_and_read(fields)):
        assert list(each) == sorted(expected)
        assert len(each) == len(expected)
        assert all(number in each for number in expected)
        assert all((number + 1 in each) == (number + 1 in expected) for number in expected)


def test_numbers_that_lie_together_cost_little_more_than_a_bit() -> None:
    numbers = NumberSet()
    for number in range(1_000_000):
        numbers.add(number)

    fields = numbers.written()

    assert sum(len(field) + len(value) for field, value in fields.items()) < 130_000
    assert len(fields) == 245


def test_a_chunk_with_few_numbers_is_written_as_such() -> None:
    numbers = NumberSet()
    for number in (4095, 0, 17, 0):
        numbers.add(number)

    assert numbers.written() == {"0": b"a\xff\x0f\x00\x00\x11\x00"}


def test_a_chunk_is_never_longer_than_its_bits() -> None:
    numbers = NumberSet()
    for number in range(4095, -1, -1):
        numbers.add(number)
        if number % 64 == 0:
            assert len(numbers.written()["0"]) <= 1 + 4096 // 8


@given(st.lists(st.one_of(st.lists(NUMBERS, min_size=1, max_size=60), CLOSE), max_size=3), st.randoms())
def test_what_was_removed_is_gone_from_what_is_written(parts: list[list[int]], chance: random.Random) -> None:
    numbers, expected = NumberSet(), {number for part in parts for number in part}
    for number in expected:
        numbers.add(number)
    fields = numbers.written()
    removed = {number for number in expected if chance.random() < 0.5} or expected
    for number in [*removed, *removed, 10**6]:
        numbers.discard(number)
    changed = numbers.written()
    fields = {field: value for field, value in (fields | changed).items() if value}

    for each in (numbers, written_and_read(fields)):
        assert list(each) == sorted(expected - removed)
        assert len(each) == len(expected - removed)
    assert {int(field) for field in changed} == {number >> 12 for number in removed}


def test_a_field_may_be_read_twice() -> None:
    numbers = NumberSet()
    for _ in range(2):
        numbers.load(b"0", b"a\x01\x00\x02\x00")
        numbers.load(b"1", b"b\x06")

    assert (list(numbers), len(numbers)) == ([1, 2, 4097, 4098], 4)


def test_numbers_far_apart_cost_little_memory() -> None:
    numbers = NumberSet()
    tracemalloc.start()
    try:
        for number in range(0, 2**60, 2**46):
            numbers.add(number)
        numbers.written()
        memory, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert memory / len(numbers) < 120


def test_clearing_forgets_what_was_to_be_written() -> None:
    numbers = NumberSet()
    numbers.add(7)
    numbers.clear()

    assert (len(numbers), 7 in numbers, numbers.written()) == (0, False, {})


@pytest.mark.parametrize("value", [b"", b"x", b"a1", b"a\xff\xff", b"a\x00\xd8", b"a\x00\x10", b"b" + 513 * b"x"])
def test_what_is_no_chunk_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match="chunk"):
        NumberSet().load(b"0", value)


def test_what_is_no_number_is_not_in_it() -> None:
    numbers = NumberSet()
    numbers.add(1)

    assert True not in numbers
    assert "1" not in numbers
