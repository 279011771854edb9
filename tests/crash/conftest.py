"""The book of the engine's doings, with the job `Note` registered."""

from __future__ import annotations

from tests.redis.worker.conftest import book, gate

__all__ = ["book", "gate"]
