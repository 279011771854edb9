"""What the engine knows of a registered job: its name on the wire, its options, and how one run of it is made.

Not how jobs are declared (`job`, `function_job`) nor where they are found (`registry`).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeAlias

from pyqik.jobs.arguments import ArgumentsCheck
from pyqik.wire.payload import Payload


class RetryVerdict(enum.Enum):
    """What `retry_in` may answer instead of a delay."""

    KILL = "kill"
    DISCARD = "discard"


#: The job goes to the dead set now, whatever retries it has left.
KILL: Final[Literal[RetryVerdict.KILL]] = RetryVerdict.KILL
#: The job is dropped: neither retried nor kept.
DISCARD: Final[Literal[RetryVerdict.DISCARD]] = RetryVerdict.DISCARD

#: Seconds until the retry, to which the usual jitter is added; None for the usual back-off; `KILL`; `DISCARD`.
RetryDecision: TypeAlias = float | int | RetryVerdict | None


class Runnable(Protocol):
    """One run of a job."""

    @property
    def perform(self) -> Callable[..., Any]:
        """The job's own code; called with the payload's arguments, awaited if the definition says `is_async`."""
        ...

    def retry_in(self, count: int, error: Exception) -> RetryDecision:
        """When the job that failed with `error` is tried again; `count` is 0 at the first failure."""
        ...

    def retries_exhausted(self, error: Exception) -> None:
        """Called when `error` was the last failure, before the job goes to the dead set."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class JobDefinition:
    """A job as it was declared.

    `options` are the payload fields that its author gave, without any default; `origin` says where the author wrote
    it, and tells a reloaded definition from another one of the same name. `create` makes a run.
    """

    name: str
    options: Mapping[str, Any]
    is_async: bool
    origin: str
    arguments: ArgumentsCheck
    create: Callable[[Payload], Runnable]

    def check_arguments(self, args: Sequence[object]) -> None:
        """Raise WrongArguments, which names no values, if `args` do not fit the job's signature."""
        self.arguments.check(args)
