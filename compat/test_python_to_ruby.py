"""Python enqueues, Ruby runs; and what Sidekiq's API says of jobs that Python wrote."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

import pyqik
from compat.conftest import StartPyqik
from compat.evidence import wait_for_runs
from compat.real_sidekiq import RealSidekiq
from compat.test_ruby_to_python import AWKWARD
from tests.support.wait import wait_until


@pytest.fixture
def client(sidekiq: RealSidekiq) -> Iterator[pyqik.Client]:
    """A client of the Redis that both sides share."""
    with pyqik.Client(sidekiq.redis_url) as client:
        yield client


def test_ruby_runs_what_python_pushes(sidekiq: RealSidekiq, client: pyqik.Client) -> None:
    sidekiq.start_worker(queue="ruby")

    jid = client.push("RubyRecordJob", *AWKWARD, queue="ruby")

    [run] = wait_for_runs(sidekiq.redis, "RubyRecordJob")
    assert run["jid"] == jid
    assert repr(run["args"]) == repr(AWKWARD)


def test_ruby_runs_a_bulk_in_the_order_of_its_pushes(sidekiq: RealSidekiq, client: pyqik.Client) -> None:
    jids = client.push_bulk("RubyRecordJob", [[number] for number in range(1500)], queue="ruby")

    sidekiq.start_worker(queue="ruby", concurrency=1)

    runs = wait_for_runs(sidekiq.redis, "RubyRecordJob", 1500)
    assert [(run["jid"], run["args"]) for run in runs] == [(jid, [number]) for number, jid in enumerate(jids)]


def test_ruby_moves_and_runs_what_python_scheduled(sidekiq: RealSidekiq, client: pyqik.Client) -> None:
    sidekiq.start_worker(queue="ruby")

    jid = client.push("RubyRecordJob", 1, queue="ruby", at=time.time() + 0.5)

    assert wait_for_runs(sidekiq.redis, "RubyRecordJob") == [{"jid": jid, "args": [1]}]


def test_ruby_runs_what_a_python_job_pushes(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    pyqik_worker()
    sidekiq.start_worker(queue="ruby")

    sidekiq.push_job("Py::Handover", "from", "Python")

    [run] = wait_for_runs(sidekiq.redis, "RubyRecordJob")
    assert run["args"] == ["from", "Python"]


def test_a_job_that_python_pushed_fails_in_ruby_like_any_other(sidekiq: RealSidekiq, client: pyqik.Client) -> None:
    sidekiq.start_worker(queue="ruby")

    jid = client.push("RubyFailingJob", "no", queue="ruby", retry=7, tags=["from python"])

    [entry] = wait_until(lambda: sidekiq.read("retry"))
    assert (entry["jid"], entry["error_message"], entry["retry_count"]) == (jid, "no", 0)
    assert (entry["item"]["retry"], entry["tags"]) == (7, ["from python"])


def test_the_api_reads_a_queued_job(sidekiq: RealSidekiq, client: pyqik.Client) -> None:
    jid = client.push("RubyRecordJob", 1, "b", queue="ruby", tags=["x"])

    [job] = sidekiq.read("queue", "ruby")

    now = time.time()
    assert (job["klass"], job["args"], job["jid"], job["queue"]) == ("RubyRecordJob", [1, "b"], jid, "ruby")
    assert job["tags"] == ["x"]
    assert now - 20 < job["created_at"] <= job["enqueued_at"] < now + 1
    assert 0 <= job["latency"] < 20


def test_the_api_lists_the_queue_with_its_latency(sidekiq: RealSidekiq, client: pyqik.Client) -> None:
    client.push("RubyRecordJob", queue="mails.v1-a_b:c")

    [(name, queue)] = sidekiq.read("queues").items()

    assert (name, queue["size"]) == ("mails.v1-a_b:c", 1)
    assert 0 <= queue["latency"] < 20


def test_the_api_reads_a_scheduled_job(sidekiq: RealSidekiq, client: pyqik.Client) -> None:
    at = time.time() + 3600.25

    jid = client.push("RubyRecordJob", 1, queue="ruby", at=at)

    [entry] = sidekiq.read("schedule")
    assert (entry["jid"], entry["args"], entry["queue"]) == (jid, [1], "ruby")
    assert entry["score"] == pytest.approx(at, abs=1e-3)
    assert entry["enqueued_at"] is None


def test_the_api_adds_a_scheduled_job_to_its_queue(sidekiq: RealSidekiq, client: pyqik.Client) -> None:
    jid = client.push("RubyRecordJob", 1, queue="ruby", at=time.time() + 3600)

    sidekiq.act("entry", set="schedule", jid=jid, action="add_to_queue")

    assert [job["jid"] for job in sidekiq.read("queue", "ruby")] == [jid]
    assert sidekiq.read("schedule") == []


def test_the_api_reschedules_by_the_exact_text(sidekiq: RealSidekiq, client: pyqik.Client) -> None:
    later = time.time() + 7200
    # Ruby's own releases disagree on the text of floats with an exponent, so that no text can suit all of them.
    args = [value for value in AWKWARD if value not in (1e20, 5e-324)]
    jid = client.push("RubyRecordJob", *args, queue="ruby", at=time.time() + 3600)

    sidekiq.act("entry", set="schedule", jid=jid, action="reschedule", at=later)

    [entry] = sidekiq.read("schedule")
    assert entry["score"] == pytest.approx(later, abs=0.01)


def test_the_api_deletes_a_queued_job_by_its_exact_text(sidekiq: RealSidekiq, client: pyqik.Client) -> None:
    stays = client.push("RubyRecordJob", *AWKWARD, queue="ruby")
    goes = client.push("RubyRecordJob", *AWKWARD, queue="ruby")

    sidekiq.act("job", queue="ruby", jid=goes)

    assert [job["jid"] for job in sidekiq.read("queue", "ruby")] == [stays]
