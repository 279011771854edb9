"""Suspects of crashes: what becomes of them when the connection breaks in the middle of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis as redis_py
import structlog
from redis.exceptions import RedisError

from pyqik.core.clock import SystemClock
from pyqik.wire.broker import Broker, DeadLimits
from pyqik.wire.connection import open_redis
from pyqik.wire.custody import CRASH_LIMIT, Custody
from pyqik.worker.upkeep.crash import Crash
from pyqik.worker.upkeep.suspects import Death, Suspects
from tests.redis.worker.engine import push
from tests.support.proxy import RedisProxy


class Bench:
    """Suspects whose custody is reached through a proxy that may cut."""

    def __init__(self, redis: redis_py.Redis, proxy: RedisProxy) -> None:
        self.proxy = proxy
        self.deaths: list[Death] = []
        self._redis = redis
        self._client = open_redis(proxy.url)
        custody = Custody(self._client, "host:9:cus", 30.0, DeadLimits())
        self.suspects = Suspects(custody, SystemClock(), lambda count: None, self.deaths.append)

    def crash(self, number: int) -> tuple[str, Crash]:
        """The `number`th process dies of the only job there is."""
        process = f"host:{number}:abc"
        broker = Broker(self._redis, process, DeadLimits())
        [unit] = broker.exchange([], 1, ["a"], adopt=False, now=1.0).units
        broker.close()
        return process, Crash("signal", "SIGSEGV", (unit.token,))

    def close(self) -> None:
        self._client.close()


@pytest.fixture
def bench(redis: redis_py.Redis, redis_proxy: RedisProxy) -> Iterator[Bench]:
    bench = Bench(redis, redis_proxy)
    yield bench
    bench.close()


@pytest.mark.parametrize("number", range(1, CRASH_LIMIT + 1))
@pytest.mark.parametrize("script", [1, 2])
@pytest.mark.parametrize("cut", ["before", "after"])
def test_a_death_is_told_once_whichever_answer_was_lost(
    bench: Bench, redis: redis_py.Redis, number: int, script: int, cut: str
) -> None:
    push(redis, "a", [7])
    with structlog.testing.capture_logs() as logs:
        for crashes in range(1, CRASH_LIMIT + 1):
            process, crash = bench.crash(crashes)
            if crashes == number:
                proxy = bench.proxy
                (proxy.cut_before_request if cut == "before" else proxy.cut_after_request)(script, "EVALSHA")
                with pytest.raises(RedisError):
                    bench.suspects.judge(process, crash)
            bench.suspects.judge(process, crash)
            bench.suspects.release()

    told = [line["jid"] for line in logs if line["event"] == "poison pill: the job goes to the dead set"]
    assert [death.jid for death in bench.deaths] == told == ["7".rjust(24, "0")]
    assert redis.zcard("dead") == 1
