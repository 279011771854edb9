"""`pyqik.file`: a file that survives the process which writes it."""

from __future__ import annotations

import asyncio
import codecs
import io
import mimetypes
import os
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, overload

from pyqik.core.errors import PyqikError, Shutdown
from pyqik.jobs.blocking import warn_if_loop_runs
from pyqik.jobs.context import current_long_run
from pyqik.jobs.growing_file import GrowingFile
from pyqik.jobs.long_run import LongRun
from pyqik.jobs.run_file import RunFile

#: Letters of a name, at most: it is that of a local file, too.
_LONGEST_NAME: Final = 200

#: Encodings that begin a text with a mark.
_MARKED: Final = ("utf-8-sig", "utf-16", "utf-32")


@overload
def file(
    name: str, mode: Literal["w"] = "w", *, encoding: str = "utf-8", errors: str = "strict", newline: str | None = ""
) -> TextFile: ...
@overload
def file(name: str, mode: Literal["wb"]) -> BinaryFile: ...
@overload
def file(name: str, *, snapshot: Literal[True]) -> SnapshotFile: ...
def file(
    name: str,
    mode: Literal["w", "wb"] = "w",
    *,
    encoding: str = "utf-8",
    errors: str = "strict",
    newline: str | None = "",
    snapshot: bool = False,
) -> TextFile | BinaryFile | SnapshotFile:
    """A file that is written to its end, whatever interrupts the job: what a run has written of it, the next one finds.

        out = pyqik.file("orders.csv")
        writer = csv.writer(out)
        if out.size == 0:
            writer.writerow(["id", "total"])
        for order in pyqik.each(enumerators.sql_rows(engine, ORDERS, key="id")):
            writer.writerow([order["id"], order["total"]])
        out.publish("gs://exports/orders.csv")

    It only grows, item by item, and always agrees with the cursor: what an item has written that is done again is cut
    off. It is stored in parts of 4 MiB while the job runs, in the store that `files` of the configuration names, so a
    stop has 8 MiB at most left to store. `mode` "w" is for text, "wb" for bytes. The arguments of a text file are those
    of `open`, but for `newline`, which leaves line ends as they are, as `csv` wants it.

    Formats that have an index at their end (zip, parquet) are written between two items, or after the last one: what a
    library has in its memory does not survive. With `snapshot` the file may be rewritten: see `SnapshotFile`.

    Raises: PyqikError for a name that cannot be, a file that is open in another mode, and without a store;
    InvalidCursor; OSError; Interrupted and its like.
    """
    _check(name, mode)
    run = current_long_run()
    if not run.opened:
        warn_if_loop_runs()
        run.open()
    return _open(run, name, "snapshot" if snapshot else mode, encoding, errors, newline)


@overload
async def afile(
    name: str, mode: Literal["w"] = "w", *, encoding: str = "utf-8", errors: str = "strict", newline: str | None = ""
) -> TextFile: ...
@overload
async def afile(name: str, mode: Literal["wb"]) -> BinaryFile: ...
@overload
async def afile(name: str, *, snapshot: Literal[True]) -> SnapshotFile: ...
async def afile(
    name: str,
    mode: Literal["w", "wb"] = "w",
    *,
    encoding: str = "utf-8",
    errors: str = "strict",
    newline: str | None = "",
    snapshot: bool = False,
) -> TextFile | BinaryFile | SnapshotFile:
    """`file` for async code. What is written waits nowhere but in `pyqik.each`, when the store is behind."""
    _check(name, mode)
    run = current_long_run()
    await run.aopen()
    made = _open(run, name, "snapshot" if snapshot else mode, encoding, errors, newline)
    if snapshot:
        await asyncio.to_thread(lambda: made.path)
    return made


def _check(name: str, mode: str) -> None:
    if type(name) is not str or not _is_name(name):
        raise PyqikError(f"pyqik.file({name!r}): write a name without `/`, of {_LONGEST_NAME} bytes at most")
    if mode not in ("w", "wb"):
        raise PyqikError(f'pyqik.file({name!r}, {mode!r}): write "w" for text, or "wb" for bytes')


