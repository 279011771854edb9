"""Time, as something that is handed in: wall time for what is stored, monotonic time for durations."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the engine asks of a clock."""

    def time(self) -> float:
        """Epoch seconds, for values that others will read."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start that never go back, for durations and deadlines."""
        ...


class SystemClock:
    """The real clock."""

    def time(self) -> float:
        """Epoch seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()
