"""A job that crashes its process, and what crashed with it, as Sidekiq's Web UI and API see them."""

from __future__ import annotations

import json

from compat.conftest import StartPyqik, web_versions
from compat.evidence import wait_for_runs
from compat.real_sidekiq import RealSidekiq
from tests.support.wait import wait_until

pytestmark = web_versions

REASON = "this job crashed its process 3 times; the last time: SIGSEGV"


def test_a_poison_pill_is_shown_with_its_reason_and_can_be_retried_from_the_web_ui(
    sidekiq: RealSidekiq, pyqik_worker: StartPyqik
) -> None:
    pyqik_worker()
    jid = sidekiq.push_job("Py::Crashing", "medicine", retry=2)

    wait_until(lambda: sidekiq.redis.zcard("dead"), 60)

    [entry] = sidekiq.read("dead")
    assert (entry["jid"], entry["error_class"], entry["error_message"]) == (jid, "pyqik.PoisonPill", REASON)
    [(raw, score)] = sidekiq.redis.zrange("dead", 0, -1, withscores=True)
    key = f"{score!r}-{jid}"
    for path in ("/morgue", f"/morgue/{key}"):
        page = sidekiq.web().get(path)
        assert page.status == 200
        assert REASON in page.html
    sidekiq.redis.set("medicine", "here")
    sidekiq.web().press("/morgue", key=key, retry="Retry now")
    assert wait_for_runs(sidekiq.redis, "Py::Crashing") == [{"jid": jid, "args": ["medicine"]}]
    assert sidekiq.read("dead") == []
    assert json.loads(raw)["retry"] == 2


def test_the_child_that_runs_suspects_is_a_process_of_its_own_with_a_label(
    sidekiq: RealSidekiq, pyqik_worker: StartPyqik
) -> None:
    pyqik_worker()
    jid = sidekiq.push_job("Py::Slow")
    wait_for_runs(sidekiq.redis, "Py::Slow")

    sidekiq.push_job("Py::Crashing", "medicine")
    wait_for_runs(sidekiq.redis, "Py::Slow", 2)

    wait_until(lambda: [work for work in sidekiq.read("work") if jid in json.dumps(work)], 30)
    processes = sidekiq.read("processes")
    assert [process["labels"] for process in processes if process["labels"]] == [["solo"]]
    assert "solo" in sidekiq.web().get("/busy").html
    sidekiq.redis.lpush(f"release:{jid}", "1")
    wait_until(lambda: sidekiq.redis.zcard("dead"), 60)
