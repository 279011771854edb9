"""What fails in Python, as Sidekiq's own API reads it, and what an operator does with it from there."""

from __future__ import annotations

import time

import pytest

from compat.conftest import StartPyqik, any_version
from compat.evidence import runs_of, wait_for_runs
from compat.real_sidekiq import RealSidekiq
from tests.support.wait import wait_until

#: What a foreign program may leave in a queue; none of it is a job.
NOT_JOBS = [
    pytest.param("{not json", id="no JSON"),
    pytest.param("", id="empty text"),
    pytest.param("[1]", id="an array"),
    pytest.param("null", id="null"),
    pytest.param("5", id="a number"),
    pytest.param('"x"', id="a string"),
    pytest.param("{}", id="an empty object"),
    pytest.param("[" * 200 + "]" * 200, id="200 nested arrays"),
    pytest.param('{"class":"Py::Record","args":[NaN]}', id="NaN"),
]


def test_a_failure_is_an_entry_of_the_retry_set(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    worker = pyqik_worker()
    jid = sidekiq.push("perform_async", **{"class": "Py::Failing", "args": ["café \u2028 <b>"]})

    [entry] = wait_until(lambda: sidekiq.read("retry"))

    worker.stop()
    now = time.time()
    assert (entry["klass"], entry["args"], entry["jid"]) == ("Py::Failing", ["café \u2028 <b>"], jid)
    assert (entry["queue"], entry["retry_count"], entry["retried_at"]) == ("python", 0, None)
    assert (entry["error_class"], entry["error_message"]) == ("ValueError", "café \u2028 <b>")
    assert now - 20 < entry["failed_at"] < now
    assert 15 <= entry["score"] - entry["failed_at"] <= 25.1
    assert sidekiq.read("stats")["failed"] == 1


def test_a_backtrace_is_read_line_by_line(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    pyqik_worker()
    # The Ruby class Py::Failing asks for five lines.
    sidekiq.push("perform_async", **{"class": "Py::Failing", "args": ["no"]})

    [entry] = wait_until(lambda: sidekiq.read("retry"))

    lines = entry["error_backtrace"]
    assert 1 <= len(lines) <= 5
    assert "compat/jobs.py:" in lines[0]
    assert lines[0].endswith(":in failing")


def test_a_retry_by_the_api_fails_again_and_is_counted_on(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    pyqik_worker()
    jid = sidekiq.push_job("Py::Failing", "no", retry=5)
    [first] = wait_until(lambda: sidekiq.read("retry"))

    sidekiq.act("entry", set="retry", jid=jid, action="retry")

    wait_for_runs(sidekiq.redis, "Py::Failing", 2)
    [second] = wait_until(lambda: sidekiq.read("retry"))
    # The API takes one off before it pushes, so that a retry by hand costs none.
    assert second["retry_count"] == 0
    assert second["failed_at"] == first["failed_at"]
    assert second["retried_at"] >= first["failed_at"]


def test_a_job_that_fails_for_good_is_dead(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    pyqik_worker()

    jid = sidekiq.push_job("Py::Failing", "no", retry=0)

    [entry] = wait_until(lambda: sidekiq.read("dead"))
    assert (entry["jid"], entry["error_message"], entry["retry_count"]) == (jid, "no", 0)
    assert sidekiq.read("retry") == []


@any_version
def test_a_killed_job_is_dead_at_once(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    pyqik_worker()

    jid = sidekiq.push_job("Py::Killing")

    [entry] = wait_until(lambda: sidekiq.read("dead"))
    assert (entry["jid"], entry["error_message"]) == (jid, "needs a person")


def test_a_dead_job_is_run_again_by_the_api(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    pyqik_worker()
    jid = sidekiq.push_job("Py::Healing", "medicine", retry=0)
    wait_until(lambda: sidekiq.read("dead"))
    sidekiq.redis.set("medicine", "here")

    sidekiq.act("entry", set="dead", jid=jid, action="retry")

    assert [run["jid"] for run in wait_for_runs(sidekiq.redis, "Py::Healing")] == [jid]
    assert sidekiq.read("dead") == []


def test_an_entry_is_killed_by_the_api(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    pyqik_worker()
    jid = sidekiq.push_job("Py::Failing", "no")
    wait_until(lambda: sidekiq.read("retry"))

    sidekiq.act("entry", set="retry", jid=jid, action="kill")

    [entry] = sidekiq.read("dead")
    assert (entry["jid"], entry["error_class"]) == (jid, "ValueError")


def test_an_entry_is_deleted_by_its_exact_text(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    pyqik_worker()
    jid = sidekiq.push_job("Py::Failing", "ü / \u2028 \\")
    wait_until(lambda: sidekiq.read("retry"))

    sidekiq.act("entry", set="retry", jid=jid, action="delete")

    assert sidekiq.read("retry") == []


def test_an_entry_is_rescheduled_by_its_exact_text(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    pyqik_worker()
    later = time.time() + 7200
    jid = sidekiq.push("perform_async", **{"class": "Py::Failing", "args": ["ü / \u2028 \\"]})
    wait_until(lambda: sidekiq.read("retry"))

    sidekiq.act("entry", set="retry", jid=jid, action="reschedule", at=later)

    # 6.4 and 7.3 write the text anew and move what is equal to it; were it not equal, there would be a second entry.
    [entry] = sidekiq.read("retry")
    assert entry["score"] == pytest.approx(later, abs=0.01)


def test_ruby_moves_a_due_retry_that_python_wrote(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    pyqik_worker(options=("--no-poll",))
    jid = sidekiq.push_job("Py::Healing", "medicine")
    wait_until(lambda: sidekiq.read("retry"))
    sidekiq.redis.set("medicine", "here")
    sidekiq.act("entry", set="retry", jid=jid, action="reschedule", at=time.time())

    sidekiq.start_worker(queue="ruby")

    assert [run["jid"] for run in wait_for_runs(sidekiq.redis, "Py::Healing")] == [jid]


@any_version
def test_an_unknown_class_is_retried_and_named(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    pyqik_worker()

    sidekiq.push_job("Py::Nowhere", 1)

    [entry] = wait_until(lambda: sidekiq.read("retry"))
    assert "Py::Nowhere" in entry["error_message"]
    assert entry["error_class"].endswith("JobNotRegistered")


@any_version
def test_wrong_arguments_are_named(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    pyqik_worker()

    sidekiq.push_job("Py::Failing", 1, 2, 3)

    [entry] = wait_until(lambda: sidekiq.read("retry"))
    assert entry["error_class"].endswith("WrongArguments")
    assert runs_of(sidekiq.redis, "Py::Failing") == []


@any_version
def test_a_discarded_job_leaves_nothing(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    worker = pyqik_worker()
    sidekiq.push_job("Py::Discarding")
    wait_for_runs(sidekiq.redis, "Py::Discarding")

    worker.stop()

    stats = sidekiq.read("stats")
    assert (stats["enqueued"], stats["retry_size"], stats["dead_size"], stats["failed"]) == (0, 0, 0, 0)


@any_version
def test_what_is_no_job_is_still_kept_after_a_retry(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    pyqik_worker()
    sidekiq.redis.lpush("queue:python", "[1]")
    [entry] = wait_until(lambda: sidekiq.read("dead"))

    sidekiq.act("entry", set="dead", jid=entry["jid"], action="retry")

    [again] = wait_until(lambda: sidekiq.read("dead") + sidekiq.read("retry"))
    assert (again["jid"], again["args"]) == (entry["jid"], ["[1]"])


@any_version
@pytest.mark.parametrize("text", NOT_JOBS)
def test_what_is_no_job_is_kept_in_the_dead_set(sidekiq: RealSidekiq, pyqik_worker: StartPyqik, text: str) -> None:
    pyqik_worker()

    sidekiq.redis.lpush("queue:python", text)

    [entry] = wait_until(lambda: sidekiq.read("dead"))
    assert text in (entry["value"], *entry["args"])
    assert sidekiq.read("stats")["enqueued"] == 0
