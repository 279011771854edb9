"""`fake` and `inline`: jobs that are pushed and not sent, but collected by queue, or run at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from pyqik.core.errors import PyqikError
from pyqik.jobs.registry import registry
from pyqik.testing.performing import Performable, current_config, name_of
from pyqik.testing.plan import Plan
from pyqik.testing.pushes import redirected
from pyqik.testing.runs import Case, Run, Trial
from pyqik.testing.state_hash import StateHash
from pyqik.wire.broker import UnitOfWork
from pyqik.wire.payload import Payload, decode
from pyqik.wire.pushing import Batch

#: Runs after which a job that interrupts itself is taken for one that never ends.
MOST_RUNS: Final = 1000


@contextmanager
def fake() -> Iterator[Queues]:
    """Within the block no push is sent; all of them are collected, whichever client they go through, in any thread.

        with testing.fake() as queues:
            place_order(42)
        assert [(job.name, job.args) for job in queues["mailers"]] == [("Billing::SendReceipt", [42])]

    A push does all that it does otherwise: checks, middleware, the real text. `queues.drain()` runs what was pushed,
    inside the block or after it. An inner block collects for itself.
    """
    queues = Queues()
    with redirected(_Collector(queues)):
        yield queues


@contextmanager
def inline() -> Iterator[list[Run]]:
    """Within the block every job that is pushed runs at once, where it is pushed, the scheduled ones too.

        with testing.inline() as runs:
            place_order(42)
        assert [run.payload.job_class for run in runs] == ["Billing::SendReceipt"]

    What it raises is raised by the push. It must be one of this process: a job that only Ruby has raises
    JobNotRegistered. An async job that is pushed where an event loop runs must be pushed by `aperform_async` or its
    like, or PyqikError is raised.
    """
    runs: list[Run] = []
    with redirected(_Inline(runs)):
        yield runs


@dataclass(frozen=True, slots=True)
class PushedJob:
    """One job, as it would stand in Redis."""

    name: str
    """Its class on the wire, such as `"Billing::SendReceipt"`."""
    args: list[Any]
    """Its arguments, as they came back from JSON."""
    jid: str
    queue: str
    at: float | None
    """The epoch seconds at which it is due; None for at once."""
    payload: Payload = field(repr=False)
    """All of its fields."""
    raw: bytes = field(repr=False)
    """The text that would be sent."""


class Queues(Mapping[str, list[PushedJob]]):
    """What was pushed since `fake` began, scheduled jobs included: queue → its jobs, in the order of their pushes.

    A queue without jobs is empty. Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: list[PushedJob] = []

    @property
    def jobs(self) -> list[PushedJob]:
        """The jobs of all queues, in the order of their pushes."""
        with self._lock:
            return self._jobs.copy()

    @property
    def scheduled(self) -> list[PushedJob]:
        """Those among them that are not due at once."""
        return [job for job in self.jobs if job.at is not None]

    def of(self, job: Performable) -> list[PushedJob]:
        """Those of one job: `SomeJob.jobs` in Sidekiq."""
        name = name_of(job)
        return [pushed for pushed in self.jobs if pushed.name == name]

    def drain(self, job: Performable | None = None) -> list[Run]:
        """Run all jobs, or those of one, and what they push meanwhile, the scheduled ones too, until none is left.

        Raises: what a job raises, which is gone then; those behind it stay. PyqikError for an async job where an event
        loop runs.
        """
        with redirected(_Collector(self)):
            return [_to_the_end(_trial_of(pushed).here()) for pushed in self._taken(job)]

    async def adrain(self, job: Performable | None = None) -> list[Run]:
        """`drain` for async tests."""
        with redirected(_Collector(self)):
            return [await _to_the_end_async(await _trial_of(pushed).there()) for pushed in self._taken(job)]

    def clear(self) -> None:
        """Forget all jobs."""
        with self._lock:
            self._jobs.clear()

    def __getitem__(self, queue: str) -> list[PushedJob]:
        return [job for job in self.jobs if job.queue == queue]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(job.queue for job in self.jobs))

    def __len__(self) -> int:
        return len({job.queue for job in self.jobs})

    def __contains__(self, queue: object) -> bool:
        return any(job.queue == queue for job in self.jobs)

    def __repr__(self) -> str:
        return f"<Queues {dict(self)}>"

    def _add(self, jobs: list[PushedJob]) -> None:
        with self._lock:
            self._jobs += jobs

    def _taken(self, job: Performable | None) -> Iterator[PushedJob]:
        """One after the other until none is left; each is taken out before it runs."""
        name = None if job is None else name_of(job)
        while True:
            with self._lock:
                pushed = next((each for each in self._jobs if name in (None, each.name)), None)
                if pushed is None:
                    return
                self._jobs.remove(pushed)
            yield pushed


class _Collector:
    """Takes batches into queues; see `pyqik.testing.pushes.Sink`."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    def take(self, batch: Batch) -> None:
        self._queues._add(_jobs_of(batch))

    async def atake(self, batch: Batch) -> None:
        self.take(batch)


class _Inline:
    """Runs what is in a batch; likewise."""

    def __init__(self, runs: list[Run]) -> None:
        self._runs = runs

    def take(self, batch: Batch) -> None:
        for job in _jobs_of(batch):
            self._runs.append(_to_the_end(_trial_of(job).here()))

    async def atake(self, batch: Batch) -> None:
        for job in _jobs_of(batch):
            self._runs.append(await _to_the_end_async(await _trial_of(job).there()))


def _jobs_of(batch: Batch) -> list[PushedJob]:
    jobs = [_job_of(raw, None) for payloads in batch.queues.values() for raw in payloads]
    return jobs + [_job_of(raw, at) for at, raw in batch.scheduled]


def _job_of(raw: bytes, at: float | None) -> PushedJob:
    payload = decode(raw)
    return PushedJob(payload.job_class, payload.args, payload.jid, payload.queue, at, payload, raw)


def _trial_of(job: PushedJob) -> Trial:
    """Its first run, yet to take place."""
    unit = UnitOfWork(b"", job.queue, job.raw)
    return Trial(Case(registry, current_config()), unit, StateHash({}), Plan())


def _to_the_end(run: Run) -> Run:
    """Run on until the job is through. Raises: what it raises; PyqikError if it always interrupts itself."""
    for _ in range(MOST_RUNS):
        if not run.or_raise().interrupted:
            return run
        run = run.again()
    raise _endless(run)


async def _to_the_end_async(run: Run) -> Run:
    for _ in range(MOST_RUNS):
        if not run.or_raise().interrupted:
            return run
        run = await run.aagain()
    raise _endless(run)


def _endless(run: Run) -> PyqikError:
    return PyqikError(
        f"{run.payload.display_class} has interrupted itself {MOST_RUNS} times ({run.reason}); "
        f"run such a job with testing.perform, which ends when the job is interrupted"
    )
