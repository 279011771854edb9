"""When a child is started anew."""

from __future__ import annotations

from pyqik.worker.processes.restarts import HEALTHY, Restarts


def test_the_first_comes_at_once_and_later_ones_later_and_later() -> None:
    restarts = Restarts()

    delays = [restarts.add(1.0, 100.0) for _ in range(9)]

    assert delays == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_the_end_of_a_child_that_lived_long_counts_as_the_first() -> None:
    restarts = Restarts()
    for _ in range(4):
        restarts.add(1.0, 100.0)

    assert [restarts.add(lived, 100.0) for lived in (HEALTHY, 1.0)] == [0.0, 1.0]


def test_each_is_due_once_at_its_time() -> None:
    restarts = Restarts()
    for _ in range(3):
        restarts.add(1.0, 100.0)

    due = [restarts.take_due(now) for now in (100.0, 100.0, 101.5, 102.0)]

    assert due == [1, 0, 1, 1]
    assert (len(restarts), restarts.next_at) == (0, None)


def test_none_is_started_after_all_were_cancelled() -> None:
    restarts = Restarts()
    restarts.add(1.0, 100.0)
    restarts.add(1.0, 100.0)
    before = restarts.next_at

    restarts.clear()

    assert (before, restarts.take_due(1000.0)) == (100.0, 0)
