"""Numbers and text out of Redis's replies, read as leniently as Ruby's `to_i` and `to_f`: nothing there counts as 0."""

from __future__ import annotations

import math


def whole(reply: bytes | None) -> int:
    """A counter."""
    try:
        return int(reply or 0)
    except ValueError:
        return 0


def real(reply: bytes | None) -> float:
    """A time or a measurement."""
    try:
        number = float(reply or 0)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) else 0.0


def text(reply: bytes) -> str:
    """A name. What is no UTF-8 is replaced: such a name is shown, but nothing is found under it."""
    return reply.decode("utf-8", "replace")
