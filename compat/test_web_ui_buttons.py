"""Buttons of Sidekiq's Web UI, clicked in a real browser, and what they do to Python's jobs and processes."""

from __future__ import annotations

import time

import pyqik
from compat.browser.driver import Browser
from compat.conftest import StartPyqik, web_versions
from compat.evidence import runs_of, wait_for_runs
from compat.real_sidekiq import RealSidekiq
from tests.support.wait import wait_until

pytestmark = web_versions

#: The box in front of an entry, and that entry's buttons below the list, on the retries, scheduled and dead pages.
FIRST_ENTRY = "input[name='key[]']"
RETRY_NOW = "input[name=retry]:not([data-confirm])"
DELETE = "input[name=delete]:not([data-confirm])"
KILL = "input[name=kill]:not([data-confirm])"
#: A button of the same form in 8.1, a form of its own in 7.3.
RETRY_ALL = "[formaction$='/retries/all/retry'], form[action$='/retries/all/retry'] [type=submit]"
ADD_TO_QUEUE = "input[name=add_to_queue]"


def press(sidekiq: RealSidekiq, chromium: Browser, path: str, button: str, entry: str | None = None) -> None:
    """Open a page, tick `entry` if there is one to tick, and click."""
    chromium.open(sidekiq.web().url + path)
    if entry is not None:
        chromium.tick(entry)
    chromium.press(button)


def schedule(sidekiq: RealSidekiq) -> str:
    """A Python job that is due in an hour."""
    with pyqik.Client(sidekiq.redis_url) as client:
        return str(client.push("Py::Record", 1, queue="python", at=time.time() + 3600))


def fail(sidekiq: RealSidekiq, into: str, **options: object) -> str:
    """A Python job that failed for want of a key called "medicine"; waits until it is in the set `into`."""
    jid = sidekiq.push_job("Py::Healing", "medicine", **options)
    wait_until(lambda: sidekiq.redis.zcard(into))
    return jid


def test_quiet_stops_the_taking_of_jobs(sidekiq: RealSidekiq, pyqik_worker: StartPyqik, chromium: Browser) -> None:
    worker = pyqik_worker()

    press(sidekiq, chromium, "/busy", f"form:has(input[value='{worker.identity}']) button[name=quiet]")

    wait_until(lambda: sidekiq.read("processes")[0]["stopping"], 20)
    # Enough, and long enough, for a process that still takes jobs to take one.
    sidekiq.push("push_bulk", item={"class": "Py::Record", "queue": "python", "args": [[]] * 500})
    assert len(sidekiq.read("queue", "python")) == 500
    worker.stop()
    assert runs_of(sidekiq.redis, "Py::Record") == []


def test_stop_ends_the_python_process(sidekiq: RealSidekiq, pyqik_worker: StartPyqik, chromium: Browser) -> None:
    worker = pyqik_worker()

    press(sidekiq, chromium, "/busy", f"form:has(input[value='{worker.identity}']) button[name=stop]")

    assert worker.program.wait(25) == 0
    assert sidekiq.read("processes") == []


def test_retry_now_runs_the_job_again(sidekiq: RealSidekiq, pyqik_worker: StartPyqik, chromium: Browser) -> None:
    pyqik_worker()
    jid = fail(sidekiq, "retry")
    sidekiq.redis.set("medicine", "here")

    press(sidekiq, chromium, "/retries", RETRY_NOW, FIRST_ENTRY)

    assert [run["jid"] for run in wait_for_runs(sidekiq.redis, "Py::Healing")] == [jid]
    assert sidekiq.redis.zcard("retry") == 0


def test_delete_removes_a_retry(sidekiq: RealSidekiq, pyqik_worker: StartPyqik, chromium: Browser) -> None:
    pyqik_worker()
    fail(sidekiq, "retry")

    press(sidekiq, chromium, "/retries", DELETE, FIRST_ENTRY)

    assert (sidekiq.redis.zcard("retry"), sidekiq.redis.zcard("dead")) == (0, 0)


def test_kill_moves_a_retry_to_the_dead_set(sidekiq: RealSidekiq, pyqik_worker: StartPyqik, chromium: Browser) -> None:
    pyqik_worker()
    jid = fail(sidekiq, "retry")

    press(sidekiq, chromium, "/retries", KILL, FIRST_ENTRY)

    assert sidekiq.redis.zcard("retry") == 0
    assert [entry["jid"] for entry in sidekiq.read("dead")] == [jid]


def test_retry_all_runs_every_job_again(sidekiq: RealSidekiq, pyqik_worker: StartPyqik, chromium: Browser) -> None:
    pyqik_worker()
    jids = {fail(sidekiq, "retry") for _ in range(3)}
    wait_until(lambda: sidekiq.redis.zcard("retry") == len(jids))
    sidekiq.redis.set("medicine", "here")

    press(sidekiq, chromium, "/retries", RETRY_ALL)

    assert {run["jid"] for run in wait_for_runs(sidekiq.redis, "Py::Healing", 3)} == jids


def test_retry_now_runs_a_dead_job_again(sidekiq: RealSidekiq, pyqik_worker: StartPyqik, chromium: Browser) -> None:
    pyqik_worker()
    jid = fail(sidekiq, "dead", retry=0)
    sidekiq.redis.set("medicine", "here")

    press(sidekiq, chromium, "/morgue", RETRY_NOW, FIRST_ENTRY)

    assert [run["jid"] for run in wait_for_runs(sidekiq.redis, "Py::Healing")] == [jid]
    assert sidekiq.redis.zcard("dead") == 0


def test_delete_removes_a_dead_job(sidekiq: RealSidekiq, pyqik_worker: StartPyqik, chromium: Browser) -> None:
    pyqik_worker()
    fail(sidekiq, "dead", retry=0)

    press(sidekiq, chromium, "/morgue", DELETE, FIRST_ENTRY)

    assert sidekiq.redis.zcard("dead") == 0


def test_add_to_queue_runs_a_scheduled_job_now(
    sidekiq: RealSidekiq, pyqik_worker: StartPyqik, chromium: Browser
) -> None:
    pyqik_worker()
    jid = schedule(sidekiq)

    press(sidekiq, chromium, "/scheduled", ADD_TO_QUEUE, FIRST_ENTRY)

    assert wait_for_runs(sidekiq.redis, "Py::Record") == [{"jid": jid, "args": [1]}]


def test_delete_removes_a_scheduled_job(sidekiq: RealSidekiq, chromium: Browser) -> None:
    schedule(sidekiq)

    press(sidekiq, chromium, "/scheduled", DELETE, FIRST_ENTRY)

    assert sidekiq.redis.zcard("schedule") == 0


def test_delete_removes_one_job_of_a_queue(sidekiq: RealSidekiq, chromium: Browser) -> None:
    with pyqik.Client(sidekiq.redis_url) as client:
        stays, _ = client.push_bulk("Py::Record", [[2**70, "ü </>"], [1]], queue="python")

    # The newest job stands first.
    press(sidekiq, chromium, "/queues/python", "input[name=delete]")

    assert [job["jid"] for job in sidekiq.read("queue", "python")] == [stays]


def test_delete_removes_a_queue(sidekiq: RealSidekiq, chromium: Browser) -> None:
    with pyqik.Client(sidekiq.redis_url) as client:
        client.push_bulk("Py::Record", [[number] for number in range(5)], queue="python")

    press(sidekiq, chromium, "/queues", "form[action$='/queues/python'] input[name=delete]")

    assert sidekiq.redis.keys("queue*") == []
