"""`pyqik.api` beside Sidekiq's own API: both read the same Redis and say the same, and Ruby sees what Python does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from compat.conftest import StartPyqik, any_version
from compat.evidence import wait_for_runs
from compat.real_sidekiq import RealSidekiq
from compat.test_vectors import RELEASES, captured
from pyqik.api import (
    DeadSet,
    JobRecord,
    Process,
    ProcessSet,
    Queue,
    RetrySet,
    ScheduledSet,
    SortedEntry,
    Stats,
    WorkSet,
)
from pyqik.wire.display import WRAPPERS
from pyqik.wire.job_set import JobSet
from tests.support.wait import wait_until

#: Seconds in which a process has beaten once more: every 5 before Sidekiq 7, every 10 since.
BEAT = 20.0

SETS: dict[str, Callable[..., JobSet]] = {"schedule": ScheduledSet, "retry": RetrySet, "dead": DeadSet}
MAIL = ["UserMailer", "welcome", "deliver_now"]


def active_job(active_job_class: str, *arguments: object) -> dict[str, Any]:
    """The fields of an Active Job, as Rails' adapter pushes them."""
    return {
        "class": WRAPPERS[0],
        "wrapped": active_job_class,
        "args": [{"job_class": active_job_class, "job_id": "x", "queue_name": "low", "arguments": list(arguments)}],
    }


#: What is pushed through Ruby's client.
ITEMS: list[dict[str, Any]] = [
    {"class": "Plain", "args": []},
    {"class": "Foo::Bar", "args": [1, 2.5, None, True, "ü\u2028 <b>", {"a": [{}]}], "tags": ["x", "ü"], "retry": 3},
    {"class": "Big", "args": [2**70, -0.0, 1e300]},
    {"class": "Named", "args": [1], "display_class": "Nicer"},
    {"class": "Secret", "args": [1, "BAhbBkkiBnM="], "encrypt": True},
    active_job("Users::Import", 5, {"_aj_globalid": "gid://app/User/1"}, {"a": {"b": 1}, "_aj_symbol_keys": ["a"]}),
    active_job("ActionMailer::DeliveryJob", *MAIL, 1, 2),
    active_job("ActionMailer::MailDeliveryJob", *MAIL, {"args": [1], "_aj_ruby2_keywords": ["args"]}),
    active_job(
        "ActionMailer::MailDeliveryJob", *MAIL, {"params": {"p": 1}, "args": [1], "_aj_ruby2_keywords": ["args"]}
    ),
]


def about(moment: float) -> Any:
    """The same time, to the millisecond: Ruby builds the seconds from another number of ticks."""
    return pytest.approx(moment, abs=0.001)


def assert_same_job(ours: JobRecord, theirs: dict[str, Any], version: str) -> None:
    """Every accessor of Ruby's JobRecord says the same as ours."""
    assert (ours.raw.decode(), ours.klass, ours.display_class) == (
        *(theirs["value"], theirs["klass"], theirs["display_class"]),
    )
    # Ruby's display_args writes into the arguments of an encrypted job.
    if not ours.item.get("encrypt"):
        assert (ours.item, ours.args) == (theirs["item"], theirs["args"])
    assert (ours.jid, ours.queue, ours.tags) == (theirs["jid"], theirs["queue"], theirs["tags"])
    assert ours.created_at == about(theirs["created_at"])
    assert ours.enqueued_at == (None if theirs["enqueued_at"] is None else about(theirs["enqueued_at"]))
    assert ours.latency == pytest.approx(theirs["latency"], abs=3)
    assert (ours.error_class, ours.error_message) == (theirs["error_class"], theirs["error_message"])
    assert (ours.error_backtrace, ours.retry_count) == (theirs["error_backtrace"], theirs["retry_count"])
    # 6.4 shows the arguments of Active Job with their marks.
    if version != "6.4" or ours.klass not in WRAPPERS:
        assert ours.display_args == theirs["display_args"]


