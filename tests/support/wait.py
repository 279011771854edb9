"""Waiting for a condition: what tests do instead of sleeping."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds between two looks: short beside a round trip to Redis, long beside the cost of a look.
INTERVAL = 0.005


def wait_until(condition: Callable[[], T], timeout: float = 10, message: str = "") -> T:
    """The first truthy value of `condition()`, asked again and again for `timeout` seconds.

    Raises: AssertionError with `message` and the last value seen when the deadline passes.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            what = message or getattr(condition, "__qualname__", repr(condition))
            raise AssertionError(f"waited {timeout:g} seconds in vain: {what}; the last value was {value!r}")
        threading.Event().wait(INTERVAL)
