"""Where jobs under test say what they have done."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def done() -> list[Any]:
    """What the job has done."""
    return []
