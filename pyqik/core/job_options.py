"""What the options of a job may hold: the payload fields that its author, or the configuration for all jobs, may set.

Fields that pyqik does not know are copied into the payload, as Sidekiq does: other tools read them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeGuard

#: Seconds; what is longer is more likely a point in time than a duration: Sidekiq refuses a longer `retry_for`.
LONGEST_DURATION: Final = 1_000_000_000

#: Fields that belong to the client or the worker; an option of that name would be overwritten or break a reader.
RESERVED: Final = frozenset(
    {"class", "args", "jid", "at", "created_at", "enqueued_at", "failed_at", "retried_at", "retry_count"}
    | {"error_class", "error_message", "error_backtrace"}
)


def option_mistakes(options: Mapping[str, Any]) -> Iterator[str]:
    """Each mistake in these options, naming the option, its value and the way out."""
    for name, value in options.items():
        if name in RESERVED:
            yield f"{name!r} is not an option; the client or the worker writes that field itself"
        elif name in _CHECKS and (mistake := _CHECKS[name](value)):
            yield f"{name} is {value!r}; {mistake}"


def is_plain(value: object) -> bool:
    """Whether JSON and MessagePack both give `value` back as it was: what a configuration file and a child hold."""
    kind = type(value)
    if isinstance(value, dict) and kind is dict:
        return all(type(key) is str and is_plain(key) and is_plain(item) for key, item in value.items())
    if isinstance(value, list) and kind is list:
        return all(map(is_plain, value))
    if isinstance(value, str) and kind is str:
        return value.isascii() or value.encode("utf-8", "replace").decode() == value
    if isinstance(value, float) and kind is float:
        return math.isfinite(value)
    return value is None or kind is bool or (isinstance(value, int) and kind is int and -(2**63) <= value < 2**64)


def is_duration(value: object) -> TypeGuard[int | float]:
    """Whether an option that is a number of seconds may hold `value`."""
    return type(value) in (int, float) and 0 < value <= LONGEST_DURATION  # type: ignore[operator]  # a number by now


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
    return None if is_duration(value) else f"write a duration in seconds, at most {LONGEST_DURATION:,}"


def _stuck_after(value: object) -> str | None:
    return None if is_duration(value) else _seconds_after_which("its process is killed")


def _max_iteration_runtime(value: object) -> str | None:
    return None if is_duration(value) else _seconds_after_which("it lets others go first")


def _seconds_after_which(what: str) -> str:
    return f"write the seconds after which {what}, at most {LONGEST_DURATION:,}, or leave it out"


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
    "max_iteration_runtime": _max_iteration_runtime,
    "dead": _flag,
    "backtrace": _backtrace,
    "tags": _tags,
}
