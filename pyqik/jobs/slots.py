"""The loops and steps of one run of a long job, by name: where each of them was, and where it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from pyqik.core.errors import InvalidCursor, PyqikError
from pyqik.jobs.slot import Slot
from pyqik.jobs.source import Codec, RowGiving, RunningAhead
from pyqik.wire.iteration import UNNAMED, Loop, decode_cursor, encode_cursor

#: Called with a cursor, as JSON has it, and its version; returns that of this code's version, or None to begin anew.
Migrate: TypeAlias = Callable[[Any, int], Any]


class Slots:
    """See the module's docstring. `job` names the job in errors."""

    def __init__(self, job: str) -> None:
        self._job: Final = job
        #: The names of the steps that are being done, the outermost first.
        self.path: list[str] = []
        #: The full name of the one that was begun last.
        self.latest = UNNAMED
        self._earlier: dict[str, Loop] = {}
        self._slots: dict[str, Slot[Any]] = {}
        #: The names of those that belong to checkpoints, not to loops.
        self._saved_by_hand: set[str] = set()
        #: Rows that were gone over in steps that are finished.
        self._rows = 0

    def load(self, loops: Mapping[str, Loop]) -> None:
        """Begin with what earlier runs have left."""
        self._earlier = dict(loops)

    def begin(self, name: str, codec: Codec[Any] | None, version: int, migrate: Migrate | None) -> Slot[Any]:
        """Where the loop or step called `name` was; once a run for each name.

        Raises: PyqikError for a second one of that name; InvalidCursor if `version` is not the saved one and `migrate`
        is missing.
        """
        self.resolve()
        full = self._full(name)
        if full in self._slots:
            what = f"is called {full!r}" if name else "has no name"
            raise PyqikError(f"{self._job} has a second loop that {what}; give each of them a name= of its own")
        loop = self._earlier.get(full, Loop())
        if loop.cursor is not None and loop.version != version:
            loop = self._migrated(loop, loop.cursor, version, migrate)
        slot: Slot[Any] = Slot(loop, codec, version)
        self._slots[full], self.latest = slot, full
        return slot

    def saved_by_hand(self) -> Slot[Any] | None:
        """Where the job, or the step that is being done, keeps what it saves by itself, if it has done so before.

        Raises: PyqikError if a loop without a name keeps its cursor there.
        """
        full = self._full(UNNAMED)
        slot = self._slots.get(full)
        if slot is not None:
            if full not in self._saved_by_hand:
                raise PyqikError(
                    f"{self._job} has a loop without a name, and checkpoints beside it; give the loop a name="
                )
            self.latest = full
        return slot

    def note_saved_by_hand(self) -> None:
        """That of the loop without a name, which has just begun, belongs to checkpoints."""
        self._saved_by_hand.add(self._full(UNNAMED))

    @property
    def in_a_loop(self) -> bool:
        """Whether an item of a loop is being processed."""
        return any(slot.pairs is not None for slot in self._slots.values())

    @property
    def run_ahead(self) -> bool:
        """Whether a loop may go on, after a crash, after items of which the state knows nothing."""
        return any(isinstance(slot.pairs, RunningAhead) for slot in self._slots.values())

    def row_in_hand(self) -> RowGiving | None:
        """What can tell of the row of a file that is being processed, if one is."""
        giving = [slot.pairs for slot in self._slots.values() if isinstance(slot.pairs, RowGiving)]
        return giving[-1] if giving else None

    def rows_gone_over(self) -> int:
        """How many rows of files this run has done."""
        return self._rows + sum(slot.rows_gone_over() for slot in self._slots.values())

    def leave_step(self) -> None:
        """The innermost step has come to its end: what is in it is not worth keeping any more."""
        inside = "/".join(self.path) + "/"
        self.path.pop()
        for name in [name for name in self._slots if name.startswith(inside)]:
            self._rows += self._slots.pop(name).rows_gone_over()
        self._earlier = {name: loop for name, loop in self._earlier.items() if not name.startswith(inside)}

    def resolve(self) -> None:
        """The job goes on after a loop that was left before its end: so it was meant to end there."""
        for slot in self._slots.values():
            if slot.left:
                slot.left, slot.done = False, True

    def written(self) -> dict[str, Loop]:
        """What is written of them. Raises: InvalidCursor."""
        self._earlier = {**self._earlier, **{name: slot.written(self._job) for name, slot in self._slots.items()}}
        return self._earlier

    def _full(self, name: str) -> str:
        return "/".join([*self.path, name])

    def _migrated(self, loop: Loop, cursor_text: bytes, version: int, migrate: Migrate | None) -> Loop:
        if migrate is None:
            raise InvalidCursor(
                f"{self._job} was interrupted at a cursor of version {loop.version}, and this code's is {version}; "
                f"give a way to migrate it, or let code of version {loop.version} finish the job"
            )
        cursor = migrate(decode_cursor(cursor_text), loop.version)
        if cursor is None:
            return Loop(version=version)
        return Loop(encode_cursor(cursor, self._job), loop.done, loop.behind, version)
