"""When children are started anew: at once the first time, then later and later, as long as they do not live long."""

from __future__ import annotations

from typing import Final

#: Seconds before a child that ended is started anew.
BACK_OFF: Final = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
#: Seconds for which a child must have lived for its end to count as the first again.
HEALTHY: Final = 60.0


class Restarts:
    """The children that are to be started, by when. Times are those of `time.monotonic`."""

    def __init__(self) -> None:
        self._due: list[float] = []
        self._short_lives = 0

    def __len__(self) -> int:
        return len(self._due)

    def add(self, lived: float, now: float) -> float:
        """A child has ended that lived for `lived` seconds; in how many seconds another one is started."""
        self._short_lives = 0 if lived >= HEALTHY else self._short_lives
        delay = BACK_OFF[min(self._short_lives, len(BACK_OFF) - 1)]
        self._short_lives += 1
        self._due.append(now + delay)
        return delay

    def at_once(self, now: float) -> None:
        """A child has ended that did nothing wrong; another one is started now."""
        self._due.append(now)

    def clear(self) -> None:
        """Start none of them."""
        self._due.clear()

    def take_due(self, now: float) -> int:
        """How many are to be started now; they are no longer waited for."""
        later = [at for at in self._due if at > now]
        due = len(self._due) - len(later)
        self._due = later
        return due

    @property
    def next_at(self) -> float | None:
        """When the next one is due."""
        return min(self._due, default=None)
