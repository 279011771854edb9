"""When a solo child is wanted and when it may go; what its configuration is."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from pyqik.core.config import Capsule, Config
from pyqik.worker.engine.board import Entry
from pyqik.worker.processes.child_process import State
from pyqik.worker.processes.solo import BACK_OFF, LINGER, PATIENCE, SoloChildren, solo_config


@dataclass(eq=False)
class Child:
    """A solo child; `runs_for` is for how many seconds its job has been running."""

    state: State = State.READY
    runs_for: float | None = None

    def entries(self) -> list[Entry]:
        return [] if self.runs_for is None else [Entry(0, b"1:1", time.time() - self.runs_for, 0.0)]


@pytest.fixture
def solo() -> SoloChildren[Child]:
    """With two suspects that wait."""
    solo: SoloChildren[Child] = SoloChildren()
    solo.waiting = 2
    return solo


def test_none_is_wanted_while_nobody_waits(solo: SoloChildren[Child]) -> None:
    solo.waiting = 0

    assert not solo.is_wanted([], 10, 100.0)


def test_the_first_suspects_want_one(solo: SoloChildren[Child]) -> None:
    assert solo.is_wanted([], 10, 100.0)


@pytest.mark.parametrize(
    ("child", "wanted"),
    [
        pytest.param(Child(State.STARTING), False, id="one is starting"),
        pytest.param(Child(), False, id="one has nothing to do yet"),
        pytest.param(Child(runs_for=PATIENCE - 5), False, id="one runs a job"),
        pytest.param(Child(runs_for=PATIENCE + 5), True, id="one runs a long job"),
        pytest.param(Child(State.STOPPING), True, id="one is stopping"),
        pytest.param(Child(State.QUIET, runs_for=1.0), True, id="one takes no more"),
    ],
)
def test_another_is_wanted_only_if_the_first_will_not_get_to_them_soon(
    solo: SoloChildren[Child], child: Child, wanted: bool
) -> None:
    assert solo.is_wanted([child], 10, 100.0) is wanted


def test_if_many_wait_for_long_another_one_is_wanted_each_time(solo: SoloChildren[Child]) -> None:
    child = Child(runs_for=1.0)
    times = (100.0, 100.0 + PATIENCE, 101.0 + PATIENCE, 100.0 + 2 * PATIENCE)

    assert [solo.is_wanted([child], 10, now) for now in times] == [False, True, False, True]


def test_those_who_begin_to_wait_later_wait_from_then_on(solo: SoloChildren[Child]) -> None:
    child = Child(runs_for=1.0)
    solo.is_wanted([child], 10, 100.0)
    solo.waiting = 0
    solo.is_wanted([child], 10, 110.0)
    solo.waiting = 1

    times = (120.0, 119.0 + PATIENCE, 120.0 + PATIENCE)
    assert [solo.is_wanted([child], 10, now) for now in times] == [False, False, True]


def test_there_are_never_more_than_the_limit(solo: SoloChildren[Child]) -> None:
    long = [Child(runs_for=PATIENCE + 5) for _ in range(3)]

    assert [solo.is_wanted(long, limit, 100.0) for limit in (3, 4)] == [False, True]


def test_one_that_crashed_after_it_was_ready_is_replaced_as_soon_as_it_is_known_that_somebody_waits(
    solo: SoloChildren[Child],
) -> None:
    solo.ended(True, 100.0)
    before = solo.is_wanted([], 10, 100.0)
    solo.waiting = 1

    assert (before, solo.is_wanted([], 10, 100.0)) == (False, True)


def test_those_that_do_not_get_ready_are_replaced_later_and_later(solo: SoloChildren[Child]) -> None:
    delays = []
    for _ in range(8):
        solo.ended(False, 100.0)
        solo.waiting = 2
        delays.append(next(delay for delay in BACK_OFF if solo.is_wanted([], 10, 100.0 + delay)))

    assert delays == [*BACK_OFF, 30.0, 30.0]


def test_one_that_got_ready_ends_the_waiting(solo: SoloChildren[Child]) -> None:
    solo.ended(False, 100.0)
    solo.ended(True, 100.0)
    solo.waiting = 2

    assert solo.is_wanted([], 10, 100.0)


def test_one_may_go_when_it_has_been_idle_for_a_while_and_nobody_waits(solo: SoloChildren[Child]) -> None:
    child = Child()
    solo.waiting = 0

    gone = [solo.unneeded([child], now) for now in (100.0, 100.0 + LINGER - 1, 100.0 + LINGER)]

    assert gone == [[], [], [child]]


def test_one_that_takes_no_more_may_go_although_somebody_waits(solo: SoloChildren[Child]) -> None:
    child = Child(State.QUIET)

    gone = [solo.unneeded([child], now) for now in (100.0, 100.0 + LINGER)]

    assert gone == [[], [child]]


def test_one_is_kept_while_it_runs_or_somebody_waits(solo: SoloChildren[Child]) -> None:
    child = Child()
    solo.waiting = 0
    solo.unneeded([child], 100.0)
    child.runs_for = 1.0
    solo.unneeded([child], 103.0)
    child.runs_for = None

    assert solo.unneeded([child], 106.0) == []
    solo.waiting = 1
    assert solo.unneeded([child], 120.0) == []


def test_the_configuration_is_that_of_its_siblings_for_one_job_at_a_time() -> None:
    config = Config(
        queues={"a": 2, "b": 1},
        concurrency=7,
        capsules=[Capsule(name="slow", queues=["c"], concurrency=3)],
        labels=["blue"],
        timeout=9,
        log_level="debug",
    )

    solo = solo_config(config)

    assert (solo.total_concurrency, solo.async_concurrency, dict(solo.all_queues)) == (1, 1, {"a": 2, "b": 1, "c": 0})
    assert (solo.labels, solo.timeout, solo.log_level) == (("blue", "solo"), 9.0, "debug")


def test_what_modules_configure_does_not_undo_it() -> None:
    configured = Config(concurrency=50, queues=["x"], labels=["red"], tag="shop")

    child = solo_config(Config(queues=["a"])).over(configured)

    assert (child.total_concurrency, list(child.all_queues), child.labels, child.tag) == (1, ["a"], ("solo",), "shop")


def test_it_survives_the_way_to_the_child() -> None:
    solo = solo_config(Config(queues=["a"]))

    assert Config.from_dict(solo.to_dict()) == solo
