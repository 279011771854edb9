"""The names of the keys: Sidekiq's must not change, and ours must look like nobody else's."""

from __future__ import annotations

import pytest

from pyqik.wire import keys

IDENTITY = "host:1:abc"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (keys.QUEUES, "queues"),
        (keys.SCHEDULE, "schedule"),
        (keys.RETRY, "retry"),
        (keys.DEAD, "dead"),
        (keys.PAUSED, "paused"),
        (keys.PROCESSES, "processes"),
        (keys.PROCESS_CLEANUP, "process_cleanup"),
        (keys.LEADER, "dear-leader"),
        (keys.STAT_PROCESSED, "stat:processed"),
        (keys.STAT_FAILED, "stat:failed"),
        (keys.queue("low"), "queue:low"),
        (keys.work(IDENTITY), "host:1:abc:work"),
        (keys.workers(IDENTITY), "host:1:abc:workers"),
        (keys.signals(IDENTITY), "host:1:abc-signals"),
        (keys.stat_processed("2026-11-22"), "stat:processed:2026-11-22"),
        (keys.stat_failed("2026-11-22"), "stat:failed:2026-11-22"),
        (keys.deploy_marks("20261122"), "20261122-marks"),
        (keys.deploy_lock("v1"), "deploylock-v1"),
    ],
)
def test_sidekiqs_keys_are_spelled_as_sidekiq_spells_them(key: str, expected: str) -> None:
    assert key == expected


@pytest.mark.parametrize(
    "key",
    [
        *(keys.LEASES, keys.FILES, keys.SWEEP),
        *(keys.in_flight(IDENTITY), keys.landing(IDENTITY, "default", "sq|x"), keys.push_fence("p")),
    ],
)
def test_our_own_keys_are_all_under_our_prefix(key: str) -> None:
    assert key.startswith("pyqik:")
