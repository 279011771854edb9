"""`pyqik.rows`: which rows of an import are done and which have failed, and why, whatever interrupts it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pyqik.core.errors import InvalidCursor, Kill, PyqikError
from pyqik.jobs.beside import Changes
from pyqik.jobs.blocking import warn_if_loop_runs
from pyqik.jobs.context import current_long_run
from pyqik.jobs.failed_rows import (
    Entry,
    FailedCsv,
    FailedRows,
    RowError,
    block_of,
    entries_of,
    form_of,
    form_text,
)
from pyqik.jobs.long_run import LongRun
from pyqik.jobs.number_set import NumberSet
from pyqik.jobs.source import FileForm
from pyqik.wire import keys
from pyqik.wire.replies import whole

#: Seconds for which failed rows can be read after the job's end: a week.
KEPT: Final = 604_800

#: As many may wait for the next write of the state; then they are written without waiting for it.
MOST_WAITING: Final = 1000


def rows(*, limit: int = 100_000) -> Rows:
    """The rows that the job has gone over, in this run or in an earlier one.

        rows = pyqik.rows()
        for row in pyqik.each(enumerators.csv_rows(path)):
            errors = problems(row)
            if errors:
                rows.fail(*errors)
            else:
                upsert_customer(row)
        if rows.failed_count:
            send_back(rows.failed_csv().read())

    What a job says of a row counts when the row is done: should it be interrupted in the middle of one, or fail, the
    row is done again. Where more than `limit` rows have failed, something else is wrong: the job goes to the dead set.
    Failed rows are kept in Redis, compressed, until a week after the job's end; others cost nothing there. The first
    call of a run blocks for a round trip to Redis; in async code it is `await pyqik.arows()`.

    Raises: InvalidCursor; Interrupted and its like.
    """
    run = current_long_run()
    known = run.beside(keys.rows(run.jid), lambda: _Rows(run, limit), "arows", KEPT)
    _open_blocks(run, known)
    return Rows(run, known)


async def arows(*, limit: int = 100_000) -> Rows:
    """`rows` for async code."""
    run = current_long_run()
    known = await run.abeside(keys.rows(run.jid), lambda: _Rows(run, limit), KEPT)
    _open_blocks(run, known)
    return Rows(run, known)


def _open_blocks(run: LongRun, known: _Rows) -> None:
    # They are many, and only read when somebody asks.
    if keys.errors(run.jid) not in run.besides:
        run.besides.add(keys.errors(run.jid), _Blocks(known), KEPT)


class Rows:
    """What `rows` returns."""

    def __init__(self, run: LongRun, known: _Rows) -> None:
        self._run = run
        self._known = known

    def fail(self, *messages: str, field: str | None = None, row: int | None = None) -> None:
        """The row in hand has failed, for these reasons; may be called again for more. `field` is the column that is
        meant. `row` is its number, unless the row was read by `csv_rows`, which knows it.

        Raises: PyqikError if the number is not known; TypeError; Kill if too many rows have failed.
        """
        if not messages or not all(_is_text(each) for each in messages):
            raise TypeError(f"rows.fail{messages!r}: write what is wrong with the row, in one text or more")
        if field is not None and not _is_text(field):
            raise TypeError(f"rows.fail(field={field!r}): write the name of the column")
        self._known.fail([(message, field) for message in messages], row)

    def done(self, row: int) -> None:
        """The row of this number is done: for loops of one's own. Of the rows that `csv_rows` reads it is known."""
        self._known.add_done(row)

    def __contains__(self, row: object) -> bool:
        """Whether the row of this number has failed, or was said to be `done`."""
        return row in self._known.failed or row in self._known.done or row in self._known.rows_waiting

    @property
    def failed_count(self) -> int:
        """How many rows have failed, each counted once."""
        return len(self._known.failed) + len(self._known.failures_waiting)

    @property
    def done_count(self) -> int:
        """How many rows are done, and have not failed."""
        return self._known.done_count(ended=False)

    def errors(self, limit: int | None = None) -> list[RowError]:
        """What is wrong, in the order of the rows; that of the first `limit` rows. It reads them from Redis."""
        return self._read().errors(limit)

    async def aerrors(self, limit: int | None = None) -> list[RowError]:
        """`errors` for async code."""
        return (await self._aread()).errors(limit)

    def failed_csv(self, *, column: str = "errors") -> FailedCsv:
        """The failed rows as a CSV file to correct and give back: the original columns, and one with the messages. It
        reads them from Redis.
        """
        return self._read().failed_csv(column=column)

    async def afailed_csv(self, *, column: str = "errors") -> FailedCsv:
        """`failed_csv` for async code."""
        return (await self._aread()).failed_csv(column=column)

    # What was written by this run has been asked for before, and is read, too.

    def _read(self) -> FailedRows:
        warn_if_loop_runs()
        blocks = _Blocks(self._known)
        self._run.besides.read(keys.errors(self._run.jid), blocks)
        return self._all(blocks)

    async def _aread(self) -> FailedRows:
        blocks = _Blocks(self._known)
        await self._run.besides.aread(keys.errors(self._run.jid), blocks)
        return self._all(blocks)

    def _all(self, blocks: _Blocks) -> FailedRows:
        try:
            written = blocks.entries()
        except ValueError as error:
            raise InvalidCursor(f"{keys.errors(self._run.jid)}: {error}; remove it to go on without") from None
        ours = [*written, *self._known.waiting()]
        return FailedRows(ours, self._known.form, self.done_count, self._run.files.target)

    def __repr__(self) -> str:
        return f"<rows: {self.done_count} done, {self.failed_count} failed>"


