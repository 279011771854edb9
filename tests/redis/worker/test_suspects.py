"""Suspects of crashes: what becomes of them when the connection breaks in the middle of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import pytest
import redis as redis_py
import structlog

from pyqik.core.clock import SystemClock
from pyqik.wire.broker import Broker, DeadLimits, Place, UnitOfWork
from pyqik.wire.connection import open_redis
from pyqik.wire.custody import CRASH_LIMIT, Custody
from pyqik.worker.upkeep.crash import Crash
from pyqik.worker.upkeep.suspects import Death, Suspects
from tests.redis.worker.engine import push

T = TypeVar("T")


class Breaking(Custody):
    """A custody whose connection breaks once, before or after the server has run what `breaks` names."""

    breaks: tuple[str, str] | None = None

    def charge(self, process: str, unit: UnitOfWork, job: str, dead: Place) -> int:
        return self._broken("charge", lambda: super(Breaking, self).charge(process, unit, job, dead))

    def detain(self, process: str, units: Sequence[UnitOfWork]) -> int:
        return self._broken("detain", lambda: super(Breaking, self).detain(process, units))

    def tend(self) -> int:
        return self._broken("tend", super().tend)

    def has_died(self, dead: Place) -> bool:
        return self._broken("has_died", lambda: super(Breaking, self).has_died(dead))

    def _broken(self, name: str, call: Callable[[], T]) -> T:
        if self.breaks is None or self.breaks[0] != name:
            return call()
        _, when = self.breaks
        self.breaks = None
        if when == "after":
            call()
        raise redis_py.ConnectionError("the cable was cut")


@pytest.fixture
def custody(redis_url: str) -> Iterator[Breaking]:
    client = open_redis(redis_url)
    yield Breaking(client, "host:9:cus", 30.0, DeadLimits())
    client.close()


def crash(redis: redis_py.Redis, number: int) -> tuple[str, Crash]:
    """The `number`th process dies of the only job there is."""
    process = f"host:{number}:abc"
    broker = Broker(redis, process, DeadLimits())
    [unit] = broker.exchange([], 1, ["a"], adopt=False, now=1.0).units
    broker.close()
    return process, Crash("signal", "SIGSEGV", (unit.token,))


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("number", "call"), [(1, "charge"), (1, "detain"), (2, "tend"), (CRASH_LIMIT, "charge"), (CRASH_LIMIT, "tend")]
)
def test_a_death_is_told_once_wherever_the_connection_breaks(
    custody: Breaking, redis: redis_py.Redis, number: int, call: str, when: str
) -> None:
    deaths: list[Death] = []
    suspects = Suspects(custody, SystemClock(), lambda count: None, deaths.append)
    push(redis, "a", [7])

    with structlog.testing.capture_logs() as logs:
        for crashes in range(1, CRASH_LIMIT + 1):
            process, what = crash(redis, crashes)
            if crashes == number:
                custody.breaks = (call, when)
                with pytest.raises(redis_py.ConnectionError):
                    suspects.judge(process, what)
            suspects.judge(process, what)
            suspects.release()

    told = [line["jid"] for line in logs if line["event"] == "poison pill: the job goes to the dead set"]
    assert [death.jid for death in deaths] == told == ["7".rjust(24, "0")]
    assert redis.zcard("dead") == 1


def test_a_death_is_told_although_the_question_whether_it_was_one_is_left_without_an_answer_too(
    custody: Breaking, redis: redis_py.Redis
) -> None:
    deaths: list[Death] = []
    suspects = Suspects(custody, SystemClock(), lambda count: None, deaths.append)
    push(redis, "a", [7])
    for crashes in range(1, CRASH_LIMIT):
        suspects.judge(*crash(redis, crashes))
        suspects.release()
    process, what = crash(redis, CRASH_LIMIT)

    for breaks in (("charge", "after"), ("has_died", "after")):
        custody.breaks = breaks
        with pytest.raises(redis_py.ConnectionError):
            suspects.judge(process, what)
    suspects.judge(process, what)

    assert [death.jid for death in deaths] == ["7".rjust(24, "0")]
