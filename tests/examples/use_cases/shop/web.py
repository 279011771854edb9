"""What a web process shows of a job to whoever waits for it. It asks Redis only, at any time."""

from __future__ import annotations

import pyqik


def status(client: pyqik.Client, jid: str) -> str:
    """How far the job is, as of five seconds ago at most."""
    progress = client.progress(jid)
    if progress is None:
        return "waiting"
    if progress.ended_at is not None:
        return f"done; {progress.note}"
    of = "" if progress.percent is None else f" of {progress.total} ({progress.percent:.0f} %)"
    left = "" if progress.eta is None else f", {progress.eta / 60:.0f} minutes left"
    return f"{progress.note}: {progress.done}{of}{left}"


def problems(client: pyqik.Client, jid: str, limit: int = 10) -> list[str]:
    """What is wrong with the first rows of an import, as a spreadsheet numbers them."""
    rows = client.rows(jid)
    errors = [] if rows is None else rows.errors(limit)
    return [f"row {error.row}: {message}" for error in errors for message in error.messages]
