"""Pages of Sidekiq's Web UI over what pyqik wrote: each answers 200 and shows the Python process or job."""

from __future__ import annotations

import re
import time

import pyqik
from compat.conftest import StartPyqik, web_versions
from compat.evidence import wait_for_runs
from compat.real_sidekiq import RealSidekiq
from tests.support.wait import wait_until

#: Text that a careless page would show as markup, or not at all.
MARKUP = "<script>alert(1)</script> ü 𝄞"
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt; ü 𝄞"

pytestmark = web_versions


def fail_once(sidekiq: RealSidekiq, **options: object) -> str:
    """A Python job that failed with MARKUP; where it is now depends on `options`."""
    jid = sidekiq.push_job("Py::Failing", MARKUP, backtrace=True, **options)
    wait_for_runs(sidekiq.redis, "Py::Failing")
    return jid


def page(sidekiq: RealSidekiq, path: str) -> str:
    """The page's HTML. Raises: AssertionError with Ruby's error unless the status is 200."""
    answer = sidekiq.web().get(path)
    assert answer.status == 200, f"{path}: {answer.status}\n{sidekiq.web().log()[-3000:]}"
    return answer.html


def link_of(html: str, page_name: str) -> str:
    """The address of the only entry on a list page."""
    match = re.search(rf"""href=["'](/{page_name}/[^"']+-[0-9a-f]{{24}})["']""", html)
    assert match, html
    return match[1]


def test_the_dashboard_counts_what_python_did(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    worker = pyqik_worker()
    sidekiq.push_job("Py::Record")
    wait_for_runs(sidekiq.redis, "Py::Record")
    worker.stop()

    html, stats = page(sidekiq, "/"), page(sidekiq, "/stats")

    assert "Dashboard" in html
    assert '"processed":1' in stats.replace(" ", "")


def test_the_busy_page_shows_the_python_process_and_its_job(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    worker = pyqik_worker(options=("-g", "shop"))
    jid = sidekiq.push_job("Py::Slow", MARKUP)
    wait_until(lambda: sidekiq.read("work"), 15)

    html = page(sidekiq, "/busy")

    sidekiq.redis.rpush(f"release:{jid}", "go")
    host_and_pid = ":".join(worker.identity.split(":")[:2])
    assert host_and_pid in html
    assert all(text in html for text in ("shop", "python", "Py::Slow", jid, ESCAPED))


def test_the_queue_pages_show_what_python_pushed(sidekiq: RealSidekiq) -> None:
    with pyqik.Client(sidekiq.redis_url) as client:
        client.push("RubyRecordJob", MARKUP, queue="ruby", tags=["blue"])

    queues, queue = page(sidekiq, "/queues"), page(sidekiq, "/queues/ruby")

    assert "/queues/ruby" in queues
    assert all(text in queue for text in ("RubyRecordJob", "blue", ESCAPED))


def test_the_scheduled_pages_show_what_python_pushed(sidekiq: RealSidekiq) -> None:
    with pyqik.Client(sidekiq.redis_url) as client:
        client.push("RubyRecordJob", MARKUP, queue="ruby", at=time.time() + 3600)

    entries = page(sidekiq, "/scheduled")
    entry = page(sidekiq, link_of(entries, "scheduled"))

    assert all("RubyRecordJob" in html and ESCAPED in html for html in (entries, entry))


def test_the_retry_pages_show_why_a_python_job_failed(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    pyqik_worker()
    fail_once(sidekiq)
    wait_until(lambda: sidekiq.redis.zcard("retry"))

    entries = page(sidekiq, "/retries")
    entry = page(sidekiq, link_of(entries, "retries"))

    assert all(text in entries for text in ("Py::Failing", "ValueError", ESCAPED))
    assert all(text in entry for text in ("Py::Failing", "ValueError", ESCAPED, "compat/jobs.py"))


def test_the_retry_pages_show_a_job_that_failed_twice(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    pyqik_worker()
    jid = fail_once(sidekiq, retry=5)
    wait_until(lambda: sidekiq.redis.zcard("retry"))
    sidekiq.act("entry", set="retry", jid=jid, action="reschedule", at=time.time())
    wait_for_runs(sidekiq.redis, "Py::Failing", 2)
    wait_until(lambda: sidekiq.redis.zcard("retry"))

    entry = page(sidekiq, link_of(page(sidekiq, "/retries"), "retries"))

    assert "Last Retry" in entry


def test_the_dead_pages_show_why_a_python_job_died(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    pyqik_worker()
    fail_once(sidekiq, retry=0)
    wait_until(lambda: sidekiq.redis.zcard("dead"))

    entries = page(sidekiq, "/morgue")
    entry = page(sidekiq, link_of(entries, "morgue"))

    assert all(text in entries for text in ("Py::Failing", "ValueError", ESCAPED))
    assert all(text in entry for text in ("Py::Failing", "ValueError", ESCAPED, "compat/jobs.py"))


def test_every_page_survives_what_is_no_job(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    not_jobs = ("{not json", "", "[1]", "null", "5", '"x"', "{}", "[" * 200 + "]" * 200, '{"class":"X","args":[NaN]}')
    pyqik_worker()
    sidekiq.redis.lpush("queue:python", *not_jobs)
    wait_until(lambda: sidekiq.redis.zcard("dead") == len(not_jobs))

    for path in ("/", "/busy", "/queues", "/retries", "/scheduled", "/morgue", "/stats"):
        page(sidekiq, path)


def test_the_metrics_pages_show_python_classes(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    worker = pyqik_worker()
    sidekiq.push_job("Py::Record")
    wait_for_runs(sidekiq.redis, "Py::Record")
    worker.stop()

    metrics, of_class = page(sidekiq, "/metrics"), page(sidekiq, "/metrics/Py::Record")

    assert "Py::Record" in metrics
    assert "Py::Record" in of_class


def test_the_metrics_pages_mark_the_deploy_of_a_release(sidekiq: RealSidekiq, pyqik_worker: StartPyqik) -> None:
    worker = pyqik_worker(options=("--release", "sha-4711"))
    sidekiq.push_job("Py::Record")
    wait_for_runs(sidekiq.redis, "Py::Record")
    worker.stop()

    html = page(sidekiq, "/metrics")

    assert "sha-4711" in html