def assert_same_entries(sidekiq: RealSidekiq, key: str) -> None:
    """The set says the same to both, in the same order."""
    ours, theirs = list(SETS[key](redis=sidekiq.redis)), sidekiq.read(key)
    assert len(ours) == len(theirs) > 0
    for entry, said in zip(ours, theirs, strict=True):
        assert_same_job(entry, said, sidekiq.version)
        assert (entry.at, entry.at) == (said["score"], about(said["at"]))


def failed_once(sidekiq: RealSidekiq) -> str:
    """The jid of a Ruby job that Ruby has run, and that waits for its retry; nothing runs any more."""
    worker = sidekiq.start_worker(queue="ruby")
    jid = sidekiq.push("perform_async", **{"class": "RubyFailingJob", "args": ["nö"], "set": {"queue": "ruby"}})
    wait_until(lambda: sidekiq.redis.zcard("retry"))
    worker.kill()
    return str(jid)


def the_entry(sidekiq: RealSidekiq, key: str, jid: str) -> SortedEntry:
    entry = SETS[key](redis=sidekiq.redis).find_job(jid)
    assert entry is not None
    return entry


def test_a_queue_says_the_same(sidekiq: RealSidekiq) -> None:
    for item in ITEMS:
        sidekiq.push(item={"queue": "low", **item})

    ours, theirs = list(Queue("low", redis=sidekiq.redis)), sidekiq.read("queue", "low")

    assert len(ours) == len(theirs) == len(ITEMS)
    for entry, said in zip(ours, theirs, strict=True):
        assert_same_job(entry, said, sidekiq.version)


def test_a_long_queue_is_seen_in_the_same_order(sidekiq: RealSidekiq) -> None:
    sidekiq.push("push_bulk", item={"class": "Plain", "queue": "low", "args": [[number] for number in range(230)]})

    ours = [entry.jid for entry in Queue("low", redis=sidekiq.redis)]

    assert ours == [said["jid"] for said in sidekiq.read("queue", "low")]


@pytest.mark.parametrize("release", RELEASES)
def test_captured_payloads_say_the_same(sidekiq: RealSidekiq, release: str) -> None:
    vectors = [vector for vector in captured(release) if vector.where.startswith("queue:")]
    sidekiq.redis.lpush("queue:low", *[vector.raw for vector in vectors])

    ours, theirs = list(Queue("low", redis=sidekiq.redis)), sidekiq.read("queue", "low")

    assert len(ours) == len(theirs) == len(vectors)
    for entry, said in zip(ours, theirs, strict=True):
        assert_same_job(entry, said, sidekiq.version)


def test_queues_and_statistics_say_the_same(sidekiq: RealSidekiq) -> None:
    failed_once(sidekiq)
    for queue in ("default", "default", "low"):
        sidekiq.push(item={"class": "Plain", "args": [], "queue": queue})
    sidekiq.push("perform_in", **{"class": "RubyRecordJob", "seconds": 600, "args": []})

    ours, theirs = Stats(redis=sidekiq.redis), sidekiq.read("stats")
    queues = {queue.name: queue.size for queue in Queue.all(redis=sidekiq.redis)}

    assert {name: getattr(ours, name) for name in vars(ours) if name in theirs} == {
        name: theirs[name] for name in vars(ours) if name in theirs
    }
    assert queues == {name: said["size"] for name, said in sidekiq.read("queues").items()}
    assert ours.default_queue_latency == pytest.approx(sidekiq.read("queues")["default"]["latency"], abs=3)


def test_the_schedule_says_the_same(sidekiq: RealSidekiq) -> None:
    for seconds in (600, 60, 6000):
        sidekiq.push("perform_in", **{"class": "RubyRecordJob", "seconds": seconds, "args": [seconds]})

    assert_same_entries(sidekiq, "schedule")


