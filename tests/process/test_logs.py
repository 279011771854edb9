"""What the log says of a job, and what it keeps to itself."""

from __future__ import annotations

import signal

import pytest
import redis as redis_py

from tests.process.conftest import StartWork
from tests.process.state import payload, push
from tests.support.jobs import Zoo
from tests.support.wait import wait_until

SECRET = "4111-1111-1111-1111"


def test_start_and_done_lines_name_jid_class_queue_and_elapsed(start_work: StartWork, redis: redis_py.Redis) -> None:
    work = start_work("-q", "mailers")

    push(redis, payload("Zoo::Pass", jid="job", queue="mailers", tags=["vip"]), queue="mailers")

    done = work.wait_for_event("done")
    [start] = work.lines("start")
    for line in (start, done):
        assert (line["jid"], line["class"], line["queue"]) == ("job", "Zoo::Pass", "mailers")
        assert (line["pid"], line["level"], line["tags"]) == (work.children[0], "info", ["vip"])
    assert 0 <= done["elapsed"] < 5


def test_a_fail_line_names_jid_class_queue_elapsed_and_the_error(start_work: StartWork, redis: redis_py.Redis) -> None:
    work = start_work()

    push(redis, payload("Zoo::Fail", "the printer burns", jid="job"))

    line = work.wait_for_event("fail")
    assert (line["jid"], line["class"], line["queue"]) == ("job", "Zoo::Fail", "default")
    assert (line["error_class"], line["error_message"]) == ("ValueError", "the printer burns")
    assert (line["then"], line["level"]) == ("retried", "warning")
    assert 0 <= line["elapsed"] < 5
    assert "raise ValueError(message)" in line["exception"]


@pytest.mark.parametrize("job_class", ["Zoo::FailOddly", "Zoo::FailOddlyInLoop"])
def test_an_error_whose_text_is_no_utf8_fails_as_any_other(
    start_work: StartWork, redis: redis_py.Redis, zoo: Zoo, job_class: str
) -> None:
    work = start_work()
    push(redis, payload(job_class, jid="odd"))

    line = work.wait_for_event("fail", jid="odd")

    assert (line["error_class"], line["error_message"]) == ("ValueError", "caf?.csv")
    assert r"ValueError: caf\udce9.csv" in line["exception"]
    work.end()
    assert (zoo.begun(), redis.zcard("retry"), redis.get("stat:failed")) == (["odd"], 1, b"1")


def test_arguments_are_never_in_the_log(start_work: StartWork, redis: redis_py.Redis) -> None:
    work = start_work("-v")

    push(
        redis,
        payload("Zoo::Pass", SECRET, jid="passes"),
        payload("Zoo::Wait", SECRET, "too many", jid="wrong-arguments"),
        payload("Zoo::Unknown", SECRET, jid="unknown"),
        b'{"class":"Zoo::Pass","args":["%b"' % SECRET.encode(),
    )

    work.wait_for_event("done", jid="passes")
    work.wait_for_event("fail", jid="wrong-arguments")
    work.wait_for_event("fail", jid="unknown")
    work.wait_for_event("not a job; kept in the dead set")
    assert SECRET not in work.log_text()


def test_arguments_are_in_the_start_line_when_that_was_asked_for(start_work: StartWork, redis: redis_py.Redis) -> None:
    work = start_work("--log-arguments")

    push(redis, payload("Zoo::Pass", SECRET, 5, jid="job"))

    assert work.wait_for_event("start")["args"] == [SECRET, 5]


def test_an_interrupted_job_is_logged_as_given_back_and_not_as_failed(
    start_work: StartWork, redis: redis_py.Redis
) -> None:
    work = start_work("-t", "0")
    push(redis, payload("Zoo::Wait", "never", jid="job"))
    work.wait_for_event("start")

    work.end()

    assert [line["jid"] for line in work.lines("interrupted; goes back to its queue")] == ["job"]
    assert work.lines("fail") == []
    assert redis.get("stat:failed") in (None, b"0")


def test_it_works_without_standard_streams(start_work: StartWork, redis: redis_py.Redis) -> None:
    work = start_work(through=["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"], ready=False)
    push(redis, payload("Zoo::Pass", jid="job"))

    wait_until(lambda: redis.get("stat:processed") == b"1", 30)

    work.send(signal.SIGTERM)
    assert work.wait() == 0


def test_every_line_of_the_log_is_json_from_the_start_to_the_end(start_work: StartWork, redis: redis_py.Redis) -> None:
    work = start_work("-v")
    push(redis, payload("Zoo::Pass", jid="job"), payload("Zoo::Fail", "broken", jid="fails"))
    work.wait_for_event("fail")

    work.end()

    assert work.lines("stopped", status=0)
    assert work.other_output == []
