"""Where long jobs are, kept in the author's own database: written in the transaction of the work, it is never ahead of
the work nor behind it. This stores and reads; when to do so is the engine's business.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from pyqik.core.errors import PyqikError
from pyqik.enumerators.databases import link_of

#: As many characters a jid and the name of a loop may have: more than that is cut off by some databases.
JID_LIMIT: Final = 64
NAME_LIMIT: Final = 120

_TABLE: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)?")


class CursorTaken(PyqikError):
    """Another run of this job has moved on: what this one has done since must not be committed."""


class SavedCursor(NamedTuple):
    """Where a loop was: the JSON text of its cursor, and how often it has been saved."""

    cursor: str
    counter: int


class SqlCursors:
    """The cursors of long jobs in a table.

    Nothing is committed here: what `save` writes holds once the caller commits, together with the work that the caller
    has done in the same transaction. Two runs of one job cannot both commit: the counter of the second is outdated.

    The table can also be made by a migration:

        CREATE TABLE pyqik_cursors (
            jid VARCHAR(64) NOT NULL, name VARCHAR(120) NOT NULL, cursor_json TEXT NOT NULL,
            counter BIGINT NOT NULL, updated_at TIMESTAMP NOT NULL, PRIMARY KEY (jid, name))
    """

    def __init__(self, connection: Any, *, table: str = "pyqik_cursors") -> None:
        """`connection` is one of a DB-API driver or of SQLAlchemy, the one in which the work is done.

        Raises: TypeError for what is no connection, ValueError for a name that is none.
        """
        if not _TABLE.fullmatch(table):
            raise ValueError(f"the table is {table!r}; write a name such as pyqik_cursors or app.pyqik_cursors")
        self._link = link_of(connection)
        self._table = table

    def create(self) -> None:
        """Make the table, unless there is one. MySQL commits what is open at that."""
        # Where upper and lower case are the same, "rows" and "Rows" would be one loop.
        exact = " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin" if self._link.dialect.wording.mysql else ""
        self._link.run(
            f"CREATE TABLE IF NOT EXISTS {self._table} ("
            f"jid VARCHAR({JID_LIMIT}){exact} NOT NULL, name VARCHAR({NAME_LIMIT}){exact} NOT NULL, "
            "cursor_json TEXT NOT NULL, counter BIGINT NOT NULL, updated_at TIMESTAMP NOT NULL, "
            "PRIMARY KEY (jid, name))"
        )

    def load(self, jid: str, name: str = "") -> SavedCursor | None:
        """Where the loop `name` of a job was; None if nothing has been saved.

        Raises: PyqikError if the database takes another name for this one.
        """
        rows = self._link.run(
            f"SELECT jid, name, cursor_json, counter FROM {self._table} WHERE jid = :jid AND name = :name",
            _of(jid, name),
        ).rows
        if not rows:
            return None
        found, called, cursor, counter = rows[0]
        if (found, called) != (jid, name):
            raise PyqikError(
                f"the table {self._table} has the cursor of {called!r} of {found!r}, and takes {name!r} of {jid!r} for "
                "the same; give jid and name a collation that tells them apart"
            )
        return SavedCursor(cursor, int(counter))

    def save(self, jid: str, name: str, cursor: str, counter: int | None) -> int:
        """Write the JSON text of a cursor; `counter` is what `load` or the last `save` gave, None for the first time.

        Returns the counter for the next time. Raises: CursorTaken if another run has saved meanwhile; the transaction
        is then to be rolled back. Waits for a run that has saved and not yet committed.
        """
        params = {**_of(jid, name), "cursor_json": cursor}
        if counter is None:
            self._insert(params)
            return 1
        touched = self._link.run(
            f"UPDATE {self._table} SET cursor_json = :cursor_json, counter = :following, "
            "updated_at = CURRENT_TIMESTAMP WHERE jid = :jid AND name = :name AND counter = :counter",
            {**params, "counter": counter, "following": counter + 1},
        ).touched
        if touched != 1:
            raise CursorTaken(f"{_loop(jid, name)} is not at save {counter} any more: another run of it has moved on")
        return counter + 1

    def forget(self, jid: str) -> None:
        """Remove every cursor of a job: it has come to its end."""
        self._link.run(f"DELETE FROM {self._table} WHERE jid = :jid", {"jid": jid})

    def _insert(self, params: dict[str, Any]) -> None:
        try:
            self._link.run(
                f"INSERT INTO {self._table} (jid, name, cursor_json, counter, updated_at) "
                "VALUES (:jid, :name, :cursor_json, 1, CURRENT_TIMESTAMP)",
                params,
            )
        except Exception as error:
            if _is_duplicate(error):
                raise CursorTaken(f"{_loop(params['jid'], params['name'])} was begun by another run of it") from error
            raise


def _of(jid: str, name: str) -> dict[str, Any]:
    """Raises: ValueError for what the table has no room for."""
    for what, value, limit in (("jid", jid, JID_LIMIT), ("name", name, NAME_LIMIT)):
        if len(value) > limit:
            raise ValueError(f"the {what} {value[:20]!r}… has {len(value)} characters; the table has room for {limit}")
    return {"jid": jid, "name": name}


def _is_duplicate(error: Exception) -> bool:
    """Whether a row is there already. DB-API has a name for it, which SQLAlchemy and Django have, too."""
    if any(kind.__name__ == "IntegrityError" for kind in type(error).__mro__):
        return True
    # pg8000 has one class of errors for all, and the fields of the server's message.
    fields = next(iter(error.args), None)
    return isinstance(fields, dict) and fields.get("C") == "23505"


def _loop(jid: str, name: str) -> str:
    return f"the loop {name!r} of job {jid}" if name else f"the loop of job {jid}"
