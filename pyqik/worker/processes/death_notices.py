"""Jobs that went to the dead set for crashing their process, until a child has been told of them.

The supervisor runs no code of the author's: the next child that is ready calls the death handlers.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyqik.worker.processes.child_process import ChildProcess, State
from pyqik.worker.upkeep.suspects import Death


class DeathNotices:
    """Used by the supervisor's main thread. A notice is lost if the child that has it dies, or if none is ready."""

    def __init__(self) -> None:
        self._untold: list[Death] = []

    def add(self, death: Death) -> None:
        """A job has died."""
        self._untold.append(death)

    def tell(self, children: Iterable[ChildProcess]) -> None:
        """Tell the first of `children` that takes jobs; a solo child may be about to crash."""
        ready = next((child for child in children if child.state is State.READY and not child.is_solo), None)
        while ready is not None and self._untold:
            ready.tell_of_death(self._untold.pop(0))