def test_failures_say_the_same(sidekiq: RealSidekiq) -> None:
    jid = failed_once(sidekiq)

    assert_same_entries(sidekiq, "retry")
    (entry,) = RetrySet(redis=sidekiq.redis)
    assert (entry.jid, entry.error_class, entry.error_message) == (jid, "ArgumentError", "nö")
    assert entry.failed_at == pytest.approx(time.time(), abs=60)
    assert entry.error_backtrace
    assert "jobs.rb" in entry.error_backtrace[0]


def test_the_dead_say_the_same(sidekiq: RealSidekiq) -> None:
    sidekiq.start_worker(queue="ruby")
    settings = {"queue": "ruby", "retry": 0}
    for text in ("a", "b"):
        sidekiq.push("perform_async", **{"class": "RubyFailingJob", "args": [text], "set": settings})
    wait_until(lambda: sidekiq.redis.zcard("dead") == 2)

    assert_same_entries(sidekiq, "dead")


def test_what_is_no_json_is_shown_by_its_text(sidekiq: RealSidekiq) -> None:
    sidekiq.redis.zadd("dead", {"{not json": time.time()})

    (ours,), (theirs,) = DeadSet(redis=sidekiq.redis), sidekiq.read("dead")

    assert (ours.args, ours.raw.decode()) == (theirs["args"], theirs["value"])


def test_processes_and_what_they_run_say_the_same(sidekiq: RealSidekiq) -> None:
    worker = sidekiq.start_worker(queue="ruby", concurrency=3)
    jid = sidekiq.push("perform_async", **{"class": "RubySlowJob", "args": [1], "set": {"queue": "ruby"}})
    (work,) = wait_until(lambda: list(WorkSet(redis=sidekiq.redis)), BEAT)

    # Sidekiq writes that a moment later.
    (process,) = wait_until(lambda: [process for process in ProcessSet(redis=sidekiq.redis) if process.busy], BEAT)
    (said,), (work_said,) = sidekiq.read("processes"), sidekiq.read("work")

    assert_same_process(process, said)
    assert (process.pid, process.identity, process.concurrency) == (worker.pid, sidekiq.identity(worker), 3)
    assert (work.process_id, work.thread_id) == (work_said["identity"], work_said["thread"])
    assert (work.queue, work.run_at, work.job.item) == (work_said["queue"], work_said["run_at"], work_said["payload"])
    assert work.job.jid == jid
    assert WorkSet(redis=sidekiq.redis).size == sidekiq.read("stats")["workers_size"] == 1


def assert_same_process(ours: Process, said: dict[str, Any]) -> None:
    for name in (
        "identity",
        "hostname",
        "pid",
        "tag",
        "labels",
        "queues",
        "started_at",
        "concurrency",
        "busy",
        "stopping",
    ):
        assert getattr(ours, name) == said[name], name
    assert (ours.version, ours.embedded) == (said.get("version") or "", bool(said.get("embedded")))
    # 6.4 has none, 7.3 one object for each capsule, 8.1 all in one.
    weights = said.get("weights") or {}
    parts = weights if isinstance(weights, list) else [weights]
    assert ours.weights == {queue: weight for part in parts for queue, weight in part.items()}
    assert ours.capsules == (said.get("capsules") or {})
    assert ours.rss > 1000
    assert time.time() - 15 < ours.beat < time.time() + 1


