"""Where one loop or step of a long job is, in one run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from itertools import chain
from typing import Generic, TypeVar

import structlog

from pyqik.jobs.source import Bookmark, Bookmarking, Codec, RowGiving, cursor_of, cursor_text
from pyqik.wire.iteration import Loop

T = TypeVar("T")
C = TypeVar("C")

log = structlog.get_logger("pyqik")


class Slot(Generic[C]):
    """See the module's docstring. `loop` is where an earlier run has left it."""

    __slots__ = (
        "_already",
        "_codec",
        "_given",
        "_text",
        "_was_behind",
        "behind",
        "bookmark",
        "cursor",
        "done",
        "is_own",
        "left",
        "one_by_one",
        "pairs",
        "version",
    )

    def __init__(self, loop: Loop, codec: Codec[C] | None = None, version: int = 0) -> None:
        self._codec = codec
        self._text = loop.cursor
        self._was_behind = loop.behind
        self.version = version
        self.bookmark: Bookmark = loop.bookmark
        self.done = loop.done
        #: The cursor of the item that is being processed, or comes next; None as long as this run has seen none.
        self.cursor: C | None = None
        #: The item at that cursor is done, and the next one is not known.
        self.behind = False
        #: Left before its end, by a `break` or by an exception: the next thing that happens tells.
        self.left = False
        #: Whether the source says so of its cursors.
        self.one_by_one = False
        #: Whether a generator of the job's own gives the items, and has not shown yet where it begins.
        self.is_own = False
        #: What gives the items, for its bookmarks; None before and after.
        self.pairs: object = None
        #: Rows that were given; and whether the first of them had been done by an earlier run.
        self._given = self._already = 0

    def saved(self) -> C | None:
        """The cursor that an earlier run, or `put`, has left. Raises: InvalidCursor if the codec cannot read it."""
        return None if self._text is None else cursor_of(self._text, self._codec)

    def use_codec(self, codec: Codec[C] | None) -> None:
        """Use `codec`, unless there is one already."""
        self._codec = self._codec or codec

    def without_done(self, pairs: Iterable[tuple[T, C]]) -> Iterable[tuple[T, C]]:
        """`pairs` without the item at the saved cursor, if that is done."""
        if not self._was_behind:
            return pairs
        rest = iter(pairs)
        first = next(rest, None)
        if first is None:
            return ()
        if first[1] != self.saved():
            return chain([first], rest)
        self._already = 1
        return rest

    async def without_done_async(self, pairs: AsyncIterator[tuple[T, C]]) -> AsyncIterator[tuple[T, C]]:
        """The same, for an asynchronous iterator."""
        done = self.saved() if self._was_behind else None
        async for pair in pairs:
            if done is None or pair[1] != done:
                yield pair
            done = None

    def put(self, cursor: C, what: str) -> None:
        """Take over a cursor whose value may change later on. Raises: InvalidCursor."""
        self._text, self._was_behind = self._encoded(cursor, what), False

    def check(self, what: str) -> None:
        """Raises: InvalidCursor if the cursor of the job `what` could not be written down."""
        self._encoded(self.cursor, what)

    def look_where_it_begins(self, what: str) -> None:
        """Warn if a generator that the job `what` has written itself was resumed, and left the item out that was to
        come next: as it would if its cursors named the last item that is done. No item may be lost in silence.
        """
        if self.is_own and self._text is not None and (self.cursor is None or self.cursor != self.saved()):
            log.warning(
                "resumed, a generator did not begin at the cursor that was saved: either the item there is gone, or it "
                "was left out and is lost (a cursor is that of the item that comes next, and is to be given again)",
                **{"class": what},
            )
        self.is_own = False

    def written(self, what: str) -> Loop:
        """What is written of it. Raises: InvalidCursor."""
        self._note_bookmark()
        if self.cursor is not None:
            self._text, self._was_behind = self._encoded(self.cursor, what), self.behind
        if self.done:
            return Loop(self._text, done=True, version=self.version)
        return Loop(self._text, False, self._was_behind, self.version, self.bookmark)

    def finish(self) -> None:
        """The loop is over, and not because its source is: the source may have to know, before it is written down."""
        self.done = True
        if hasattr(self.pairs, "finish"):
            self.pairs.finish()

    def rows_gone_over(self) -> int:
        """How many rows of a file this run has done; without the one in hand."""
        given = (self.pairs.given if isinstance(self.pairs, RowGiving) else self._given) - self._already
        in_hand = given > 0 and not (self.done or self.behind)
        return given - int(in_hand)

    def close(self) -> None:
        """Close what gives the items, if it can be closed."""
        pairs = self.pairs
        if isinstance(pairs, RowGiving):
            self._given = pairs.given
        self._note_bookmark()
        self.pairs = None
        if hasattr(pairs, "close"):
            pairs.close()

    def _note_bookmark(self) -> None:
        if isinstance(self.pairs, Bookmarking):
            self.bookmark = self.pairs.bookmark()

    def _encoded(self, cursor: C | None, what: str) -> bytes:
        return cursor_text(cursor, self._codec, what)
