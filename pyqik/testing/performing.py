"""Running one job: it is pushed as its author would push it, and run as a worker would run it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

from pyqik.core.config import Config
from pyqik.core.errors import PyqikError
from pyqik.jobs.definition import JobDefinition
from pyqik.jobs.drafting import Draft
from pyqik.jobs.enqueuer import Enqueuer
from pyqik.jobs.job import Job
from pyqik.jobs.middleware import ClientMiddleware
from pyqik.jobs.options import DEFAULTS
from pyqik.jobs.process import configured
from pyqik.jobs.registry import Registry
from pyqik.testing.plan import Plan
from pyqik.testing.runs import Case, Run, Trial
from pyqik.testing.state_hash import StateHash
from pyqik.wire.broker import UnitOfWork

#: A job as it was declared, or what its `set` returns.
Performable: TypeAlias = Enqueuer[...] | type[Job]


def perform(
    job: Performable,
    /,
    *args: Any,
    interrupt_after: int | None = None,
    crash_after: int | None = None,
    flush_after: int | None = None,
    jid: str | None = None,
    state: Mapping[str, str] | None = None,
    config: Config | None = None,
) -> Run:
    """Run a job here and now, through everything that it would meet in production but Redis; says how that ended.

        run = testing.perform(import_customers, "customers.csv", interrupt_after=3)
        assert run.interrupted
        assert run.again().completed

    An item is an item of a loop, a `checkpoint`, a call of `raise_if_stopping`, or a finished `step`. With
    `interrupt_after` the process stops when this run has done so many; the job hears of it at its next boundary, if it
    comes to one, and not before it has done an item (0: the process was stopping when the job began). With
    `crash_after` it is killed there, as by `kill -9`: what was not flushed is lost, no callback, handler or outcome
    comes any more. `flush_after`, not more than that, has the state written after so many items, as the five seconds of
    `flush_interval` might have it. A real kill runs no `finally` and leaves no `with`; this one cannot but do.

    `job` may be what its `set` returns. `jid` is made up unless given; `state` is a hash `it-<jid>` to begin with, such
    as another run's `state`; `config` counts in place of what `pyqik.configure` was given. What the job raises is
    `error` of the run; `perform(...).or_raise()` raises it.

    Raises: InvalidJob and WrongArguments, as the push would; PyqikError if a client middleware stops the push, for a
    plan that cannot be, and for an async job where an event loop runs.
    """
    plan = Plan(interrupt_after, crash_after, flush_after)
    return trial_of(job, args, plan, config, jid, state).here()


async def aperform(
    job: Performable,
    /,
    *args: Any,
    interrupt_after: int | None = None,
    crash_after: int | None = None,
    flush_after: int | None = None,
    jid: str | None = None,
    state: Mapping[str, str] | None = None,
    config: Config | None = None,
) -> Run:
    """`perform` for async tests: an async job runs on their event loop, a plain one in a thread."""
    plan = Plan(interrupt_after, crash_after, flush_after)
    return await trial_of(job, args, plan, config, jid, state).there()


def current_config() -> Config:
    """What was given to `pyqik.configure`, or the defaults."""
    return configured() or Config()


def name_of(job: Performable) -> str:
    """The job's name on the wire. Raises: PyqikError if it is no job; InvalidJob for an abstract one."""
    return _enqueuer_of(job)._definition.name


def trial_of(
    job: Performable,
    args: Sequence[Any],
    plan: Plan,
    config: Config | None,
    jid: str | None = None,
    state: Mapping[str, str] | None = None,
) -> Trial:
    """The first run of a new job, yet to take place."""
    config = config or current_config()
    enqueuer = _enqueuer_of(job)
    definition = enqueuer._definition
    definition.check_arguments(args)
    unit = _pushed(definition, enqueuer._options, args, jid, config)
    # The one that was given, even if the registry does not know it any more, or has another one of that name.
    registry = Registry()
    registry.register(definition)
    fields = {name.encode(): value.encode() for name, value in (state or {}).items()}
    return Trial(Case(registry, config), unit, StateHash(fields), plan)


def _enqueuer_of(job: object) -> Enqueuer[...]:
    if isinstance(job, Enqueuer):
        return job
    if isinstance(job, type) and issubclass(job, Job):
        return job._enqueuer()
    raise PyqikError(f"{job!r} is no job; give a function that @pyqik.job declares, a class of jobs, or their set(...)")


def _pushed(
    definition: JobDefinition, options: Mapping[str, Any], args: Sequence[Any], jid: str | None, config: Config
) -> UnitOfWork:
    """The payload as a client writes it."""
    middleware = cast(Sequence[ClientMiddleware], config.client_middleware)
    draft = Draft(definition.name, {**DEFAULTS, **config.default_job_options, **options}, middleware)
    batch, _ = draft.one(args, at=None, jid=jid)
    for queue, payloads in batch.queues.items():
        return UnitOfWork(b"", queue, payloads[0])
    raise PyqikError(
        f"a client middleware stopped the push of {definition.name}, or delayed it; there is no job to run"
    )
