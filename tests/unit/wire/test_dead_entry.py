"""What the dead set holds of bytes that are no job: Sidekiq's Web UI must show it and its buttons must not lose it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyqik.core.errors import InvalidPayload
from pyqik.wire.payload import INVALID_PAYLOAD_CLASS, dead_entry, decode, patch

DIGITS = b"9" * 5000


def entry(raw: bytes) -> bytes:
    """The entry for `raw`, which must not be a job."""
    with pytest.raises(InvalidPayload) as caught:
        decode(raw)
    return dead_entry(raw, caught.value, "mailers", 5.0)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"[1e400]", id="a float that Ruby reads as Infinity, in an array"),
        pytest.param(b"1e400", id="the same alone"),
        pytest.param(b"[" + DIGITS + b"]", id="an integer of 5,000 digits, in an array"),
        pytest.param(DIGITS, id="the same alone"),
        pytest.param(b'{"args":[1e400]}', id="in an object without a class"),
        pytest.param(b'{"class":7,"args":[1e400]}', id="in an object whose class is a number"),
    ],
)
def test_numbers_that_only_ruby_reads_are_wrapped_as_the_bare_value_breaks_the_dead_page(raw: bytes) -> None:
    wrapped: dict[str, Any] = json.loads(entry(raw))

    assert (wrapped["class"], wrapped["args"]) == (INVALID_PAYLOAD_CLASS, [raw.decode()])


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{x", id="no JSON"),
        pytest.param(b"[NaN]", id="NaN"),
        pytest.param(b'{"class":"A","args":[-Infinity]}', id="-Infinity"),
        pytest.param(b'["\xff"]', id="no UTF-8"),
        pytest.param(b"\xff\xfe[\x00]\x00", id="UTF-16"),
        pytest.param(b"\xef\xbb\xbf[1]", id="a byte order mark"),
        pytest.param(b"[" * 200 + b"]" * 200, id="200 deep"),
        pytest.param(b"[" * 200_000 + b"]" * 200_000, id="200,000 deep"),
        pytest.param(b'{"class":"A","args":[1e400],"jid":"a"}', id="a job of Ruby's with an Infinity"),
    ],
)
def test_what_ruby_cannot_parse_and_what_is_a_job_to_ruby_is_kept_byte_for_byte(raw: bytes) -> None:
    assert entry(raw) == raw


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


def is_a_job_to_ruby(raw: bytes) -> bool:
    return isinstance(value := json.loads(raw), dict) and isinstance(value["class"], str)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_job_or_get_an_entry_in_the_dead_set(raw: bytes) -> None:
    try:
        decode(raw)
    except InvalidPayload as error:
        kept = dead_entry(raw, error, "q", 1.0)
        assert kept == raw or is_a_job_to_ruby(kept)


FIELDS = st.dictionaries(st.text(min_size=1, max_size=8), JSON_VALUES, max_size=6)


@settings(max_examples=200, deadline=None)
@given(FIELDS, FIELDS)
def test_a_patch_changes_the_given_fields_and_no_others(fields: dict[str, Any], changes: dict[str, Any]) -> None:
    raw = json.dumps({**fields, "class": "A"}, ensure_ascii=False).encode("utf-8", "replace")
    changes = {key: value for key, value in changes.items() if _plain(key) and _plain(value)}

    again = json.loads(patch(raw, changes))

    expected = json.loads(raw) | changes
    assert again == {key: value for key, value in expected.items() if key not in changes or value is not None}


def _plain(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


@settings(max_examples=200, deadline=None)
@given(FIELDS, st.randoms(use_true_random=False))
def test_a_patch_keeps_the_text_of_untouched_fields_whatever_the_spacing(fields: dict[str, Any], rng: Any) -> None:
    texts = {
        json.dumps(key): json.dumps(value, ensure_ascii=rng.random() < 0.5)
        for key, value in fields.items()
        if key not in ("", "pyqik")
    }
    texts['"class"'] = '"A"'
    raw = ("{" + ",".join(f"{key} : {text} " for key, text in texts.items()) + "}").encode("utf-8", "replace")
    try:
        decode(raw)
    except InvalidPayload:
        return

    again = patch(raw, {"pyqik": 1}).decode()

    assert all(text.encode("utf-8", "replace").decode() in again for text in texts.values())
