"""How far a job is, for a person's eyes or as JSON: what `pyqik progress` shows."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import threading
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any, Final, TextIO

from pyqik.jobs.progress import Progress

#: Seconds between two looks.
INTERVAL: Final = 1.0

_MOST_CELLS: Final = 30
_CURSOR_LIMIT: Final = 60
#: More seconds than that are no estimate.
_LONGEST: Final = 1e10


def show(
    read: Callable[[], Progress | None], out: TextIO, *, follow: bool = False, as_json: bool = False
) -> Progress | None:
    """Write what `read` says to `out`: once or, with `follow`, until the job has ended or nothing is known of it any
    more. What was written last; None if nothing was ever known.

    Raises: what `read` raises; KeyboardInterrupt.
    """
    shown: Progress | None = None
    is_live = follow and not as_json and out.isatty()
    try:
        while (found := read()) is not None:
            if is_live:
                _write(out, "\r" + bar_of(found, shutil.get_terminal_size().columns - 1))
            elif found != shown:
                _write(out, (json_of(found) if as_json else line_of(found)) + "\n")
            shown = found
            if not follow or found.ended_at is not None:
                break
            threading.Event().wait(INTERVAL)
    finally:
        if is_live and shown is not None:
            _write(out, "\n")
    return shown


def line_of(progress: Progress) -> str:
    """A line of plain text, with what is known: `b4a5...: 1,234 of 10,000 (12.3 %), 3 min left: writing the orders`."""
    done, *details = _details(progress)
    percent = progress.percent
    if percent is not None:
        done += f" ({_short_of_all(round(percent, 1), 99.9, percent)} %)"
    return f"{_printable(progress.jid)}: {', '.join((done, *details))}{_note(progress)}"


def bar_of(progress: Progress, width: int) -> str:
    """The same for a terminal, as wide as `width` columns: `[#####.....]  52 % 5,200 of 10,000, 3 min left`."""
    text = ", ".join(_details(progress)) + _note(progress)
    percent = progress.percent
    if percent is not None:
        cells = max(1, min(width // 3, _MOST_CELLS))
        full = int(cells * percent / 100)
        text = f"[{'#' * full}{'.' * (cells - full)}] {_short_of_all(round(percent), 99, percent):3} % {text}"
    return _fitted(text, width)


def json_of(progress: Progress) -> str:
    """Its fields, `percent` and `eta` as an object of JSON, in one line; a cursor that JSON does not hold is null."""
    fields = {field.name: getattr(progress, field.name) for field in dataclasses.fields(progress)}
    fields |= {"percent": progress.percent, "eta": _eta(progress)}
    try:
        return json.dumps(fields, allow_nan=False)
    except (ValueError, RecursionError):
        return json.dumps({**fields, "cursor": None}, allow_nan=False)


def _details(progress: Progress) -> Iterator[str]:
    """What is done, and what else is known of it."""
    if progress.total is not None:
        yield f"{_amount(progress.done)} of {_amount(progress.total)}"
    elif not progress.done and progress.cursor is not None:
        # Of a job in Ruby that is all.
        yield f"at the cursor {_cut(json.dumps(progress.cursor), _CURSOR_LIMIT)}"
    else:
        yield f"{_amount(progress.done)} done"
    if progress.ended_at is not None:
        yield "ended"
    elif progress.pace > 0:
        yield _pace(progress.pace)
    eta = _eta(progress)
    if eta is not None:
        yield f"{_duration(eta)} left"
    if progress.failed_rows > 0:
        yield f"{progress.failed_rows:,} failed {'row' if progress.failed_rows == 1 else 'rows'}"


def _note(progress: Progress) -> str:
    return f": {_printable(progress.note)}" if progress.note else ""


def _eta(progress: Progress) -> float | None:
    eta = progress.eta
    return eta if eta is not None and eta < _LONGEST else None


def _short_of_all(rounded: float, most: float, percent: float) -> float:
    """Nothing is at 100 before it is done."""
    return min(rounded, most) if percent < 100 else 100


def _amount(number: int | float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:,.10g}"


def _pace(a_second: float) -> str:
    for seconds, unit in ((1, "a second"), (60, "a minute"), (3600, "an hour")):
        pace = a_second * seconds
        if pace >= 1 or unit == "an hour":
            break
    return f"{pace:,.0f} {unit}" if 10 <= pace < 1e15 else f"{pace:.2g} {unit}"


def _duration(seconds: float) -> str:
    if math.ceil(seconds) < 60:
        return f"{math.ceil(seconds)} s"
    minutes = math.ceil(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    text = f"{days:,} day" if days == 1 else f"{days:,} days"
    return f"{text} {hours} h" if hours else text


def _printable(text: str) -> str:
    """Without whatever could command a terminal, or turn its lines about."""
    return "".join(each if each.isprintable() else " " if each.isspace() else "?" for each in text)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _fitted(text: str, width: int) -> str:
    """Cut or filled up to `width` columns, so that nothing is left of a longer line that stood there before."""
    fitted, used = "", 0
    for each in text:
        columns = 0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1
        if used + columns > width:
            break
        fitted += each
        used += columns
    return fitted + " " * (width - used)


def _write(out: TextIO, text: str) -> None:
    """At once, and whatever the terminal's characters are."""
    encoding: Any = out.encoding
    out.write(text.encode(encoding or "utf-8", "replace").decode(encoding or "utf-8"))
    out.flush()
