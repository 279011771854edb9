"""Fixtures for pytest, which finds them wherever pyqik is installed; `-p no:pyqik` leaves them out.

Nothing is configured here, and `pyqik.testing` is not imported before a test asks for one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyqik.testing import Queues, Run


@pytest.fixture
def pyqik_fake() -> Iterator[Queues]:
    """What the test pushes, which is not sent: `pyqik_fake["mailers"]`, `.jobs`, `.drain()`; see `testing.fake`."""
    from pyqik import testing

    with testing.fake() as queues:
        yield queues


@pytest.fixture
def pyqik_inline() -> Iterator[list[Run]]:
    """Jobs run where the test pushes them; the runs, in that order. See `testing.inline`."""
    from pyqik import testing

    with testing.inline() as runs:
        yield runs
