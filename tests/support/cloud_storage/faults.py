"""What goes wrong at the server, and when: a fault function is asked before each operation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Verb = Literal["put", "compose", "copy", "get", "download", "delete", "list", "bucket"]
#: Of the requests of a resumable upload, each of which is an operation of its own.
Step = Literal["", "start", "chunk", "query", "cancel"]


@dataclass(frozen=True, slots=True)
class Operation:
    """One request, or one of a batch. `name` is that of the object that is written or read, or the prefix of a list."""

    verb: Verb
    bucket: str
    name: str
    #: How many-th of all, from 1.
    number: int
    step: Step = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens instead of the operation, or with `after` once it is done. A stall comes before all others."""

    #: The status of the answer.
    status: int | None = None
    after: bool = False
    #: The connection is closed without an answer.
    broken: bool = False
    #: Bytes of the answer's body after which the connection is closed.
    cut_after: int | None = None
    #: One bit is another one: of what a download sends, or of what a put has received.
    flip: bool = False
    #: Waited for; the server sets it when it closes.
    stall: threading.Event | None = None


FaultFunction = Callable[[Operation], Fault | None]


def always(verb: Verb | None, fault: Fault, step: Step | None = None) -> FaultFunction:
    """For each operation of this verb, or of any."""

    def strike(operation: Operation) -> Fault | None:
        return fault if verb in (None, operation.verb) and step in (None, operation.step) else None

    return strike


def first(count: int, verb: Verb | None, fault: Fault, step: Step | None = None) -> FaultFunction:
    """For the first so many operations of this verb, or of any."""
    lock = threading.Lock()
    fits = always(verb, fault, step)
    left = count

    def strike(operation: Operation) -> Fault | None:
        nonlocal left
        found = fits(operation)
        with lock:
            if found is None or not left:
                return None
            left -= 1
            return found

    return strike


def once(verb: Verb | None, fault: Fault, step: Step | None = None) -> FaultFunction:
    """For the first operation of this verb, or of any."""
    return first(1, verb, fault, step)


def any_of(*functions: FaultFunction) -> FaultFunction:
    """The fault of the first of these that has one; those after it are not asked."""
    return lambda operation: next((fault for each in functions if (fault := each(operation)) is not None), None)
