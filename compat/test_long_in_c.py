"""A Python job that holds the GIL in C for longer than its process's lease, as Sidekiq's API and Web UI see it."""

from __future__ import annotations

import time

import pytest

from compat.conftest import StartPyqik, web_versions
from compat.evidence import runs_of, wait_for_runs
from compat.real_sidekiq import RealSidekiq
from tests.support.wait import wait_until

#: Seconds. The job lasts for three leases.
LEASE = 4


@web_versions
def test_a_job_that_holds_the_gil_past_the_lease_is_still_shown_and_runs_once(
    sidekiq: RealSidekiq, pyqik_worker: StartPyqik, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYQIK_LEASE", str(LEASE))
    other = pyqik_worker(queue="elsewhere")
    worker = pyqik_worker()
    jid = sidekiq.push_job("Py::HoldTheGil", 3 * LEASE)
    wait_for_runs(sidekiq.redis, "Py::HoldTheGil")
    started = time.time()

    # The process's first beat after more than two leases.
    def beat_late() -> bool:
        return float(sidekiq.redis.hget(worker.identity, "beat") or 0) > started + 2 * LEASE

    wait_until(beat_late, 3 * LEASE)
    work, processes, html = sidekiq.read("work"), sidekiq.read("processes"), sidekiq.web().get("/busy").html

    assert [(entry["identity"], entry["payload"]["jid"]) for entry in work] == [(worker.identity, jid)]
    assert {process["identity"]: process["busy"] for process in processes} == {worker.identity: 1, other.identity: 0}
    assert jid in html
    assert "Py::HoldTheGil" in html
    wait_until(lambda: not sidekiq.read("work"), 6 * LEASE)
    assert len(runs_of(sidekiq.redis, "Py::HoldTheGil")) == 1
