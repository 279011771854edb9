"""Sidekiq's counters and execution metrics: what a process executed, and the keys in which 7 and 8 keep it.

The key names of 7 and 8 never coincide, so both are always written and either Web UI shows Python's classes.
Source: sidekiq/launcher.rb, metrics/shared.rb and metrics/tracking.rb at 7.3 and 8.1.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import redis
from redis.exceptions import RedisError

from pyqik.wire import keys

#: Upper limits of the histogram's buckets in milliseconds: a run of exactly 20 ms falls into the second.
BUCKETS: Final = (
    *(20, 30, 45, 65, 100, 150, 225, 335, 500, 750, 1_100, 1_700, 2_500, 3_800, 5_750, 8_500, 13_000, 20_000),
    *(30_000, 45_000, 65_000, 100_000, 150_000, 225_000, 335_000, 1e20),
)

#: Seconds that a day's counters, the minutes' metrics and the ten-minute metrics live.
DAY_TTL: Final = 157_680_000
MINUTE_TTL: Final = 28_800
TEN_MINUTES_TTL: Final = 259_200


@dataclass(slots=True)
class ClassExecutions:
    """The executions of one class. `milliseconds` and `buckets` count those that did not fail."""

    executed: int = 0
    failed: int = 0
    milliseconds: int = 0
    buckets: list[int] = field(default_factory=lambda: [0] * len(BUCKETS))

    def add(self, elapsed: float, *, failed: bool) -> None:
        """Count one execution that took `elapsed` seconds."""
        self.executed += 1
        if failed:
            self.failed += 1
        else:
            milliseconds = int(elapsed * 1000)
            self.milliseconds += milliseconds
            self.buckets[bisect_right(BUCKETS, milliseconds) if milliseconds else 0] += 1


@dataclass(slots=True)
class Executions:
    """All executions of a period. An interruption is neither processed nor failed."""

    processed: int = 0
    failed: int = 0
    classes: dict[str, ClassExecutions] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.processed > 0

    def add(self, name: str | None, elapsed: float, *, failed: bool) -> None:
        """Count one execution of the class `name` (None: one that nobody knows) that took `elapsed` seconds."""
        self.processed += 1
        self.failed += failed
        if name is not None:
            of_class = self.classes.get(name)
            if of_class is None:
                of_class = self.classes[name] = ClassExecutions()
            of_class.add(elapsed, failed=failed)

    def merge(self, other: Executions) -> None:
        """Add those of `other`."""
        self.processed += other.processed
        self.failed += other.failed
        for name, theirs in other.classes.items():
            mine = self.classes.setdefault(name, ClassExecutions())
            mine.executed += theirs.executed
            mine.failed += theirs.failed
            mine.milliseconds += theirs.milliseconds
            mine.buckets = [a + b for a, b in zip(mine.buckets, theirs.buckets, strict=True)]

    def to_wire(self) -> list[Any]:
        """Plain lists and numbers, for the pipe between a child and its supervisor."""
        classes = {name: [c.executed, c.failed, c.milliseconds, c.buckets] for name, c in self.classes.items()}
        return [self.processed, self.failed, classes]

    @classmethod
    def from_wire(cls, data: list[Any]) -> Executions:
        """The inverse of `to_wire`."""
        processed, failed, classes = data
        return cls(processed, failed, {name: ClassExecutions(*values) for name, values in classes.items()})


def flush(client: redis.Redis, executions: Executions, now: float) -> list[RedisError]:
    """Add `executions` to Redis's counters, all or none, but for keys that hold something else: returns these errors.

    Should the reply get lost, the caller cannot know, and adds them again with its next flush: these are statistics.
    Raises: redis.RedisError when nothing was added, or when nobody knows.
    """
    moment = datetime.fromtimestamp(now, UTC)
    with client.pipeline(transaction=True) as pipe:
        for total, daily, count in (
            (keys.STAT_PROCESSED, keys.stat_processed, executions.processed),
            (keys.STAT_FAILED, keys.stat_failed, executions.failed),
        ):
            day = daily(moment.strftime("%Y-%m-%d"))
            pipe.incrby(total, count)
            pipe.incrby(day, count)
            pipe.expire(day, DAY_TTL)
        if executions.classes:
            for key, ttl in _counter_keys(moment):
                for name, of_class in executions.classes.items():
                    for suffix, amount in (
                        ("p", of_class.executed),
                        ("f", of_class.failed),
                        ("ms", of_class.milliseconds),
                    ):
                        if amount:
                            pipe.hincrby(key, f"{name}|{suffix}", amount)
                pipe.expire(key, ttl)
        for name, of_class in executions.classes.items():
            filled = [(index, count) for index, count in enumerate(of_class.buckets) if count]
            for key in _histogram_keys(name, moment) if filled else ():
                increments: list[str | int] = []
                for index, count in filled:
                    increments += ("INCRBY", "u16", f"#{index}", count)
                pipe.execute_command("BITFIELD", key, "OVERFLOW", "SAT", *increments)
                pipe.expire(key, MINUTE_TTL)
        return [reply for reply in pipe.execute(raise_on_error=False) if isinstance(reply, RedisError)]


def _counter_keys(at: datetime) -> list[tuple[str, int]]:
    """7's minute, unpadded; 8's minute, padded; 8's ten minutes, the same text without its last digit."""
    minute_8 = f"j|{at:%y%m%d}|{at.hour}:{at:%M}"
    return [
        (f"j|{at:%Y%m%d}|{at.hour}:{at.minute}", MINUTE_TTL),
        (minute_8, MINUTE_TTL),
        (minute_8[:-1], TEN_MINUTES_TTL),
    ]


def _histogram_keys(name: str, at: datetime) -> tuple[str, str]:
    return f"{name}-{at:%d-%H}:{at.minute}", f"h|{name}-{at.day}-{at.hour}:{at.minute}"
