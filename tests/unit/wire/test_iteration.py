"""The state of a long job as fields of a hash: what is written is read again, and what others wrote counts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyqik.core.errors import InvalidCursor
from pyqik.wire.iteration import UNNAMED, Loop, State, decode_cursor, encode_cursor, read_state, write_state

JSON = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
LOOPS = st.builds(
    lambda cursor, done, behind, version, bookmark: Loop(encode_cursor(cursor, "x"), done, behind, version, bookmark),
    JSON,
    st.booleans(),
    st.booleans(),
    st.integers(0, 100),
    st.none() | st.dictionaries(st.text(), st.integers(-(2**53), 2**53), min_size=1, max_size=3),
)


def stored(state: State, latest: str = UNNAMED) -> dict[bytes, bytes]:
    return {name.encode(): value for name, value in write_state(state, latest) if value}


@given(
    st.dictionaries(st.sampled_from([UNNAMED, "load", "load/", "send"]), LOOPS),
    st.dictionaries(st.text(), st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)),
    st.integers(0, 1000),
    st.floats(0, 1e9),
)
def test_what_is_written_is_read_again(
    loops: dict[str, Loop], counters: dict[str, int | float], executions: int, runtime: float
) -> None:
    state = State(executions, runtime, 0, loops, counters, [1.5, 2.5])

    assert read_state(stored(state), "it-x") == state


@given(JSON)
def test_a_cursor_is_read_as_it_was(cursor: Any) -> None:
    again = decode_cursor(encode_cursor(cursor, "x"))

    assert again == cursor
    assert type(again) is type(cursor)
    assert json.loads(encode_cursor(cursor, "x")) == cursor


def test_one_loop_without_a_name_writes_what_sidekiq_writes() -> None:
    assert stored(State(2, 1.25, loops={UNNAMED: Loop(b"7")})) == {b"ex": b"2", b"c": b"7", b"rt": b"1.25"}


def test_the_loop_that_was_begun_last_is_shown() -> None:
    loops = {"load": Loop(done=True), "send/": Loop(b"3")}

    assert stored(State(loops=loops), "send/")[b"c"] == b'{"send":3}'


@pytest.mark.parametrize("fields", [{}, {b"cancelled": b"5"}, {b"ex": b"0", b"c": b"null", b"rt": b"0"}], ids=str)
def test_nothing_is_where_a_job_begins(fields: dict[bytes, bytes]) -> None:
    state = read_state(fields, "it-x")

    assert (state.executions, state.loops, state.counters) == (0, {}, {})


def test_a_cursor_that_sidekiq_has_moved_counts() -> None:
    fields = stored(State(1, loops={UNNAMED: Loop(b"3", behind=True, version=2, bookmark={"offset": 9})}))
    moved = read_state({**fields, b"c": b"5"}, "it-x")

    assert moved.loops == {UNNAMED: Loop(b"5", version=2, bookmark={"offset": 9})}


def test_the_same_cursor_in_other_words_is_the_same() -> None:
    fields = stored(State(1, loops={UNNAMED: Loop(b"[1,2]", done=True)}))

    assert read_state({**fields, b"c": b"[1, 2]"}, "it-x").loops[UNNAMED].done


@pytest.mark.parametrize(
    "fields",
    [
        {b"c": b"{nonsense"},
        {b"c": b"\xff"},
        {b"c": b"1", b"loops": b"[]"},
        {b"c": b"1", b"loops": b'{"a":1}'},
        {b"c": b"1", b"counters": b"7"},
        {b"c": b"1", b"counters": b'{"a":"b"}'},
        {b"c": b"[" * 100_000},
        {b"c": b"1", b"stops": b'["a"]'},
        {b"c": b"1", b"stops": b"7"},
    ],
    ids=lambda fields: str(fields)[:60],
)
def test_what_is_no_state_is_named(fields: dict[bytes, bytes]) -> None:
    with pytest.raises(InvalidCursor, match="it-x holds no state of a job"):
        read_state(fields, "it-x")
