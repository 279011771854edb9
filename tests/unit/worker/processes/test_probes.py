"""What the HTTP server answers, from what the main thread keeps."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pyqik.worker.processes.child_process import ChildProcess, State
from pyqik.worker.processes.probes import Probes, Tally
from pyqik.worker.processes.stuck import Stuck


@dataclass
class Child:
    """As much of a child as is asked for."""

    state: State
    is_solo: bool = False
    connected: bool = True


def probes_of(*children: Child, tally: Tally | None = None) -> Probes:
    """The probes of a supervisor with these children."""
    stuck = Stuck(lambda child, entry: None)
    return Probes(lambda: cast(list[ChildProcess], list(children)), stuck, tally or Tally())


def samples(probes: Probes) -> dict[tuple[str, str], float]:
    """Every sample: its name and its only label's value, and the value."""
    _, text = probes.metrics()
    families = text_string_to_metric_families(text.decode())
    return {
        (sample.name, "".join(sample.labels.values())): sample.value for family in families for sample in family.samples
    }


@pytest.mark.parametrize(
    ("children", "answer"),
    [
        pytest.param([Child(State.READY)], (True, "children: ready"), id="ready"),
        pytest.param([], (False, "children: none"), id="none"),
        pytest.param([Child(State.READY), Child(State.STARTING)], (False, "children: ready, starting"), id="starting"),
        pytest.param([Child(State.READY, connected=False)], (False, "children: no Redis"), id="without Redis"),
        pytest.param([Child(State.READY), Child(State.STARTING, True)], (True, "children: ready"), id="a solo child"),
    ],
)
def test_readiness_is_that_of_the_ordinary_children(children: list[Child], answer: tuple[bool, str]) -> None:
    assert probes_of(*children).readiness() == answer


def test_the_children_are_counted_by_state() -> None:
    found = samples(probes_of(Child(State.READY), Child(State.READY, True), Child(State.STARTING)))

    assert {state: found["pyqik_children", state] for state in ("ready", "starting", "quiet", "stopping")} == {
        "ready": 2.0,
        "starting": 1.0,
        "quiet": 0.0,
        "stopping": 0.0,
    }


def test_every_counter_starts_at_zero() -> None:
    found = samples(probes_of())

    assert [found["pyqik_child_crashes_total", cause] for cause in ("exit", "oom", "signal", "stuck")] == [0.0] * 4
    assert found["pyqik_poison_pills_total", ""] == 0.0
    assert (found["pyqik_stuck_children", ""], found["pyqik_child_silence_seconds", ""]) == (0.0, 0.0)


def test_crashes_and_poison_pills_are_counted() -> None:
    found = samples(probes_of(tally=Tally(Counter(oom=2, signal=1), 3)))

    assert (found["pyqik_child_crashes_total", "oom"], found["pyqik_child_crashes_total", "signal"]) == (2.0, 1.0)
    assert found["pyqik_poison_pills_total", ""] == 3.0


def test_no_label_names_a_process_or_a_job() -> None:
    _, text = probes_of(Child(State.READY)).metrics()
    labels = {
        name for family in text_string_to_metric_families(text.decode()) for s in family.samples for name in s.labels
    }

    assert labels == {"state", "cause"}
