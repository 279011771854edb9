"""bin/demo, as a stranger runs it first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(180)
def test_the_demo_ends_with_every_count_as_promised() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    demo = subprocess.run(
        [sys.executable, ROOT / "bin" / "demo.py"], env=environment, capture_output=True, text=True, check=False
    )

    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "200 of 200 jobs finished" in demo.stdout
    assert demo.stdout.endswith("Every count is as promised.\n")
