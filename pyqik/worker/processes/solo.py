"""Solo children: they run the suspects of crashes one at a time, so that the next crash has but one suspect.

This decides when one is started and when it may go; what it runs waits in custody.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, Generic, Protocol, TypeVar

from pyqik.core.config import Config
from pyqik.worker.engine.board import Entry
from pyqik.worker.processes.child_process import State

#: Seconds after which suspects no longer wait for the one that runs: innocent jobs may take hours, or be many.
PATIENCE: Final = 60.0
#: Seconds that a solo child without work is kept: more suspects may come, and a child takes a while to start.
LINGER: Final = 5.0
#: Seconds until the next is started after one that ended before it was ready: by the number of those in a row.
BACK_OFF: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
#: What the Web UI shows beside one.
LABEL: Final = "solo"


class SoloChild(Protocol):
    """What is asked of a child."""

    state: State

    def entries(self) -> Sequence[Entry]:
        """What it runs."""
        ...


Child = TypeVar("Child", bound=SoloChild)


class SoloChildren(Generic[Child]):
    """When to have how many. Used by the supervisor's main thread."""

    def __init__(self) -> None:
        #: How many suspects wait in custody.
        self.waiting = 0
        self._failures = 0
        self._not_before = 0.0
        self._idle_since: dict[Child, float] = {}
        #: Since when somebody has been waiting, or since another child was wanted for that.
        self._waiting_since: float | None = None

    def is_wanted(self, children: Sequence[Child], limit: int, now: float) -> bool:
        """Whether another one should be started beside the solo `children`. There are never more than `limit`.

        Asked in each round: by the answers it is reckoned how long somebody has been waiting.
        """
        if not self.waiting:
            self._waiting_since = None
            return False
        if self._waiting_since is None:
            self._waiting_since = now
        active = [child for child in children if child.state in (State.STARTING, State.READY)]
        if now < self._not_before or len(active) >= limit:
            return False
        wanted = now - self._waiting_since >= PATIENCE or all(self._runs_long(child) for child in active)
        if wanted:
            self._waiting_since = now
        return wanted

    def unneeded(self, children: Sequence[Child], now: float) -> list[Child]:
        """Those of the solo `children` that have nothing to do any more."""
        # One that was told to take no more has nothing to wait for, whoever waits.
        free = (State.QUIET,) if self.waiting else (State.READY, State.QUIET)
        idle = [child for child in children if child.state in free and not child.entries()]
        self._idle_since = {child: self._idle_since.get(child, now) for child in idle}
        return [child for child in idle if now - self._idle_since[child] >= LINGER]

    def ended(self, was_ready: bool, now: float) -> None:
        """One has ended. If it never got as far as running jobs, the next one waits."""
        # Until it is known what became of its job: that may have been the last one.
        self.waiting = 0
        self._failures = 0 if was_ready else self._failures + 1
        self._not_before = now + BACK_OFF[min(self._failures, len(BACK_OFF)) - 1] if self._failures else 0.0

    def _runs_long(self, child: Child) -> bool:
        return any(time.time() - entry.started_at >= PATIENCE for entry in child.entries())


def solo_config(config: Config) -> Config:
    """The configuration of a solo child: that of its siblings, but for one job at a time."""
    values = {name: getattr(config, name) for name in config.to_dict() if name != "given"}
    alone = {
        "concurrency": 1,
        "async_concurrency": 1,
        "queues": config.all_queues,
        "capsules": (),
        "labels": (*config.labels, LABEL),
    }
    return Config.of({**values, **alone}, config.given.union(alone))
