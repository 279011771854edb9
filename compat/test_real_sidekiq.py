"""The instrument before the measurement: real Sidekiq, alone, does here what the other tests take for granted.

A failure here says that the trees, the console or the Web UI are broken, not pyqik.
"""

from __future__ import annotations

import json

import pytest

from compat.conftest import any_version, web_versions
from compat.console import RubyError
from compat.real_sidekiq import RealSidekiq
from tests.support.wait import wait_until

#: A member of the dead or retry set that is no job, and the status of the page with 7.3 and with 8.1.
ODD_ENTRIES = [
    pytest.param("dead", "{not json", {"7.3": 200, "8.1": 200}, id="no JSON, dead"),
    pytest.param("retry", "{not json", {"7.3": 200, "8.1": 500}, id="no JSON, retry"),
    pytest.param("dead", "[1]", {"7.3": 500, "8.1": 500}, id="an array, dead"),
    pytest.param("dead", "null", {"7.3": 500, "8.1": 500}, id="null, dead"),
    pytest.param("dead", "5", {"7.3": 500, "8.1": 500}, id="a number, dead"),
    pytest.param("retry", "{}", {"7.3": 200, "8.1": 500}, id="an empty object, retry"),
    pytest.param("dead", '{"class":"X","args":"x"}', {"7.3": 200, "8.1": 200}, id="args that are no array, dead"),
]
PAGE_OF = {"dead": "/morgue", "retry": "/retries"}

WEB_UI_PATHS = ("/", "/busy", "/queues", "/queues/ruby", "/retries", "/scheduled", "/morgue", "/stats")


def test_the_console_speaks_for_the_version_of_its_tree(sidekiq: RealSidekiq) -> None:
    assert sidekiq.console.sidekiq_version.startswith(sidekiq.version)


def test_the_console_reports_what_sidekiq_raises_and_goes_on(sidekiq: RealSidekiq) -> None:
    with pytest.raises(RubyError, match="Job must"):
        sidekiq.push(item={"class": "X"})

    assert sidekiq.read("stats")["enqueued"] == 0


def test_ruby_runs_what_ruby_pushes(sidekiq: RealSidekiq) -> None:
    jid = sidekiq.push("perform_async", **{"class": "RubyRecordJob", "args": [1, "ü"], "set": {"queue": "ruby"}})

    worker = sidekiq.start_worker(queue="ruby")

    ran = wait_until(lambda: sidekiq.redis.lrange("ran:RubyRecordJob", 0, -1))
    assert [json.loads(run) for run in ran] == [{"jid": jid, "args": [1, "ü"]}]
    worker.terminate()
    assert worker.wait(10) == 0


def test_a_failing_ruby_job_is_read_back_and_retried_by_the_api(sidekiq: RealSidekiq) -> None:
    worker = sidekiq.start_worker(queue="ruby")
    jid = sidekiq.push("perform_async", **{"class": "RubyFailingJob", "args": ["no"], "set": {"queue": "ruby"}})
    [entry] = wait_until(lambda: sidekiq.read("retry"))
    worker.kill()

    sidekiq.act("entry", set="retry", jid=jid, action="retry")

    assert (entry["error_class"], entry["error_message"], entry["retry_count"]) == ("ArgumentError", "no", 0)
    assert [job["jid"] for job in sidekiq.read("queue", "ruby")] == [jid]
    assert sidekiq.read("retry") == []


@any_version
def test_a_running_ruby_job_is_seen_by_the_api(sidekiq: RealSidekiq) -> None:
    worker = sidekiq.start_worker(queue="ruby")
    jid = sidekiq.push("perform_async", **{"class": "RubySlowJob", "args": [], "set": {"queue": "ruby"}})

    [work] = wait_until(lambda: sidekiq.read("work"), timeout=15)

    assert (work["queue"], work["payload"]["jid"]) == ("ruby", jid)
    assert work["identity"] == sidekiq.identity(worker)


@pytest.mark.parametrize("path", WEB_UI_PATHS)
def test_the_web_ui_shows_its_pages(sidekiq: RealSidekiq, path: str) -> None:
    sidekiq.push_job("RubyRecordJob", queue="ruby")

    page = sidekiq.web().get(path)

    assert page.status == 200, sidekiq.web().log()[-2000:]


def test_a_button_of_the_web_ui_takes_effect(sidekiq: RealSidekiq) -> None:
    sidekiq.push_job("RubyRecordJob", queue="ruby")

    answer = sidekiq.web().press("/queues/ruby", delete="1")

    assert answer.status == 302
    assert sidekiq.read("queues") == {}


@web_versions
def test_an_interrupted_ruby_iteration_goes_on_at_its_next_item(sidekiq: RealSidekiq) -> None:
    first = sidekiq.start_worker(queue="ruby")
    jid = sidekiq.push("perform_async", **{"class": "RubyIterableJob", "args": [30, 0.05]})
    wait_until(lambda: sidekiq.redis.llen(f"items:{jid}") > 3)
    first.terminate()
    assert first.wait(10) == 0

    sidekiq.start_worker(queue="ruby")

    wait_until(lambda: sidekiq.redis.llen(f"items:{jid}") == 30 and not sidekiq.redis.exists(f"it-{jid}"), 20)
    assert sidekiq.redis.lrange(f"items:{jid}", 0, -1) == [b"%d" % item for item in range(30)]


@web_versions
@pytest.mark.parametrize(("key", "member", "status"), ODD_ENTRIES)
def test_an_entry_that_is_no_job_may_hide_its_whole_page(
    sidekiq: RealSidekiq, key: str, member: str, status: dict[str, int]
) -> None:
    """Why pyqik wraps what is no object before it goes to the dead set, and lets nothing else into the retry set."""
    sidekiq.redis.zadd(key, {member: 1.8e9})

    page = sidekiq.web().get(PAGE_OF[key])

    assert page.status == status[sidekiq.version]
