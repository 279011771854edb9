"""The real engine inside the test's own process: a launcher without poller, and a book of what it does."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import redis as redis_py

import pyqik
from pyqik.core.config import Config
from pyqik.core.events import EVENTS, events
from pyqik.worker.launcher import Launcher
from tests.redis.wire.database import contents
from tests.support.wait import wait_until

#: Seconds that a reply may take in tests that lose some.
SHORT_REPLY = 1.0


class Book:
    """Every event of the engine, and every run of the job `Note`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.runs: Counter[Any] = Counter()
        self.order: list[Any] = []

    def record(self, name: str, fields: dict[str, Any]) -> None:
        with self._lock:
            self.events.append((name, fields))

    def note(self, number: Any) -> None:
        """The job `number` has run."""
        with self._lock:
            self.runs[number] += 1
            self.order.append(number)

    def fields(self, name: str) -> list[dict[str, Any]]:
        """The fields of every event called `name`."""
        with self._lock:
            return [fields for event, fields in self.events if event == name]

    def count(self, name: str) -> int:
        """How many events called `name` there were."""
        return len(self.fields(name))

    def settled(self) -> int:
        """How many units were settled that had been run or were no jobs; not those given back unstarted."""
        started = {fields["unit"] for fields in self.fields("job.started")}
        invalid = [fields["raw"] for fields in self.fields("payload.invalid")]
        units = [unit for fields in self.fields("job.settled") for unit in fields["units"]]
        return sum(unit in started or unit.raw in invalid for unit in units)

    def wait_for(self, name: str, count: int = 1, timeout: float = 15) -> None:
        """Wait until `count` events called `name` have come."""
        wait_until(lambda: self.count(name) >= count, timeout, f"{count} events {name}")

    def wait_for_next(self, name: str) -> None:
        """Wait for one more event called `name`."""
        self.wait_for(name, self.count(name) + 1)

    def wait_settled(self, count: int, timeout: float = 15) -> None:
        """Wait until `count` units were settled."""
        wait_until(lambda: self.settled() >= count, timeout, f"{count} settled units of {self.settled()}")


class Gate:
    """What a job waits at until the test opens it."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.arrived = threading.Semaphore(0)

    def pass_through(self) -> None:
        """Called by the job."""
        self.arrived.release()
        assert self._event.wait(20), "nobody opened the gate"

    def wait_for_arrivals(self, count: int) -> None:
        """Wait until `count` jobs stand at the gate."""
        for number in range(count):
            assert self.arrived.acquire(timeout=15), f"only {number} of {count} jobs came to the gate"

    def open(self) -> None:
        """Let everybody pass."""
        self._event.set()


@contextmanager
def listening() -> Iterator[Book]:
    """A book that every event is written into."""
    book = Book()

    def writes(name: str) -> Callable[..., None]:
        return lambda **fields: book.record(name, fields)

    with ExitStack() as stack:
        for name in EVENTS:
            stack.callback(events.subscribe(name, writes(name)))
        yield book


@contextmanager
def running(url: str, *queues: str, timeout: float = 10, clean: bool = True, **config: Any) -> Iterator[Launcher]:
    """A launcher that serves `queues`; afterwards it is stopped, which must succeed if `clean`."""
    config.setdefault("concurrency", 2)
    launcher = Launcher(
        Config(redis=url, queues=config.pop("weights", list(queues)), poll=False, timeout=timeout, **config)
    )
    launcher.start()
    stopped = False
    try:
        yield launcher
        stopped = True
    finally:
        ended = launcher.stop()
        assert ended or not (clean and stopped), "the launcher could not stop"


def declare_note(book: Book) -> None:
    """Register the job `Note`, which writes its argument into the book."""

    @pyqik.job("Note")
    def note(number: Any) -> None:
        book.note(number)


def declare_gated(gate: Gate, name: str = "Gated") -> None:
    """Register the job `Gated`, or `name`, which waits at the gate."""

    @pyqik.job(name)
    def gated(number: int) -> None:
        gate.pass_through()


def declare_endless(book: Book) -> None:
    """Register `Spins`, a plain job, and `Forever`, an async one: each notes its argument, and runs until it is
    interrupted.
    """

    @pyqik.job("Spins")
    def spins(number: int) -> None:
        book.note(number)
        while True:
            threading.Event().wait(0.001)

    @pyqik.job("Forever")
    async def forever(number: int) -> None:
        book.note(number)
        await asyncio.Event().wait()


def payload(number: Any, job_class: str = "Note", **fields: Any) -> bytes:
    """A payload as Ruby would push it."""
    job = {"class": job_class, "args": [number], "jid": f"{number}".rjust(24, "0"), "retry": True, **fields}
    return json.dumps(job, separators=(",", ":")).encode()


def push(redis: redis_py.Redis, queue: str, numbers: Sequence[Any], job_class: str = "Note", **fields: Any) -> None:
    """Push a payload for each of `numbers`, the first to run first."""
    with redis.pipeline(transaction=True) as pipe:
        pipe.sadd("queues", queue)
        for number in numbers:
            pipe.lpush(f"queue:{queue}", payload(number, job_class, **fields))
        pipe.execute()


def waiting(redis: redis_py.Redis, queue: str) -> list[Any]:
    """The arguments of what waits in a queue, the next to run first."""
    raws: Any = redis.lrange(f"queue:{queue}", 0, -1)
    return [json.loads(raw)["args"][0] for raw in reversed(raws)]


def left_behind(redis: redis_py.Redis) -> dict[str, Any]:
    """What stands in in-flight records and on landing lists; nothing, after a stop."""
    left: dict[str, Any] = {}
    for key, value in contents(redis).items():
        if key.startswith("pyqik:landing:"):
            left[key] = value
        elif key.startswith("pyqik:in-flight:") and isinstance(value, dict):
            units = {field: record for field, record in value.items() if b":" in field}
            if units:
                left[key] = units
    return left
