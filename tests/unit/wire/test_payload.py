"""Payloads survive a round trip unchanged, and what Ruby could not read is refused."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest

from pyqik.core.errors import InvalidJob, InvalidPayload
from pyqik.wire.payload import MAX_NESTING, Payload, dead_entry, decode, encode, nesting, patch, seconds

#: A payload with everything that a careless round trip would change.
AWKWARD = (
    '{"retry":5,"args":[123456789012345678901234567890,-0.0,1e2,1.10,"k\\u00e4se/\\/☃",{"z":1,"a":2}],'
    '"class":"Foo::Bar", "unknown": {"b":[1 , 2]},"jid":"3fd5721286d295ee0275920f","created_at":1795319920.0918164}'
).encode()

#: Arguments that JSON can hold, and that careless code changes on the way.
VALUES = [
    pytest.param(2**64 + 1, id="beyond 64 bits"),
    pytest.param(-(10**40), id="far beyond"),
    pytest.param(0.1 + 0.2, id="all digits"),
    pytest.param(1.0, id="whole float"),
    pytest.param(-0.0, id="negative zero"),
    pytest.param(5e-324, id="smallest float"),
    pytest.param(1.7976931348623157e308, id="largest float"),
    pytest.param("", id="empty"),
    pytest.param("\x00\x1f\u2028\U0001f600", id="control characters"),
    pytest.param('"\\/', id="escapes"),
    pytest.param([None, True, [], {}], id="nested"),
    pytest.param({"": {"b": 1, "a": 2}}, id="order of keys"),
]


def test_a_payloads_fields_are_read() -> None:
    payload = decode(AWKWARD)

    assert (payload.job_class, payload.jid, payload.queue) == ("Foo::Bar", "3fd5721286d295ee0275920f", "default")
    assert payload.args[0] == 123456789012345678901234567890
    assert payload["retry"] == 5
    assert "unknown" in payload
    assert list(payload) == ["retry", "args", "class", "unknown", "jid", "created_at"]


@pytest.mark.parametrize(
    ("fields", "args"),
    [
        pytest.param({}, [], id="none"),
        pytest.param({"args": None}, [], id="null"),
        pytest.param({"args": {"a": 1, "b": 2}}, [["a", 1], ["b", 2]], id="an object, as Ruby splats it"),
        pytest.param({"args": "x"}, ["x"], id="a value"),
    ],
)
def test_odd_arguments_are_read_as_ruby_reads_them(fields: dict[str, Any], args: list[Any]) -> None:
    assert Payload(fields).args == args


def test_an_active_job_is_displayed_by_its_own_class() -> None:
    assert Payload({"class": "Wrapper", "wrapped": "ImportJob"}).display_class == "ImportJob"


def test_a_payload_does_not_show_its_arguments() -> None:
    assert "secret" not in repr(Payload({"class": "Foo", "jid": "x", "args": ["secret"]}))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"class":"Foo"',
        b"null",
        b"5",
        b'"x"',
        b"[1]",
        b"{}",
        b'{"class":5}',
        b'{"class":""}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b"\x00\x01\x02",
        b'{"args":' + b"[" * 200 + b"]" * 200 + b"}",
        b"[" * 100_000,
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_what_is_no_job_to_ruby_is_none_here(raw: bytes) -> None:
    with pytest.raises(InvalidPayload):
        decode(raw)


def test_the_deepest_payload_that_ruby_reads_is_read() -> None:
    inner = MAX_NESTING - 1
    raw = b'{"class":"Foo","args":' + b"[" * inner + b"]" * inner + b"}"

    assert nesting(decode(raw).fields) == MAX_NESTING


def test_many_brackets_side_by_side_are_not_deep() -> None:
    raw = json.dumps({"class": "Foo", "args": [[n] for n in range(500)]}).encode()

    assert len(decode(raw).args) == 500


def test_a_patch_changes_one_field_and_no_other_byte() -> None:
    patched = patch(AWKWARD, {"retry": 6})

    assert patched.startswith(b'{"retry":6,')
    for text in (b"123456789012345678901234567890", b"-0.0", b"1e2", b"1.10", b"k\\u00e4se/\\/", b"[1 , 2]"):
        assert text in patched


def test_a_patch_adds_at_the_end_and_removes() -> None:
    patched = patch(b'{"a":1,"b":2}', {"a": None, "c": [1.5]})

    assert patched == b'{"b":2,"c":[1.5]}'


def test_a_new_payload_is_written_as_ruby_writes_it() -> None:
    raw = encode(Payload({"class": "Foo", "args": ["käse/☃", 1.0, 2**70]}))

    assert raw == '{"class":"Foo","args":["käse/☃",1.0,1180591620717411303424]}'.encode()


@pytest.mark.parametrize("value", VALUES)
def test_arguments_survive_the_wire(value: object) -> None:
    raw = encode(Payload({"class": "Foo", "args": [value]}))

    assert repr(decode(raw).args) == repr([value])
    assert repr(json.loads(raw)["args"]) == repr([value])


@pytest.mark.parametrize("value", VALUES)
def test_a_patch_keeps_the_text_of_every_other_field(value: object) -> None:
    raw = json.dumps({"class": "Foo", "args": [value], "retry_count": 0, "unknown": value}, indent=1).encode()

    patched = patch(raw, {"retry_count": 1})

    assert json.dumps([value], indent=1).replace("\n", "\n ").encode() in patched
    assert repr(decode(patched)["unknown"]) == repr(value)
    assert decode(patched)["retry_count"] == 1


@pytest.mark.parametrize(
    "value",
    [
        pytest.param((1,), id="tuple"),
        pytest.param({1}, id="set"),
        pytest.param(b"x", id="bytes"),
        pytest.param(date(2027, 1, 1), id="date"),
        pytest.param(float("inf"), id="infinity"),
        pytest.param({1: 2}, id="integer key"),
        pytest.param("\udc80", id="surrogate"),
        pytest.param({"\udc80": 1}, id="surrogate key"),
        pytest.param(type("Text", (str,), {})("x"), id="subclass of str"),
    ],
)
def test_what_would_not_come_back_is_refused(value: object) -> None:
    with pytest.raises(InvalidJob, match=r"^args\[0\]"):
        encode(Payload({"args": [value]}))


def test_what_is_too_deep_for_ruby_is_refused() -> None:
    value: list[Any] = []
    for _ in range(MAX_NESTING):
        value = [value]

    with pytest.raises(InvalidJob, match="nested more than 100 deep"):
        encode(Payload({"args": value}))


@pytest.mark.parametrize("raw", [b"{", b"nonsense", b'{"a":NaN}', b"[" * 200 + b"]" * 200], ids=repr)
def test_text_that_ruby_cannot_parse_dies_as_it_is(raw: bytes) -> None:
    assert dead_entry(raw, InvalidPayload("why"), "low", 1.5) == raw


@pytest.mark.parametrize("raw", [b"null", b"[1]", b"5", b'"x"', b"{}"], ids=repr)
def test_json_that_is_no_job_dies_inside_an_entry_that_the_web_ui_can_show(raw: bytes) -> None:
    entry = json.loads(dead_entry(raw, InvalidPayload("why"), "low", 1.5))

    assert (entry["args"], entry["queue"], entry["retry"]) == ([raw.decode()], "low", False)
    assert (entry["error_message"], entry["failed_at"]) == ("why", 1.5)
    assert len(entry["jid"]) == 24


def test_what_was_wrapped_and_is_retried_by_hand_dies_again_as_it_is() -> None:
    wrapped = dead_entry(b"[1]", InvalidPayload("why"), "low", 1.5)

    with pytest.raises(InvalidPayload, match="retried by hand") as raised:
        decode(wrapped)

    assert dead_entry(wrapped, raised.value, "low", 2.5) == wrapped


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(1_795_320_000.5, 1_795_320_000.5, id="float seconds (6 and 7)"),
        pytest.param(1_795_320_000_500, 1_795_320_000.5, id="integer milliseconds (8)"),
        pytest.param(None, 7.0, id="null"),
        pytest.param("1795320000", 7.0, id="text"),
        pytest.param(True, 7.0, id="true"),
        pytest.param(10**400, 7.0, id="beyond a float"),
        pytest.param(1e300, 7.0, id="beyond all time"),
    ],
)
def test_timestamps_of_every_sidekiq_are_read(value: object, expected: float) -> None:
    assert seconds(value, 7.0) == expected
