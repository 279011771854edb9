"""The options of a job: the payload fields that its author may set, checked when they are written down.

Fields that pyqik does not know are copied into the payload, as Sidekiq does: other tools read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pyqik.core.errors import InvalidJob

#: Options of a job that was declared with none.
DEFAULTS: Final[Mapping[str, Any]] = {"queue": "default", "retry": True}

#: Seconds; Sidekiq refuses a longer `retry_for`, which is more likely a point in time than a duration.
LONGEST_RETRY_FOR: Final = 1_000_000_000

#: Seconds; a longer `stuck_after` is more likely a mistake than a duration.
LONGEST_STUCK_AFTER: Final = 1_000_000_000

#: Fields that belong to the client or the worker; an option of that name would be overwritten or break a reader.
RESERVED: Final = frozenset(
    {"class", "args", "jid", "at", "created_at", "enqueued_at", "failed_at", "retried_at", "retry_count"}
    | {"error_class", "error_message", "error_backtrace"}
)


def check_options(options: Mapping[str, Any], where: str) -> None:
    """Raises: InvalidJob naming `where`, the option, its value and the way out."""
    for name, value in options.items():
        if name in RESERVED:
            raise InvalidJob(f"{where}: {name!r} is not an option; the client or the worker writes that field itself")
        mistake = _CHECKS[name](value) if name in _CHECKS else None
        if mistake:
            raise InvalidJob(f"{where}: {name} is {value!r}; {mistake}")


def _queue(value: object) -> str | None:
    if type(value) is str and value:
        return None
    return 'write a queue\'s name, such as "default"'


def _retry(value: object) -> str | None:
    # None stands for "not given" to Sidekiq, whose guards then disagree about the default: nobody can want that.
    if isinstance(value, bool) or (type(value) is int and value >= 0):
        return None
    return "write True for the default number of retries, a number of retries from 0 up, or False to keep no failure"


def _retry_for(value: object) -> str | None:
    if type(value) in (int, float) and 0 < value <= LONGEST_RETRY_FOR:  # type: ignore[operator]  # a number by now
        return None
    return f"write a duration in seconds, at most {LONGEST_RETRY_FOR:,}"


def _stuck_after(value: object) -> str | None:
    if type(value) in (int, float) and 0 < value <= LONGEST_STUCK_AFTER:  # type: ignore[operator]  # likewise
        return None
    return f"write the seconds after which its process is killed, at most {LONGEST_STUCK_AFTER:,}, or leave it out"


def _flag(value: object) -> str | None:
    return None if isinstance(value, bool) else "write True or False"


def _backtrace(value: object) -> str | None:
    if isinstance(value, bool) or (type(value) is int and value >= 0):
        return None
    return "write True to keep the whole backtrace, or how many lines"


def _tags(value: object) -> str | None:
    if isinstance(value, list) and all(type(tag) is str for tag in value):
        return None
    return 'write a list of strings, such as ["billing"]'


_CHECKS: Final = {
    "queue": _queue,
    "retry": _retry,
    "retry_for": _retry_for,
    "retry_queue": _queue,
    "stuck_after": _stuck_after,
    "dead": _flag,
    "backtrace": _backtrace,
    "tags": _tags,
}
