"""What befalls one run of a job: nothing, or its process stops, or is killed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pyqik.core.errors import PyqikError

#: The smallest number that each of them may be.
_LEAST: Final = {"interrupt_after": 0, "crash_after": 1, "flush_after": 0}


@dataclass(frozen=True, slots=True)
class Plan:
    """After how many items of the run its process stops, or is killed; and after how many the state was written.

    Raises: PyqikError for a plan that cannot be.
    """

    interrupt_after: int | None = None
    crash_after: int | None = None
    flush_after: int | None = None

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < least):
                raise PyqikError(f"{name} is {value!r}; write a number of items, from {least} up")
        if self.interrupt_after is not None and self.crash_after is not None:
            raise PyqikError("a process is stopped or killed, not both; give interrupt_after or crash_after")
        if self.flush_after is not None and (self.crash_after is None or self.flush_after > self.crash_after):
            raise PyqikError(
                f"flush_after={self.flush_after} says what is written before a crash; give a crash_after that is not "
                f"less"
            )

    def less(self, items: int) -> Plan:
        """What is left of it for the next run, when one has done `items` and ended before it came true."""

        def left(after: int | None, least: int) -> int | None:
            return None if after is None else max(after - items, least)

        return Plan(left(self.interrupt_after, 1), left(self.crash_after, 1), left(self.flush_after, 0))

    def __str__(self) -> str:
        if self.interrupt_after is not None:
            # However soon it stops, a run does one item.
            return f"stopped after {_items(max(self.interrupt_after, 1))}"
        if self.crash_after is None:
            return "left alone"
        flushed = "" if self.flush_after is None else f", its state written after {self.flush_after}"
        return f"killed after {_items(self.crash_after)}{flushed}"


def _items(count: int) -> str:
    return f"{count} item{'' if count == 1 else 's'}"
