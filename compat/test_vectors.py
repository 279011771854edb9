"""Payloads captured from real Sidekiq, through pyqik's codec and its decision of how a job ends. No Ruby runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pyqik.wire.broker import UnitOfWork
from pyqik.wire.payload import decode, encode, patch
from pyqik.worker.engine.outcome import Ending, decide

RELEASES = ("6.4.1", "7.3.2")


@dataclass(frozen=True)
class Vector:
    """One captured payload, and the key that it was found under."""

    name: str
    where: str
    stage: str
    text: str

    @property
    def raw(self) -> bytes:
        return self.text.encode()

    @property
    def fields(self) -> dict[str, Any]:
        """What the standard library reads; it agrees with Ruby on integers of any size."""
        fields: dict[str, Any] = json.loads(self.text)
        return fields


def captured(release: str) -> Iterator[Vector]:
    """Every payload of a release, in the order of capture."""
    text = (Path(__file__).parent / "vectors" / release / "vectors.jsonl").read_text()
    # Not splitlines: payloads contain U+2028, which ends a line for Python but not for JSON.
    for number, line in enumerate(text.rstrip("\n").split("\n"), start=1):
        row = json.loads(line)
        yield Vector(f"{release}-{number}-{row['class']}", row["where"], row["stage"], row["raw"])


def first_failures(release: str) -> Iterator[tuple[Vector, Vector]]:
    """A job as it was enqueued, beside the retry entry that Ruby made of it when it failed for the first time."""
    vectors = list(captured(release))
    enqueued = {v.fields["jid"]: v for v in vectors if v.stage == "00-enqueued" and v.where.startswith("queue:")}
    for entry in vectors:
        if entry.where == "retry" and entry.stage == "10-drained":
            yield enqueued[entry.fields["jid"]], entry


def field_texts(text: str) -> dict[str, str]:
    """The exact text of each top-level field, cut out by the standard library's scanner."""
    scan = json.JSONDecoder().raw_decode
    texts: dict[str, str] = {}
    at = 1
    while at < len(text) - 1:
        key, colon = scan(text, at)
        _, end = scan(text, colon + 1)
        texts[key] = text[colon + 1 : end]
        at = end + 1
    return texts


VECTORS = [pytest.param(vector, id=vector.name) for release in RELEASES for vector in captured(release)]
FIRST_FAILURES = [
    pytest.param(job, entry, id=entry.name) for release in RELEASES for job, entry in first_failures(release)
]


@pytest.mark.parametrize("vector", VECTORS)
def test_a_payload_decodes_to_what_ruby_meant(vector: Vector) -> None:
    payload = decode(vector.raw)

    # repr tells 1 from 1.0 and 0.0 from -0.0, which == does not
    assert repr(payload.fields) == repr(vector.fields)


@pytest.mark.parametrize("vector", VECTORS)
def test_an_unpatched_payload_keeps_every_byte(vector: Vector) -> None:
    assert patch(vector.raw, {}) == vector.raw


@pytest.mark.parametrize("vector", VECTORS)
def test_a_patched_field_leaves_the_text_and_order_of_all_others(vector: Vector) -> None:
    patched = patch(vector.raw, {"queue": "elsewhere"})

    assert list(field_texts(patched.decode()).items()) == list(
        {**field_texts(vector.text), "queue": '"elsewhere"'}.items()
    )


@pytest.mark.parametrize("vector", VECTORS)
def test_a_new_field_comes_after_the_unchanged_text(vector: Vector) -> None:
    patched = patch(vector.raw, {"pyqik": 2**70})

    assert patched.decode() == f'{vector.text[:-1]},"pyqik":{2**70}}}'


@pytest.mark.parametrize("vector", VECTORS)
def test_a_payload_written_anew_means_the_same(vector: Vector) -> None:
    written = encode(decode(vector.raw))

    assert repr(json.loads(written)) == repr(vector.fields)


@pytest.mark.parametrize(("job", "entry"), FIRST_FAILURES)
def test_a_first_failure_becomes_the_entry_that_ruby_made_of_it(job: Vector, entry: Vector) -> None:
    ruby = entry.fields
    error = type(ruby["error_class"], (Exception,), {"__module__": "builtins"})(ruby["error_message"])
    unit = UnitOfWork(b"token", job.where.removeprefix("queue:"), job.raw)

    outcome = decide(unit, decode(job.raw), error, now=ruby["failed_at"])

    assert outcome.ending is Ending.RETRIED
    assert _without_backtrace(json.loads(outcome.place.payload)) == _without_backtrace(ruby)


@pytest.mark.parametrize(("job", "entry"), FIRST_FAILURES)
def test_a_failed_retry_goes_on_counting_where_ruby_stopped(job: Vector, entry: Vector) -> None:
    ruby = entry.fields
    unit = UnitOfWork(b"token", ruby["queue"], entry.raw)

    outcome = decide(unit, decode(entry.raw), ValueError("again"), now=ruby["failed_at"] + 20)

    again = json.loads(outcome.place.payload)
    assert (again["retry_count"], again["failed_at"]) == (ruby["retry_count"] + 1, ruby["failed_at"])
    assert (again["retried_at"], again["error_class"]) == (ruby["failed_at"] + 20, "ValueError")


def _without_backtrace(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value if key != "error_backtrace" else ... for key, value in fields.items()}
