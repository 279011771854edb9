"""What stands in Redis, read and changed from Python in Sidekiq's words."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
import redis as redis_py

import pyqik
import pyqik.api
from pyqik.api import DeadSet, History, ProcessSet, Queue, RetrySet, ScheduledSet, Stats, WorkSet
from pyqik.wire.presence import CapsuleInfo, ProcessInfo, beat

#: A job that failed in Ruby, as Sidekiq 8 writes it down.
FAILED = (
    '{"class":"Billing::CloseMonthJob","args":["2027-01"],"jid":"3fd5721286d295ee0275920f","queue":"critical",'
    '"retry":true,"created_at":1795320060020,"error_class":"Timeout::Error","error_message":"no answer",'
    '"failed_at":1795320061000,"retry_count":0}'
)


@pytest.fixture(autouse=True)
def configured(redis_url: str) -> None:
    """Where the process pushes, and reads."""
    pyqik.configure(pyqik.Config(redis=redis_url))


def test_queues_and_their_jobs(redis_url: str) -> None:
    with pyqik.Client(redis_url) as client:
        client.push_bulk("Mailer::DigestJob", [[user_id] for user_id in range(250)], queue="mailers")
        jid = client.push("Mailer::WelcomeJob", 42, queue="mailers")

    assert [queue.name for queue in Queue.all()] == ["mailers"]
    mailers = Queue("mailers")
    assert mailers.size == 251
    assert 0 <= mailers.latency < 60
    # The newest job first, as in Ruby; the queue may move meanwhile.
    for entry in mailers:
        if entry.klass == "Mailer::DigestJob" and entry.args[0] >= 100:
            entry.delete()
    assert mailers.size == 101
    assert jid is not None
    welcome = mailers.find_job(jid)
    assert welcome is not None
    assert (welcome.args, welcome.queue) == ([42], "mailers")
    mailers.clear()
    assert Queue.all() == []


def test_what_failed_is_tried_again_at_once(redis: redis_py.Redis) -> None:
    redis.zadd("retry", {FAILED: time.time() + 600})

    for entry in RetrySet().scan("Billing::"):
        if entry.error_class == "Timeout::Error":
            entry.retry()

    (job,) = Queue("critical")
    assert (job.jid, job.retry_count) == ("3fd5721286d295ee0275920f", -1)
    assert RetrySet().size == 0


def test_what_waits_is_put_off_or_buried(redis: redis_py.Redis) -> None:
    redis.zadd("schedule", {FAILED: time.time() + 600, FAILED.replace("3fd5", "0000"): time.time() + 60})
    last, first = ScheduledSet()  # The latest first, as in Ruby.
    tomorrow = datetime.now(UTC) + timedelta(days=1)

    last.reschedule(tomorrow)
    first.kill()

    assert [datetime.fromtimestamp(entry.at, UTC).date() for entry in ScheduledSet()] == [tomorrow.date()]
    assert [entry.jid for entry in DeadSet()] == [first.jid]


def test_what_is_no_job_says_so_and_can_be_deleted(redis: redis_py.Redis) -> None:
    redis.zadd("dead", {"{not json": time.time(), FAILED: time.time()})

    for entry in DeadSet():
        if entry.invalid:
            assert entry.raw == b"{not json"
            entry.delete()

    assert [entry.klass for entry in DeadSet()] == ["Billing::CloseMonthJob"]


def test_processes_and_what_they_run(redis: redis_py.Redis) -> None:
    capsule = CapsuleInfo("default", 10, "strict", {"python": 0})
    old = ProcessInfo("old:1:abc", "old", 1, time.time(), 10, [capsule], "shop", [], "pyqik 0.1")
    beat(redis, old, [], now=time.time(), quiet=False, rss_kb=50_000, lease=30)

    for process in ProcessSet():
        if process.hostname == "old":
            process.quiet()

    assert ProcessSet().total_concurrency == 10
    assert list(WorkSet()) == []
    assert redis.lrange("old:1:abc-signals", 0, -1) == [b"TSTP"]


def test_statistics(redis: redis_py.Redis, redis_url: str) -> None:
    redis.set("stat:processed", 400)
    redis.set("stat:processed:2026-11-22", 17)

    stats = Stats(redis=redis_url)
    week = History(7, datetime(2026, 11, 22, tzinfo=UTC).date(), redis=redis)

    assert (stats.processed, stats.failed, stats.enqueued, stats.queues) == (400, 0, 0, {})
    assert sum(week.processed.values()) == 17


def test_the_module_is_reached_by_its_full_name() -> None:
    assert list(pyqik.api.RetrySet().scan("Billing::")) == []
