"""When a process may be taken for dead: looks at leases, one after the other, on clocks that the test moves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pyqik.wire.leases import Look
from pyqik.worker.upkeep.rescue import GAP, LOOKS_PER_LEASE, Watch

LEASE = 30.0
STEP = LEASE / LOOKS_PER_LEASE
HOST = "host:1:abc"
EPOCH = 1_795_320_000.0


class Observer:
    """A watch and its two clocks: Redis's and its own."""

    def __init__(self) -> None:
        self.watch = Watch(LEASE)
        self.redis_time = EPOCH
        self.monotonic = 50.0
        self.run_id = "a"
        self.ends: dict[str, float] = {}

    def look(self, step: float = STEP) -> dict[str, float]:
        """Let `step` seconds pass and look; who may be taken for dead."""
        self.redis_time += step
        self.monotonic += step
        return self.watch.see(Look(self.redis_time, self.run_id, dict(self.ends)), self.monotonic)

    def look_for(self, seconds: float) -> list[dict[str, float]]:
        """Look again and again; who may be taken for dead each time."""
        return [self.look() for _ in range(round(seconds / STEP))]


@pytest.fixture
def observer() -> Observer:
    """One that has looked for long."""
    observer = Observer()
    observer.look_for(3 * LEASE)
    return observer


def test_a_process_is_dead_at_the_first_look_after_its_lease_has_ended(observer: Observer) -> None:
    observer.ends = {HOST: observer.redis_time + LEASE / 2 + 0.1}

    before, after = observer.look_for(LEASE / 2), observer.look()

    assert before == [{}] * len(before)
    assert after == observer.ends


def test_it_is_said_again_until_the_lease_is_gone(observer: Observer) -> None:
    observer.ends = {HOST: observer.redis_time}
    observer.look_for(LEASE)

    again = observer.look()
    observer.ends = {}

    assert again == {HOST: pytest.approx(observer.redis_time - LEASE - STEP)}
    assert observer.look() == {}


def test_a_process_that_has_just_started_waits_for_a_whole_lease() -> None:
    observer = Observer()
    observer.ends = {HOST: EPOCH - 1000}
    observer.look()

    before, after = observer.look_for(LEASE - STEP), observer.look()

    assert before == [{}] * len(before)
    assert after == observer.ends


def test_a_lease_that_ended_long_ago_must_have_been_seen_for_half_a_lease(observer: Observer) -> None:
    observer.ends = {HOST: EPOCH - 1000}
    observer.look()

    before, after = observer.look_for(LEASE / 2 - STEP), observer.look()

    assert before == [{}] * len(before)
    assert after == observer.ends


def test_a_lease_that_is_renewed_is_never_dead_although_it_has_always_ended(observer: Observer) -> None:
    """Two clocks of Redis that disagree, of which one writes and the other one is asked."""
    for _ in range(20):
        observer.ends = {HOST: observer.redis_time - 1000}

        assert observer.look_for(LEASE / 3) == [{}] * round(LEASE / 3 / STEP)


def lost_a_look(observer: Observer) -> None:
    observer.watch.lose()


def was_frozen(observer: Observer) -> None:
    observer.redis_time += LEASE * GAP
    observer.monotonic += LEASE * GAP


def was_suspended(observer: Observer) -> None:
    """The machine slept: its monotonic clock stood still."""
    observer.redis_time += 3600


def redis_s_clock_was_put_back(observer: Observer) -> None:
    observer.redis_time -= 3600


def another_server(observer: Observer) -> None:
    observer.run_id = "b"


@pytest.mark.parametrize(
    "disturb", [lost_a_look, was_frozen, was_suspended, redis_s_clock_was_put_back, another_server]
)
def test_after_a_disturbance_it_waits_for_a_whole_lease(
    observer: Observer, disturb: Callable[[Observer], None]
) -> None:
    observer.ends = {HOST: EPOCH - 10_000}
    assert observer.look_for(LEASE)[-1]

    disturb(observer)

    before, after = observer.look_for(LEASE), observer.look()
    assert before == [{}] * len(before)
    assert after == observer.ends


def test_a_jump_of_redis_s_clock_kills_none_of_the_living(observer: Observer) -> None:
    ends = {f"host:{number}:abc": observer.redis_time + LEASE - number for number in range(10)}
    observer.look()
    observer.redis_time += 3600

    for _ in range(10):
        observer.ends = ends
        dead = observer.look_for(LEASE / 3)
        ends = dict.fromkeys(ends, observer.redis_time + LEASE)

        assert dead == [{}] * len(dead)


def test_looks_that_come_late_but_not_too_late_are_unbroken(observer: Observer) -> None:
    observer.ends = {HOST: EPOCH - 1000}
    for _ in range(4):
        observer.look(LEASE * GAP - 0.1)

    assert observer.look() == observer.ends


def test_a_server_that_does_not_tell_its_run_id_is_watched_too() -> None:
    observer = Observer()
    observer.run_id = ""
    observer.ends = {HOST: EPOCH - 1000}

    assert observer.look_for(LEASE + 2 * STEP)[-1] == observer.ends