def _open(
    run: LongRun, name: str, kind: str, encoding: str, errors: str, newline: str | None
) -> TextFile | BinaryFile | SnapshotFile:
    found = run.files.open(name, items=run.items, snapshot=kind == "snapshot")
    if run.slots.run_ahead:
        raise PyqikError(
            f"pyqik.file({name!r}) cannot be written in a loop with exactly_once: after a crash that may go on "
            "behind what the file has; write it in a job, or a loop, of its own"
        )
    if found.handle is None:
        if kind == "w":
            found.handle = TextFile(name, run, found, encoding, errors, newline)
        else:
            found.handle = BinaryFile(name, run, found) if kind == "wb" else SnapshotFile(name, run, found)
    made = found.handle
    assert isinstance(made, (TextFile, BinaryFile, SnapshotFile))
    if made.mode != kind:
        raise PyqikError(f"pyqik.file({name!r}) is open already, in another mode; keep what it returned first")
    return made


class _Publishing:
    """What all kinds can do."""

    _run: LongRun
    _file: RunFile

    @property
    def path(self) -> str:
        """A file of this machine that has all that was written; what an earlier run has written is fetched when this is
        first asked. Only that of a snapshot may be written to. Raises: StoreError, OSError.
        """
        return self._run.files.fetch(self._file)

    @property
    def size(self) -> int:
        """Bytes that were written, in this run or in an earlier one."""
        return self._file.local.size

    def publish(self, url: str, *, content_type: str | None = None, metadata: Mapping[str, str] | None = None) -> None:
        """Have all that was written appear at `url` as a whole, or not at all: at a path, or at an object of Cloud
        Storage, "gs://bucket/name". If the parts are in Cloud Storage, too, no byte is fetched. It blocks. Of a
        snapshot it is what stands at `path` now: whatever wrote there has to be closed, or saved.

        It is finished then: doing it again does no harm, in this run or in a later one, and what a later run writes, as
        it comes by the same lines again, is left out. Its parts go when the job is done. `content_type` is guessed from
        the name; it and `metadata` are those of the object, a path has none.

        Raises: ValueError for an address that is none; StoreError, also if somebody else has written there meanwhile;
        Shutdown if another run has taken over.
        """
        warn_if_loop_runs("apublish")
        self._complete()
        self._publish(url, content_type, metadata or {})

    async def apublish(
        self, url: str, *, content_type: str | None = None, metadata: Mapping[str, str] | None = None
    ) -> None:
        """`publish` for async code."""
        self._complete()
        await asyncio.to_thread(self._publish, url, content_type, metadata or {})

    def _complete(self) -> None:
        # What wrote it may be closed by now.
        self._file.savers.clear()
        self._run.files.take_snapshots(self._run.items)

    def _publish(self, url: str, content_type: str | None, metadata: Mapping[str, str]) -> None:
        run, entry = self._run, self._file.entry
        target = run.files.target(url)
        before = entry.published.get(url)
        if before is not None and target.generation() == before.generation:
            return
        if content_type is None:
            content_type = mimetypes.guess_type(url)[0]
        finished = run.files.finished(self._file, content_type, metadata, as_parts=target.takes_parts)
        if url not in entry.intended:
            entry.intended[url] = target.generation()
        expected = entry.intended[url] if before is None else before.generation
        self._save()
        entry.published[url] = target.write(finished, expected)
        self._file.finish()
        self._save()

    def _save(self) -> None:
        self._run.save_in_item().wait()
        if self._run.lost:
            raise Shutdown("another run of this job has taken over")


class _Growing(_Publishing, io.IOBase):
    """What those can do that are written to."""

    def flush(self) -> None:
        """Bring what was written to the local disk."""
        if not self.closed:
            assert isinstance(self._file.local, GrowingFile)
            self._file.local.flush()

    def tell(self) -> int:
        """The size in bytes: what is written next goes to the end."""
        return self.size

    def writable(self) -> bool:
        """True."""
        return True

    def close(self) -> None:
        """Nothing more is written; it can still be published."""
        self.flush()
        super().close()


