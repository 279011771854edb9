"""What belongs to the state of a long job and may be large: hashes beside it, of which each write sends what is new.

They are written in the same command as the cursor. What was sent is kept until Redis has answered, and sent again with
the next write until then: a request may be dropped when a process ends, and no row may be lost by that.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from pyqik.wire.state_requests import STATE_TTL, HashWrite


@dataclass(slots=True)
class Changes:
    """What has become of a hash since it was last asked; an empty value removes a field. `cleared`: it was emptied
    before.
    """

    fields: dict[str, bytes] = field(default_factory=dict)
    cleared: bool = False

    def then(self, later: Changes) -> Changes:
        """Both, in that order."""
        return later if later.cleared else Changes({**self.fields, **later.fields}, self.cleared)


class Content(Protocol):
    """What a hash holds, as the job sees it. Used by the job's thread or task."""

    def load(self, fields: Mapping[bytes, bytes]) -> None:
        """A part of what an earlier run has left. Raises: ValueError and its like for what it has not written."""
        ...

    def changes(self, items: int) -> Changes:
        """What is new since the last call, without what the item numbered `items` has changed: it is not done yet."""
        ...


class Beside:
    """One hash. `kept` are the seconds for which it is kept after the job's end; 0: it ends with the job."""

    def __init__(self, key: str, content: Content, kept: int, *, is_new: bool) -> None:
        self.key: Final = key
        self.content: Final = content
        self.kept: Final = kept
        # One that is new replaces whatever an earlier job of that jid has left.
        self._unanswered: list[tuple[int, Changes]] = [(0, Changes(cleared=True))] if is_new else []
        self._lock = threading.Lock()

    def writes(self, number: int, items: int, kept: int) -> list[HashWrite]:
        """What the write of this number holds: whatever Redis has not answered to. It is kept for `kept` seconds."""
        changes = self.content.changes(items)
        with self._lock:
            self._unanswered.append((number, changes))
            merged = Changes()
            for _, each in self._unanswered:
                merged = merged.then(each)
        write = HashWrite(self.key, list(merged.fields.items()), kept)
        return [HashWrite(self.key, kept=0), write] if merged.cleared else [write]

    def answered(self, number: int) -> None:
        """Redis has everything up to the write of that number; in the keeper's thread."""
        with self._lock:
            self._unanswered = [(sent, changes) for sent, changes in self._unanswered if sent > number]


class Besides:
    """All hashes beside the state of one run."""

    def __init__(self) -> None:
        #: Those of earlier runs, too, and for how many seconds each is kept after the job's end.
        self.known: dict[str, int] = {}
        self._open: dict[str, Beside] = {}
        self._number = 0

    def content(self, key: str) -> Any:
        """What `key` holds, if this run has opened it; None otherwise."""
        found = self._open.get(key)
        return None if found is None else found.content

    def add(self, key: str, content: Content, kept: int) -> None:
        """`key` is opened."""
        self._open[key] = Beside(key, content, kept, is_new=key not in self.known)
        self.known = {**self.known, key: kept}

    def writes(self, items: int, *, ended: bool = False) -> tuple[int, list[HashWrite]]:
        """A number for this write, and what it holds; `ended` if the job ends with it.

        Those that are not open are renewed.
        """
        self._number += 1
        writes: list[HashWrite] = []
        for key, kept_after in self.known.items():
            kept = kept_after if ended else STATE_TTL
            found = self._open.get(key)
            if found is not None and kept:
                writes += found.writes(self._number, items, kept)
            else:
                writes.append(HashWrite(key, kept=kept))
        return self._number, writes

    def answered(self, number: int) -> None:
        """Redis has everything up to the write of that number; in the keeper's thread."""
        for each in tuple(self._open.values()):
            each.answered(number)
