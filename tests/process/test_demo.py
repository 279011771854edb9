"""bin/demo, as a stranger runs it first, and what README.md shows of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]


@pytest.mark.timeout(180)
def test_the_demo_shows_what_is_promised_and_the_readme_shows_the_demo() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    demo = subprocess.run(
        [sys.executable, ROOT / "bin" / "demo.py"], env=environment, capture_output=True, text=True, check=False
    )

    assert demo.returncode == 0, demo.stdout + demo.stderr
    undisturbed, deployed_over, killed = re.findall(
        r"250 rows in (\d) runs?, (.+); the table's digest is (\w+)(.*)", demo.stdout
    )
    digest = undisturbed[2]
    assert undisturbed == ("1", "each written once", digest, "")
    assert deployed_over == ("3", "each written once", digest, ", the same")
    assert (killed[0], *killed[2:]) == ("2", digest, ", the same")
    assert "100 of 100 jobs finished" in demo.stdout
    assert demo.stdout.endswith("Everything is as promised.\n")
    shown = (ROOT / "README.md").read_text("utf-8").partition("$ bin/demo\n...\n")[2].partition("```")[0]
    assert shape(shown).strip() in shape(demo.stdout)


def shape(text: str) -> str:
    """A text without what differs from run to run."""
    again = re.sub(r"(each written once|\d+ written twice, which an upsert does not mind); ", "written; ", text)
    return re.sub(r"\d+(\.\d+)?(?= (s|rows done)\b)|(?<=process )\d+", "N", again)
