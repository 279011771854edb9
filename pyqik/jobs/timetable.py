"""When a long job writes its state down, and when it lets others have its place."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

#: Of the time of a run, what writing snapshots of its files may take: one part in so many.
SHARE: Final = 10


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Seconds between two writes of the state (0: after each item), and until a run lets others have its place."""

    flush_interval: float = 5.0
    max_iteration_runtime: float | None = None


#: That of a run of which nobody says otherwise.
FIVE_SECONDS: Final = Rhythm()


class Timetable:
    """That of one run, in seconds as `time.monotonic` has them."""

    def __init__(self, rhythm: Rhythm) -> None:
        self._rhythm = rhythm
        #: Seconds between two writes of the state.
        self.flush_interval = rhythm.flush_interval
        self.began = self._flush_at = time.monotonic()
        #: When the run has next to look up.
        self.due = self.began

    def begin_loop(self, flush_interval: float | None) -> None:
        """A loop begins, which may have a rhythm of its own."""
        self.flush_interval = self._rhythm.flush_interval if flush_interval is None else flush_interval
        self._flush_at = min(self._flush_at, time.monotonic() + self.flush_interval)
        self.due = min(self.due, self._flush_at)

    def is_time_to_write(self, now: float) -> bool:
        """Whether the state should be written down."""
        return now >= self._flush_at

    def note_write(self, now: float, cost: float = 0.0) -> None:
        """It is; the job has been held up for `cost` seconds by that."""
        # Who wants each item to be safe pays for it.
        self._flush_at = self.due = now + (self.flush_interval and max(self.flush_interval, cost * SHARE))
        if self._rhythm.max_iteration_runtime is not None:
            self.due = min(self.due, self.began + self._rhythm.max_iteration_runtime)

    @property
    def is_over(self) -> bool:
        """Whether others should have the place."""
        limit = self._rhythm.max_iteration_runtime
        return limit is not None and time.monotonic() - self.began >= limit
