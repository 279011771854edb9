"""What may befall a run, and how a run tells of it."""

from __future__ import annotations

from typing import Any

import pytest

from pyqik import testing
from pyqik.core.errors import PyqikError
from tests.unit.testing.styles import array


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"interrupt_after": -1}, "interrupt_after is -1; write a number of items, from 0 up"),
        ({"crash_after": 0}, "crash_after is 0; write a number of items, from 1 up"),
        ({"crash_after": 1.5}, "crash_after is 1.5"),
        ({"crash_after": True}, "crash_after is True"),
        ({"interrupt_after": 1, "crash_after": 1}, "stopped or killed, not both"),
        ({"flush_after": 1}, "give a crash_after that is not less"),
        ({"crash_after": 1, "flush_after": 2}, "give a crash_after that is not less"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(plan: dict[str, Any], message: str) -> None:
    with pytest.raises(PyqikError, match=message):
        testing.perform(array(print), 1, **plan)
    with pytest.raises(PyqikError, match=message):
        testing.perform(array(lambda item: None), 3, interrupt_after=1).again(**plan)


def test_a_run_tells_its_story() -> None:
    job = array(lambda item: [][item])
    first = testing.perform(array(lambda item: None), 6, interrupt_after=2)
    second = first.again(crash_after=3, flush_after=1)

    assert repr(first) == "<Run of Long: stopped after 2 items; interrupted (stop), front, 2 items>"
    assert repr(second).startswith(
        "<Run of Long: stopped after 2 items, then killed after 3 items, its state written after 1; crashed"
    )
    assert "failed with IndexError" in repr(testing.perform(job, 1))
    assert "completed" in repr(second.again())