@any_version
def test_a_process_of_pyqik_says_the_same(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    pyqik_worker(options=("-c", "3", "--label", "x"))
    jid = sidekiq.push_job("Py::Slow", 1)
    (work,) = wait_until(lambda: list(WorkSet(redis=sidekiq.redis)), BEAT)

    (process,), (said,) = ProcessSet(redis=sidekiq.redis), sidekiq.read("processes")

    assert_same_process(process, said)
    assert (work.job.jid, work.process_id) == (jid, process.identity)
    sidekiq.redis.lpush(f"release:{jid}", "go")


def test_ruby_sees_a_retry_and_runs_it(sidekiq: RealSidekiq) -> None:
    jid = failed_once(sidekiq)

    answer = the_entry(sidekiq, "retry", jid).retry()

    (job,) = sidekiq.read("queue", "ruby")
    assert answer
    assert (job["jid"], job["retry_count"], sidekiq.read("retry")) == (jid, -1, [])
    assert job["latency"] == pytest.approx(0, abs=5)
    sidekiq.start_worker(queue="ruby")
    (entry,) = wait_until(lambda: sidekiq.read("retry"))
    assert (entry["jid"], entry["retry_count"]) == (jid, 0)


def test_ruby_sees_a_kill(sidekiq: RealSidekiq) -> None:
    jid = failed_once(sidekiq)
    (before,) = sidekiq.read("retry")

    answer = the_entry(sidekiq, "retry", jid).kill()

    (entry,) = sidekiq.read("dead")
    assert answer
    assert (entry["value"], sidekiq.read("retry")) == (before["value"], [])
    assert entry["at"] == pytest.approx(time.time(), abs=10)


@pytest.mark.parametrize("act", ["delete", "reschedule", "add_to_queue"])
def test_ruby_sees_what_is_done_to_the_schedule(sidekiq: RealSidekiq, act: str) -> None:
    jids = [
        sidekiq.push("perform_in", **{"class": "RubyRecordJob", "seconds": seconds, "args": ["ü / \u2028"]})
        for seconds in (600, 700)
    ]
    later = time.time() + 9000

    answer = getattr(the_entry(sidekiq, "schedule", jids[0]), act)(*[later] * (act == "reschedule"))

    scheduled = {entry["jid"]: entry["score"] for entry in sidekiq.read("schedule")}
    queued = [job["jid"] for job in sidekiq.read("queue", "default")]
    assert answer
    assert queued == ([jids[0]] if act == "add_to_queue" else [])
    assert list(scheduled) == ([jids[0], jids[1]] if act == "reschedule" else [jids[1]])
    assert act != "reschedule" or scheduled[jids[0]] == about(later)


def test_ruby_runs_what_python_has_brought_back_from_the_dead(sidekiq: RealSidekiq) -> None:
    jid = sidekiq.push("perform_async", **{"class": "RubyRecordJob", "args": ["ü"], "set": {"queue": "ruby"}})
    raw = sidekiq.redis.rpop("queue:ruby")
    sidekiq.redis.zadd("dead", {raw: time.time()})

    count = DeadSet(redis=sidekiq.redis).retry_all()

    sidekiq.start_worker(queue="ruby")
    assert count == 1
    assert wait_for_runs(sidekiq.redis, "RubyRecordJob") == [{"jid": jid, "args": ["ü"]}]


def test_ruby_sees_a_deleted_job_and_a_cleared_queue(sidekiq: RealSidekiq) -> None:
    jids = [sidekiq.push(item={"class": "Plain", "args": [], "queue": "low"}) for _ in range(3)]
    sidekiq.push(item={"class": "Plain", "args": [], "queue": "high"})
    job = Queue("low", redis=sidekiq.redis).find_job(jids[1])
    assert job is not None

    answer = job.delete()
    Queue("high", redis=sidekiq.redis).clear()

    assert answer
    assert [job["jid"] for job in sidekiq.read("queue", "low")] == [jids[2], jids[0]]
    assert list(sidekiq.read("queues")) == ["low"]


def test_a_ruby_process_stops_when_python_tells_it(sidekiq: RealSidekiq) -> None:
    worker = sidekiq.start_worker(queue="ruby")
    (process,) = ProcessSet(redis=sidekiq.redis)

    process.stop()

    assert worker.wait(BEAT + 10) == 0


@any_version
def test_a_ruby_process_is_quiet_when_python_tells_it(sidekiq: RealSidekiq) -> None:
    sidekiq.start_worker(queue="ruby")
    (process,) = ProcessSet(redis=sidekiq.redis)
    assert not process.stopping

    process.quiet()

    wait_until(lambda: [said["stopping"] for said in sidekiq.read("processes")] == [True], 2 * BEAT)
    assert [process.stopping for process in ProcessSet(redis=sidekiq.redis)] == [True]