class SnapshotFile(_Publishing):
    """A file that is rewritten by whatever writes it (SQLite, a workbook), kept as it was between two items.

        out = pyqik.file("orders.sqlite", snapshot=True)
        db = sqlite3.connect(out.path)
        out.on_save(db.commit)
        for order in pyqik.each(enumerators.sql_rows(engine, ORDERS, key="id")):
            db.execute("INSERT INTO orders VALUES (?, ?)", (order["id"], order["total"]))
        db.close()
        out.publish("gs://exports/orders.sqlite")

    `path` is there to be read and written. A snapshot is a copy of it, of which the blocks of 4 MiB that have changed
    are stored. The state of the job is written together with one, and never without: when the process stops, between
    two items; and else so seldom that it takes a tenth of the time at most. An item that fails, and a crash, cost what
    was done since the last one. `exactly_once` and `durable` say more than a snapshot has, and do not go with it.
    """

    mode: Final = "snapshot"

    def __init__(self, name: str, run: LongRun, file: RunFile) -> None:
        self.name = name
        self._run = run
        self._file = file

    def on_save(self, save: Callable[[], object]) -> None:
        """Have `save` called before each snapshot: it has what is still in memory written to `path`. It is called by
        the job's own thread, between two items, until the file is published.
        """
        self._file.savers.append(save)


class BinaryFile(_Growing, io.BufferedIOBase):
    """What `file` returns for bytes. It can be written to, not read nor sought in; `path` is for reading."""

    mode = "wb"

    def __init__(self, name: str, run: LongRun, file: RunFile) -> None:
        self.name = name
        self._run = run
        self._file = file

    def write(self, data: Any, /) -> int:
        """Add bytes. Raises: OSError, such as that of a full disk; StoreError if the store does not take them."""
        if self.closed:
            raise ValueError(f"{self.name} is closed")
        if isinstance(data, str):
            raise TypeError(f"{self.name} takes bytes; write pyqik.file({self.name!r}) for text")
        view = memoryview(data).cast("B")
        self._file.write(view, self._run.items)
        return len(view)


class TextFile(_Growing, io.TextIOBase):
    """What `file` returns for text."""

    mode = "w"

    def __init__(self, name: str, run: LongRun, file: RunFile, encoding: str, errors: str, newline: str | None) -> None:
        self.name = name
        self._run = run
        self._file = file
        if newline not in (None, "", "\n", "\r", "\r\n"):
            raise ValueError(f"newline is {newline!r}; write None, or one of '', '\\n', '\\r' and '\\r\\n'")
        self._encoding = codecs.lookup(encoding).name
        self._errors = errors
        self._newline = os.linesep if newline is None else newline
        self._translates = self._newline not in ("", "\n")
        self._encoder = codecs.getincrementalencoder(self._encoding)(errors)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """As Python calls it."""
        return self._encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """What becomes of letters that the encoding lacks."""
        return self._errors

    def write(self, text: str, /) -> int:
        """Add text. Raises: UnicodeEncodeError; what that of a binary file raises."""
        if self.closed:
            raise ValueError(f"{self.name} is closed")
        if type(text) is not str:
            raise TypeError(
                f'{self.name} takes text, not {type(text).__name__}; write pyqik.file(name, "wb") for bytes'
            )
        if self._translates:
            plain = text.replace("\n", self._newline)
            self._file.write(self._bytes(plain), self._run.items)
        else:
            self._file.write(self._bytes(text), self._run.items)
        return len(text)

    def _bytes(self, text: str) -> bytes:
        if self._encoding == "utf-8":
            return text.encode("utf-8", self._errors)
        if self._encoding in _MARKED:
            # Only the beginning of a file has a mark, whichever run writes it.
            self._encoder.setstate(2 if self.size == 0 and self._encoding != "utf-8-sig" else int(self.size == 0))
            return self._encoder.encode(text)
        return self._encoder.encode(text, True)


def _is_name(name: str) -> bool:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    return 0 < size <= _LONGEST_NAME and name not in (".", "..") and not any(c in "/\\\0" or c < " " for c in name)
