"""Intervals and points in time as Sidekiq reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from pyqik.core.errors import InvalidJob
from pyqik.jobs import schedule
from pyqik.jobs.schedule import When, due, point_in_time

NOW = 1_800_000_000.0


@pytest.fixture(autouse=True)
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock stands at NOW."""

    class Clock:
        @staticmethod
        def time() -> float:
            return NOW

    monkeypatch.setattr(schedule, "time", Clock)


@pytest.mark.parametrize(
    ("when", "at"),
    [
        pytest.param(60, NOW + 60, id="seconds from now"),
        pytest.param(0.5, NOW + 0.5, id="half a second"),
        pytest.param(999_999_999, NOW + 999_999_999, id="the longest interval"),
        pytest.param(1_900_000_000, 1_900_000_000.0, id="epoch seconds"),
        pytest.param(timedelta(days=1), NOW + 86_400, id="timedelta"),
        pytest.param(datetime(2100, 1, 1, tzinfo=UTC), 4_102_444_800.0, id="datetime"),
        pytest.param(datetime(2100, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), 4_102_444_800.0, id="other zone"),
        pytest.param(0, None, id="now"),
        pytest.param(-5, None, id="ago"),
        pytest.param(1_000_000_000, None, id="past epoch seconds"),
        pytest.param(timedelta(seconds=-1), None, id="negative timedelta"),
        pytest.param(datetime(1990, 1, 1, tzinfo=UTC), None, id="past datetime below a billion"),
    ],
)
def test_what_a_time_means(when: When, at: float | None) -> None:
    assert due(when) == at


@pytest.mark.parametrize("when", [float("nan"), float("inf"), True, "60", None], ids=repr)
def test_what_is_no_time_is_refused(when: Any) -> None:
    with pytest.raises(InvalidJob, match="the time is"):
        due(when)


def test_a_naive_datetime_is_refused_with_the_way_out() -> None:
    with pytest.raises(InvalidJob, match=r"2027-01-01T00:00:00 has no time zone; write .*astimezone"):
        point_in_time(datetime(2027, 1, 1))
