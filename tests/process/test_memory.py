"""What an idle `pyqik work` costs: supervisor, guardian and one child together."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.process.conftest import StartWork

#: MB, shared pages counted by their share.
LIMIT = 75


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="this system does not tell")
def test_all_of_an_idle_worker_stays_small(start_work: StartWork) -> None:
    work = start_work()

    sizes = {pid: proportional_kb(pid) for pid in work.everybody}

    assert len(sizes) == 3
    assert sum(sizes.values()) < LIMIT * 1024
    assert sizes[work.guardians[0]] < 8 * 1024


def proportional_kb(pid: int) -> int:
    """The process's proportional set size."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("Pss:")))
