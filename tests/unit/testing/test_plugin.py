"""The fixtures that pytest finds wherever pyqik is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

from pyqik import pytest_plugin

TESTS = """
import pyqik
from pyqik import testing

done = []


@pyqik.job("Receipts::Send", queue="mailers")
def send_receipt(order):
    done.append(order)


def test_what_is_pushed(pyqik_fake):
    send_receipt.perform_async(42)
    assert [job.args for job in pyqik_fake["mailers"]] == [[42]]
    assert done == []


def test_the_next_test_begins_empty(pyqik_fake):
    assert pyqik_fake.jobs == []


def test_what_is_run(pyqik_inline):
    send_receipt.perform_async(43)
    assert done == [43]
    assert pyqik_inline[0].completed
"""


def test_pytest_finds_the_plugin() -> None:
    [found] = entry_points(group="pytest11", name="pyqik")

    assert found.load() is pytest_plugin


def test_the_fixtures_last_for_a_test(tmp_path: Path) -> None:
    (tmp_path / "test_receipts.py").write_text(TESTS, "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "test_receipts.py"]

    run = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "REDIS_URL": "redis://127.0.0.1:1/0"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "3 passed" in run.stdout, run.stdout + run.stderr


def test_tests_that_ask_for_none_of_them_do_not_load_what_is_behind_them() -> None:
    code = "import sys, pyqik.pytest_plugin; print('pyqik.testing' in sys.modules)"

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout == "False\n"
