"""One file of one run: what the state says of it, what is on the local disk, and how much of that counts."""

from __future__ import annotations

from collections.abc import Callable

from pyqik.core.errors import PyqikError
from pyqik.jobs.file_manifest import Entry
from pyqik.jobs.growing_file import GrowingFile, Piece
from pyqik.jobs.rewritten_file import RewrittenFile
from pyqik.stores.store import Part


class RunFile:
    """See the module's docstring."""

    def __init__(self, entry: Entry, local: GrowingFile | RewrittenFile, items: int) -> None:
        self.entry = entry
        self.local = local
        #: What its author works with.
        self.handle: object = None
        #: The number of the item that has last written to it, and its size before that.
        self._item = -1
        self._before = 0
        #: Whether an earlier run has published it: then all of it is there, and what is written is left out.
        self.is_finished = bool(entry.published)
        #: Bytes that are stored, as full pieces or at the end of one; only the uploads change it.
        self.stored = local.size
        #: Pieces that are being joined in the store; and the part that they have become.
        self.joining: list[Piece] = []
        self.joined: Part | None = None
        #: How many items this run had done when the last snapshot was taken; and what is called before the next one.
        self.taken_at = items
        self.savers: list[Callable[[], object]] = []

    @property
    def unstored(self) -> int:
        """Bytes that are not stored yet."""
        return self.local.size - self.stored if isinstance(self.local, GrowingFile) else 0

    @property
    def is_rewritten(self) -> bool:
        """Whether it is kept by snapshots, and may still change."""
        # From the first attempt to publish it on: a second one has to write the same bytes.
        is_done = self.entry.published or self.entry.intended
        return isinstance(self.local, RewrittenFile) and not is_done

    def write(self, data: bytes | bytearray | memoryview, item: int) -> None:
        """Add bytes, while the item of this number is in hand. Raises: PyqikError after it was published."""
        if self.is_finished:
            return
        if self.entry.published:
            raise PyqikError(f"{self.local.path.name} was published and is finished; write into another file")
        if item != self._item:
            self._item, self._before = item, self.local.size
        assert isinstance(self.local, GrowingFile)
        self.local.write(data)

    def finish(self) -> None:
        """It is published: all that was written counts, whatever becomes of the item in hand."""
        self._item = -1

    def length(self, items: int) -> int:
        """How much of it counts if the item of this number is done again."""
        return self._before if self._item == items else self.local.size

    def take_snapshot(self, items: int) -> None:
        """As it is now, after so many items. Raises: StoreError, OSError; what its savers raise."""
        assert isinstance(self.local, RewrittenFile)
        for save in self.savers:
            save()
        self.local.take()
        self.taken_at = items
