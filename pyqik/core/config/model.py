"""The configuration of a process: one frozen, validated value, whatever it was read from.

Reading files, the environment and flags is `sources`; what a field may hold is `rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Self, TypeAlias

from pyqik.core.config.queues import QueueMode, queue_mode, queue_warnings, weights_of
from pyqik.core.config.rules import CODE_ONLY, DEFAULT_CAPSULE, RULES, Queues, Text, Whole, field_mistakes
from pyqik.core.errors import ConfigError

#: A generator function with one yield; what it is called with depends on the chain it stands in.
Middleware: TypeAlias = Callable[..., object]

# Below this, a garbage collection or a slow Redis makes a living process look dead.
_SHORT_LEASE: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Capsule:
    """Queues with threads of their own. Raises ConfigError with every mistake."""

    name: str
    """What it is called."""
    queues: Mapping[str, int] | Sequence[str]
    """As in Config; stored as an immutable mapping."""
    concurrency: int = 10
    """Threads."""
    async_concurrency: int = 100
    """`async def` jobs at a time."""

    def __post_init__(self) -> None:
        mistakes = [
            *Text().mistakes("name", self.name),
            *Whole(1).mistakes("concurrency", self.concurrency),
            *Whole(1).mistakes("async_concurrency", self.async_concurrency),
            *Queues().mistakes("queues", self.queues),
        ]
        if mistakes:
            raise ConfigError([f'capsule "{self.name}": {mistake}' for mistake in mistakes])
        object.__setattr__(self, "queues", weights_of(self.queues))

    @property
    def weights(self) -> Mapping[str, int]:
        """The queues, name → weight."""
        return weights_of(self.queues)

    @property
    def queue_mode(self) -> QueueMode:
        """The order in which the queues are walked: strict, random or weighted."""
        return queue_mode(self.weights)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a process does and how. Durations are seconds.

    Example: `Config(queues={"critical": 3, "default": 1}, concurrency=5)`.

    Raises: ConfigError, with every mistake, each naming the field, the value and the way out.
    """

    redis: str = field(default="redis://localhost:6379/0", repr=False)  # repr: it may hold a password
    """redis://, rediss://, unix:// or redis+sentinel://HOST,HOST/MASTER/0; user and password percent-encoded."""
    concurrency: int = 10
    """Threads per child process."""
    async_concurrency: int = 100
    """`async def` jobs at a time per child process."""
    queues: Mapping[str, int] | Sequence[str] = field(default_factory=lambda: {"default": 0})
    """Names in strict order, or name → weight; stored as an immutable mapping. To read it: `all_queues`."""
    capsules: Sequence[Capsule] = ()
    """Queues with threads of their own, inside the same child process."""
    timeout: float = 25.0
    """How long a stop waits for running jobs."""
    flush_interval: float = 5.0
    """Seconds between two writes of a long job's state; 0: after each item."""
    max_iteration_runtime: float | None = None
    """Seconds after which a long job lets those behind it in the queue go first."""
    max_memory: int | None = None
    """Megabytes; a child process that has grown larger is replaced, and its long jobs go on elsewhere."""
    files: str = ""
    """Where half-written files of jobs are kept: a directory that all workers share, or "gs://bucket/prefix" of Cloud
    Storage; see `pyqik.file`. Workers of another Redis need a place of their own.
    """
    processes: int = 1
    """Child processes."""
    require: Sequence[str] = ()
    """Modules that register the jobs; imported by each child."""
    tag: str = ""
    """Shown beside the process in Sidekiq's Web UI; empty means the name of the working directory."""
    labels: Sequence[str] = ()
    """Shown beside the process in Sidekiq's Web UI."""
    environment: str = ""
    """Which section of sidekiq.yml counts; empty means "development"."""
    verbose: bool = False
    """Short for log_level="debug", False for "info"; an explicit log_level beside it wins."""
    poll: bool = True
    """Whether this process moves due jobs from `schedule` and `retry` to their queues."""
    poll_interval_average: float | None = None
    """Average wait between two polls of this process; None: scaled by the number of processes."""
    average_scheduled_poll_interval: float = 5.0
    """Average wait between two polls by any process of the fleet."""
    default_job_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of every job that is declared and pushed without them, such as {"retry": 3}; stored as an immutable
    mapping. A file's count where `pyqik work` runs; a web process hears only what is given to `pyqik.configure`."""
    max_retries: int = 25
    """Retries of a job with `retry: true`."""
    dead_max_jobs: int = 10_000
    """How many dead jobs are kept."""
    dead_timeout: float = 15_552_000.0
    """How long a dead job is kept."""
    log_level: str = "info"
    """debug, info, warning, error or critical."""
    log_format: str = "auto"
    """console, json, or auto: console on a terminal."""
    log_arguments: bool = False
    """Whether job arguments are logged; they may be personal data."""
    host: str = "0.0.0.0"
    """Address of the HTTP server; all interfaces, as a Kubernetes probe and Prometheus come from outside."""
    port: int | None = None
    """Port of the HTTP server; None: 9394 or the next free of ten; 0: no HTTP server."""
    embedded: bool = False
    """Start a private Valkey instead of using `redis`."""
    release: str = ""
    """Label of the deployed version; marked on the metrics pages of Sidekiq's Web UI."""
    lease: float = 30.0
    """How long a process that is not heard of keeps its jobs."""
    server_middleware: Sequence[Middleware] = ()
    """Around each job that runs. Only from code."""
    client_middleware: Sequence[Middleware] = ()
    """Around each push. Only from code."""
    error_handlers: Sequence[Callable[..., object]] = ()
    """Called as `handler(error, payload)` after each run that failed. Only from code."""
    death_handlers: Sequence[Callable[..., object]] = ()
    """Called as `handler(payload, error)` for each job that is given up. Only from code."""

    given: frozenset[str] = field(init=False, repr=False, compare=False)
    """Names of the fields that somebody set, as opposed to those that hold a default. See `over`."""

    def __new__(cls, **given: object) -> Self:
        # Here, as __init__ can no longer tell a default from the same value written out.
        config = object.__new__(cls)
        object.__setattr__(config, "given", frozenset(given))
        return config

    def __post_init__(self) -> None:
        values = {name: getattr(self, name) for name in RULES}
        mistakes = [mistake for _, mistake in field_mistakes(values)]
        if mistakes:
            raise ConfigError(mistakes)
        given = spelled_out({name: values[name] for name in values if name in self.given})
        for name, value in {**values, **given}.items():
            object.__setattr__(self, name, RULES[name].stored(value))
        object.__setattr__(self, "given", frozenset(given))

    @classmethod
    def of(cls, values: Mapping[str, Any], given: Iterable[str]) -> Self:
        """A Config of these values of which only `given` count as set by somebody.

        Raises: ConfigError; TypeError for a name that is no field.
        """
        config = cls(**values)
        object.__setattr__(config, "given", frozenset(given))
        return config

    def over(self, base: Config) -> Config:
        """This configuration laid over `base`: what was given here wins, then what was given there.

        Fields that nobody gave keep the value they have here.
        """
        values = {name: getattr(base if self._yields(name, base) else self, name) for name in RULES}
        return Config.of(values, self.given | base.given)

    def _yields(self, name: str, base: Config) -> bool:
        return name in base.given and name not in self.given

    @property
    def all_capsules(self) -> tuple[Capsule, ...]:
        """The default capsule, which has `queues`, `concurrency` and `async_concurrency`; then the others."""
        default = Capsule(
            name=DEFAULT_CAPSULE,
            queues=self.queues,
            concurrency=self.concurrency,
            async_concurrency=self.async_concurrency,
        )
        return (default, *self.capsules)

    @property
    def all_queues(self) -> Mapping[str, int]:
        """Every queue that the process serves, name → weight: its own, then those of its capsules."""
        merged = dict(weights_of(self.queues))
        for capsule in self.capsules:
            for name, weight in capsule.weights.items():
                merged[name] = max(weight, merged.get(name, 0))
        return MappingProxyType(merged)

    @property
    def total_concurrency(self) -> int:
        """Threads per child process, those of the capsules included."""
        return self.concurrency + sum(capsule.concurrency for capsule in self.capsules)

    def warnings(self) -> list[str]:
        """What works but is probably not meant, each with the way out."""
        found = list(queue_warnings(self.all_queues))
        found += [
            f"queue {name} is served by the capsules {' and '.join(names)}; name it in one of them to keep them apart"
            for name, names in self._shared_queues().items()
        ]
        if self.embedded and "redis" in self.given:
            found.append("redis is not used beside embedded; leave one of them out")
        if self.lease < _SHORT_LEASE:
            found.append(
                f"lease={self.lease:g}: a busy host may be taken for a dead one; write {_SHORT_LEASE:g} or more"
            )
        return found

    def _shared_queues(self) -> dict[str, list[str]]:
        """Queues that more than one capsule serves, and which."""
        served: dict[str, list[str]] = {}
        for capsule in self.all_capsules:
            for name in capsule.weights:
                served.setdefault(name, []).append(capsule.name)
        return {name: capsules for name, capsules in served.items() if len(capsules) > 1}

    def to_dict(self) -> dict[str, object]:
        """Everything but the functions, as JSON and MessagePack can hold it. The Redis password is in it."""
        plain: dict[str, object] = {name: getattr(self, name) for name in RULES if name not in CODE_ONLY}
        plain["queues"] = dict(weights_of(self.queues))
        plain["capsules"] = [
            {
                "name": each.name,
                "queues": dict(each.weights),
                "concurrency": each.concurrency,
                "async_concurrency": each.async_concurrency,
            }
            for each in self.capsules
        ]
        plain["default_job_options"] = deepcopy(dict(self.default_job_options))
        for name in ("require", "labels"):
            plain[name] = list(getattr(self, name))
        return {**plain, "given": sorted(self.given.difference(CODE_ONLY))}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """The Config that `to_dict` was called on, without its functions.

        Raises: ConfigError; TypeError for a name that is no field.
        """
        values = dict(plain)
        given = values.pop("given")
        values["capsules"] = [Capsule(**capsule) for capsule in values["capsules"]]
        return cls.of(values, given)


def spelled_out(values: Mapping[str, object]) -> dict[str, object]:
    """These given values and those that they imply for the same layer.

    Queues that are given replace the whole list, the capsules' queues too: otherwise `-q python` beside the
    Rails app's own sidekiq.yml would take Ruby's jobs from a capsule.
    """
    implied: dict[str, object] = {}
    if "queues" in values:
        implied["capsules"] = ()
    if isinstance(verbose := values.get("verbose"), bool):
        implied["log_level"] = "debug" if verbose else "info"
    return {**implied, **values}
