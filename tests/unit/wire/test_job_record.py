"""What a payload says of itself, whoever wrote it, and whether it is a job or not."""

from __future__ import annotations

import base64
import json
import time
import zlib
from typing import Any

import pytest

from pyqik.core.errors import InvalidPayload
from pyqik.wire.job_record import BACKTRACE_LIMIT, JobRecord
from pyqik.wire.payload import dead_entry

#: As Sidekiq 7 and 8 write the same job: float seconds, integer milliseconds.
OF_7 = {
    "created_at": 1795319920.25,
    "enqueued_at": 1795319921.5,
    "failed_at": 1795319922.75,
    "retried_at": 1795319923.0,
}
OF_8 = {
    "created_at": 1795319920250,
    "enqueued_at": 1795319921500,
    "failed_at": 1795319922750,
    "retried_at": 1795319923000,
}

LINES = ["app/jobs/x.rb:3:in `perform'", "größe.rb:1"]


def record(**fields: Any) -> JobRecord:
    return JobRecord(json.dumps({"class": "A", **fields}).encode())


def packed(lines: object) -> str:
    return base64.b64encode(zlib.compress(json.dumps(lines).encode())).decode()


def test_a_job_is_read_field_by_field() -> None:
    raw = b'{"class":"Foo::Bar","args":[1,{"a":null}],"jid":"3fd5","queue":"low","tags":["x"],"bid":"b"}'

    job = JobRecord(raw)

    assert (job.klass, job.display_class, job.args, job.jid) == ("Foo::Bar", "Foo::Bar", [1, {"a": None}], "3fd5")
    assert (job.queue, job.tags, job.item["bid"], job.raw, job.invalid) == ("low", ["x"], "b", raw, "")


@pytest.mark.parametrize("fields", [OF_7, OF_8], ids=["7: float seconds", "8: integer milliseconds"])
def test_times_are_epoch_seconds(fields: dict[str, Any]) -> None:
    job = record(**fields)

    assert (job.created_at, job.enqueued_at) == (1795319920.25, 1795319921.5)
    assert (job.failed_at, job.retried_at) == (1795319922.75, 1795319923.0)


def test_what_a_payload_does_not_say_is_none_or_empty() -> None:
    job = record()

    assert (job.created_at, job.enqueued_at, job.failed_at, job.retried_at, job.retry_count) == (None,) * 5
    assert (job.error_class, job.error_message, job.error_backtrace) == (None,) * 3
    assert (job.args, job.jid, job.tags, job.queue, job.latency) == ([], "", [], "default", 0.0)


def test_without_its_creation_the_time_of_the_push_counts() -> None:
    assert record(enqueued_at=5.5).created_at == 5.5


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(lambda now: {"enqueued_at": now - 60}, id="float seconds"),
        pytest.param(lambda now: {"enqueued_at": int((now - 60) * 1000)}, id="integer milliseconds"),
        pytest.param(lambda now: {"created_at": now - 60}, id="only created_at"),
        pytest.param(lambda now: {"created_at": 1.0, "enqueued_at": now - 60}, id="the last push counts"),
    ],
)
def test_latency_is_the_time_since_the_push(fields: Any) -> None:
    assert record(**fields(time.time())).latency == pytest.approx(60, abs=5)


def test_a_failure_is_read() -> None:
    job = record(error_class="ArgumentError", error_message="no", retry_count=0)

    assert (job.error_class, job.error_message, job.retry_count) == ("ArgumentError", "no", 0)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(packed(LINES), id="in one line, since 7.2.1"),
        pytest.param(base64.encodebytes(zlib.compress(json.dumps(LINES).encode())).decode(), id="in several lines"),
        pytest.param(LINES, id="an array"),
    ],
)
def test_a_backtrace_is_unpacked(value: object) -> None:
    assert record(error_backtrace=value).error_backtrace == LINES


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(5, id="a number"),
        pytest.param("größe", id="no base64"),
        pytest.param("AAAA", id="no zlib"),
        pytest.param(packed({"a": 1}), id="no array"),
        pytest.param(packed("x" * (BACKTRACE_LIMIT + 1)), id="a bomb"),
    ],
)
def test_a_backtrace_that_cannot_be_read_is_none(value: object) -> None:
    assert record(error_backtrace=value).error_backtrace is None


@pytest.mark.parametrize(
    "raw", [b"{not json", b"", b"[1]", b"null", b"5", b"\xff\xfe", b"[" * 200 + b"]" * 200], ids=repr
)
def test_what_is_no_json_object_says_so_and_shows_its_text(raw: bytes) -> None:
    job = JobRecord(raw)

    assert job.invalid
    assert (job.klass, job.display_class) == ("pyqik::InvalidPayload", "pyqik::InvalidPayload")
    assert job.args == job.display_args == [raw.decode("utf-8", "replace")]
    assert (job.item, job.jid, job.queue, job.raw) == ({}, "", "default", raw)


def test_an_object_without_a_class_says_so_and_shows_its_fields() -> None:
    job = JobRecord(b'{"jid":"x","args":[1]}')

    assert job.invalid == "an object without a class name"
    assert (job.klass, job.display_class, job.jid, job.args) == ("pyqik::InvalidPayload",) * 2 + ("x", [1])


def test_what_was_wrapped_for_the_dead_set_says_why() -> None:
    job = JobRecord(dead_entry(b"[1]", InvalidPayload("an array where a job was expected"), "low", 1.5))

    assert (job.invalid, job.args) == ("an array where a job was expected", ["[1]"])


def test_arguments_stay_out_of_its_representation() -> None:
    assert repr(JobRecord(b'{"class":"A","jid":"x","args":["secret"]}')) == "<JobRecord A x>"
