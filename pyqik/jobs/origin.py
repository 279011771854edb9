"""Where the author wrote a job: told in errors, and the same after a reload of the module."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def origin_of(thing: Callable[..., Any] | type) -> str:
    """`qualified.name (file)`. The file and not the module: `python -m shop.jobs` calls the same module `__main__`."""
    inner = inspect.unwrap(thing)
    name = getattr(inner, "__qualname__", repr(inner))
    try:
        return f"{name} ({inspect.getfile(inner)})"
    except (TypeError, OSError):
        # Compiled, or typed at a prompt.
        return f"{name} (module {getattr(inner, '__module__', 'unknown')})"