class _Rows:
    """The hash `rows/<jid>`; see `pyqik.jobs.beside.Content`. What the item in hand has said of rows waits for its end.

    Its fields: `f<chunk>` and `d<chunk>` are those of the numbers of rows that have failed, and that were said to be
    done; `gone`, how many rows loops have gone over; `looped`, how many of these have failed; `done` and `failed`, for
    readers; `blocks`, how many blocks there are; `form`, how the file is written.
    """

    def __init__(self, run: LongRun, limit: int) -> None:
        self.run = run
        self._limit = limit
        self.failed = NumberSet()
        self.done = NumberSet()
        self.form: FileForm | None = None
        self._form_is_new = False
        self._gone = self._looped = 0
        #: What was said of rows: the number of the item in hand then; None in place of an entry for a row that is done.
        self._said: list[tuple[int, int, Entry | None, bool]] = []
        #: Their numbers; and those of the rows that have failed and are not among `failed` yet.
        self.rows_waiting: set[int] = set()
        self.failures_waiting: set[int] = set()
        #: Those that the next block holds, and its number.
        self.entries: list[Entry] = []
        self.block = 0
        #: All of them, for a job whose state is kept nowhere.
        self.kept_here: list[Entry] = []

    def fail(self, messages: list[tuple[str, str | None]], row: int | None) -> None:
        if row is not None and not _is_number(row):
            raise TypeError(f"rows.fail(row={row!r}): write the number of the row")
        found, text, looped = self.run.slots.row_in_hand(), None, False
        if found is not None:
            number, text = found.row()
            looped = row is None or row == number
            row, text = (number, text) if looped else (row, None)
            if looped and self.form is None:
                self.form, self._form_is_new = found.form(), True
        if row is None:
            raise PyqikError(
                "which row has failed is not known: it was not read by pyqik.each(enumerators.csv_rows(...)); "
                "write rows.fail(..., row=number)"
            )
        is_new = row not in self.failed and row not in self.failures_waiting
        if is_new and len(self.failed) + len(self.failures_waiting) >= self._limit:
            raise Kill(
                f"more than {self._limit} rows have failed; correct the file or the job and push it again, or write "
                f"pyqik.rows(limit=...)"
            )
        again = any(said_row == row and entry is not None and entry.text for _, said_row, entry, _ in self._said[-1:])
        self._said.append((self.run.items, row, Entry(row, messages, None if again else text), looped))
        self.rows_waiting.add(row)
        if row not in self.failed:
            self.failures_waiting.add(row)
        self._write_if_many()

    def add_done(self, row: int) -> None:
        if not _is_number(row):
            raise TypeError(f"rows.done({row!r}): write the number of the row")
        self._said.append((self.run.items, row, None, False))
        self.rows_waiting.add(row)
        self._write_if_many()

    def _write_if_many(self) -> None:
        if len(self._said) >= MOST_WAITING and self._said[0][0] != self.run.items:
            self.run.save_unless_busy()

    def waiting(self) -> list[Entry]:
        return [*self.kept_here, *self.entries, *(entry for _, _, entry, _ in self._said if entry is not None)]

    def done_count(self, *, ended: bool) -> int:
        """Those of which nothing bad is said; without the row in hand, of which nothing may be said yet."""
        over = [each for each in self._said if ended or each[0] != self.run.items]
        looped = {row for _, row, _, is_looped in over if is_looped and row not in self.failed}
        said = {row for _, row, entry, _ in self._said if entry is None and row not in self.done}
        failed_after_all = sum(row in self.done for row in self.failures_waiting)
        done = len(self.done) + len(said - self.failures_waiting) - failed_after_all
        return self._gone + self.run.slots.rows_gone_over() - self._looped - len(looped) + done

    def load(self, fields: Mapping[bytes, bytes]) -> None:
        for field, value in fields.items():
            if field[:1] == b"f" and field[1:].lstrip(b"-").isdigit():
                self.failed.load(field[1:], value)
            elif field[:1] == b"d" and field[1:].lstrip(b"-").isdigit():
                self.done.load(field[1:], value)
        if b"gone" in fields:
            self._gone, self._looped = whole(fields[b"gone"]), whole(fields.get(b"looped"))
            self.block = whole(fields.get(b"blocks"))
        if b"form" in fields:
            self.form = form_of(fields[b"form"])

    def changes(self, items: int, *, ended: bool) -> Changes:
        said, self._said = self._said, []
        for each in said:
            item, row, entry, looped = each
            if item == items and not ended:
                self._said.append(each)
            elif entry is not None:
                self._looped += looped and row not in self.failed
                self.failed.add(row)
                self.done.discard(row)
                self.entries.append(entry)
            elif row not in self.failed:
                self.done.add(row)
        self.rows_waiting = {row for _, row, _, _ in self._said}
        self.failures_waiting = {row for _, row, entry, _ in self._said if entry and row not in self.failed}
        fields = {
            **{f"f{chunk}": value for chunk, value in self.failed.written().items()},
            **{f"d{chunk}": value for chunk, value in self.done.written().items()},
            "gone": b"%d" % (self._gone + self.run.slots.rows_gone_over()),
            "looped": b"%d" % self._looped,
            "failed": b"%d" % len(self.failed),
            "done": b"%d" % self.done_count(ended=ended),
        }
        if self.entries:
            self.block += 1
            fields["blocks"] = b"%d" % self.block
        if self._form_is_new and self.form is not None:
            fields["form"], self._form_is_new = form_text(self.form), False
        return Changes(fields)


class _Blocks:
    """The hash `errors/<jid>`, of which a run reads nothing before it is asked to."""

    def __init__(self, known: _Rows) -> None:
        self._known = known
        self._read: dict[int, bytes] = {}

    def load(self, fields: Mapping[bytes, bytes]) -> None:
        self._read.update((int(number), block) for number, block in fields.items())

    def entries(self) -> list[Entry]:
        """Those that were read."""
        return [entry for _, block in sorted(self._read.items()) for entry in entries_of(block)]

    def changes(self, items: int, *, ended: bool) -> Changes:
        entries, self._known.entries = self._known.entries, []
        if not self._known.run.is_kept:
            self._known.kept_here += entries
        return Changes({str(self._known.block): block_of(entries)} if entries else {})


def _is_text(value: object) -> bool:
    try:
        return type(value) is str and value.encode() is not None
    except UnicodeEncodeError:
        return False


def _is_number(value: object) -> bool:
    # As large as msgpack holds them.
    return type(value) is int and -(2**63) <= value < 2**63
