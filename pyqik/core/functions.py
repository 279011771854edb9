"""What happens when somebody's function is called: nothing of it runs if it is an `async def` or a generator."""

from __future__ import annotations

import inspect
from collections.abc import Callable


def runs_when_called(function: Callable[..., object]) -> bool:
    """Whether calling it runs it: True for neither an `async def` nor a generator, be it a function or an object."""
    bodies = (function, type(function).__call__)
    return not any(
        inspect.iscoroutinefunction(body) or inspect.isgeneratorfunction(body) or inspect.isasyncgenfunction(body)
        for body in bodies
    )


def name_of(function: object) -> str:
    """How log lines name a function."""
    return str(getattr(function, "__qualname__", None) or type(function).__qualname__)
