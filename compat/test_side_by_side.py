"""Ruby and Python processes on queues of their own, one schedule and one retry set between them: no job is lost."""

from __future__ import annotations

import time
from collections import Counter

import pyqik
from compat.conftest import StartPyqik
from compat.real_sidekiq import RealSidekiq
from tests.support.wait import wait_until

#: Jobs of each language that are pushed in each way.
BATCH = 500
#: One in so many jobs fails the first time.
FAILS = 25
#: Seconds until all is done: a retry in Ruby waits up to 11, a poller 5 before its first look.
PATIENCE = 60.0


def fails_first(number: int) -> list[bool]:
    """The arguments of job `number`."""
    return [number % FAILS == 0]


def push_from_ruby(sidekiq: RealSidekiq, job_class: str, queue: str) -> list[str]:
    """A batch for now and a batch for the next three seconds, through Sidekiq's client."""
    item = {"class": job_class, "queue": queue, "retry": 5, "args": [fails_first(number) for number in range(BATCH)]}
    later = [time.time() + 3 * number / BATCH for number in range(BATCH)]
    now, scheduled = sidekiq.push_all(
        [{"how": "push_bulk", "item": item}, {"how": "push_bulk", "item": {**item, "at": later}}]
    )
    return [*now, *scheduled]


def push_from_python(client: pyqik.Client, job_class: str, queue: str) -> list[str | None]:
    """The same through pyqik's client."""
    args = [fails_first(number) for number in range(BATCH)]
    later = [time.time() + 3 * number / BATCH for number in range(BATCH)]
    return [
        *client.push_bulk(job_class, args, queue=queue, retry=5),
        *client.push_bulk(job_class, args, queue=queue, retry=5, at=later),
    ]


def test_no_job_is_lost_or_run_twice_while_both_share_the_sets(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    ruby = sidekiq.start_worker(queue="ruby")
    leaving = pyqik_worker(queue="python")

    with pyqik.Client(sidekiq.redis_url) as client:
        jids = [
            *push_from_ruby(sidekiq, "Py::Count", "python"),
            *push_from_python(client, "Py::Count", "python"),
            *push_from_ruby(sidekiq, "RubyCountJob", "ruby"),
            *push_from_python(client, "RubyCountJob", "ruby"),
        ]
    # A deploy in the middle of it.
    pyqik_worker(queue="python")
    leaving.stop()

    failing = len(jids) // FAILS
    wait_until(lambda: _settled(sidekiq, len(jids), failing), PATIENCE, "every job has run, every queue is empty")
    runs = {jid: sidekiq.redis.hget("counted", str(jid)) for jid in jids}
    assert Counter(runs.values()) == {b"1": len(jids) - failing, b"2": failing}
    assert sidekiq.redis.zcard("dead") == 0
    ruby.terminate()
    assert ruby.wait(15) == 0


def _settled(sidekiq: RealSidekiq, jobs: int, failing: int) -> bool:
    """Whether each job has run, and those that fail the first time a second time."""
    redis = sidekiq.redis
    waiting = redis.llen("queue:ruby") + redis.llen("queue:python") + redis.zcard("retry") + redis.zcard("schedule")
    return waiting == 0 and sum(map(int, redis.hvals("counted"))) >= jobs + failing
