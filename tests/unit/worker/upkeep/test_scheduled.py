"""How long a poller waits: the fleet as a whole polls at the configured pace, however many processes there are."""

from __future__ import annotations

import pytest

from pyqik.worker.upkeep.scheduled import interval


@pytest.mark.parametrize(
    ("processes", "average", "share", "draw", "expected"),
    [
        pytest.param(1, None, 1, 0.0, 2.5, id="one process, shortest"),
        pytest.param(1, None, 1, 1.0, 7.5, id="one process, longest"),
        pytest.param(4, None, 1, 0.5, 20.0, id="four processes, on average"),
        pytest.param(9, None, 1, 0.0, 22.5, id="nine: at least half the average"),
        pytest.param(10, None, 1, 0.0, 0.0, id="ten: from nothing"),
        pytest.param(10, None, 1, 1.0, 100.0, id="ten: up to twice the average"),
        pytest.param(0, None, 1, 0.5, 5.0, id="none registered counts as one"),
        pytest.param(8, None, 4, 0.5, 10.0, id="a process that stands for four of eight"),
        pytest.param(7, 2.0, 3, 0.5, 2.0, id="a configured average is taken as it is"),
    ],
)
def test_the_interval_is_sidekiqs(
    processes: int, average: float | None, share: int, draw: float, expected: float
) -> None:
    assert interval(processes, average, 5.0, share, draw) == pytest.approx(expected)


def test_the_interval_is_drawn_anew_each_time() -> None:
    assert len({interval(1, None, 5.0) for _ in range(20)}) > 1
