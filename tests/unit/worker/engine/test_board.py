"""The board: what one process writes is what another one reads, also after the writer has died."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pyqik.worker.engine.board import Board, Entry, SharedBoard

WRITER = """
import os, signal, sys
from pyqik.worker.engine.board import Board
board = Board(3, int(sys.argv[1]))
board.enter(0, b"7:1", 1000.5)
board.enter(2, b"7:2", 1001.5, 60.0)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def shared() -> Iterator[SharedBoard]:
    board = SharedBoard()
    yield board
    board.close()


def test_a_board_that_nobody_wrote_to_is_empty(shared: SharedBoard) -> None:
    assert shared.entries() == []


def test_a_job_stands_on_the_board_from_its_start_to_its_end(shared: SharedBoard) -> None:
    board = Board(2, shared.fileno())
    board.enter(1, b"3:14", 1000.25, 5.0)
    board.enter(0, b"3:15", 1001.0)
    board.leave(0)

    assert shared.entries() == board.entries() == [Entry(1, b"3:14", 1000.25, 5.0)]


def test_a_unit_may_get_its_token_while_it_runs(shared: SharedBoard) -> None:
    board = Board(1, shared.fileno())
    board.enter(0, b"", 1000.0)

    board.name(0, b"12:1")

    assert shared.entries() == [Entry(0, b"12:1", 1000.0, 0.0)]


def test_what_ran_is_known_after_the_writer_was_killed(shared: SharedBoard) -> None:
    writer = subprocess.run([sys.executable, "-c", WRITER, str(shared.fileno())], pass_fds=[shared.fileno()])

    assert writer.returncode == -signal.SIGKILL
    assert shared.entries() == [Entry(0, b"7:1", 1000.5, 0.0), Entry(2, b"7:2", 1001.5, 60.0)]


def test_the_longest_token_fits() -> None:
    board = Board(1)
    token = b"9007199254740991:100000"

    board.enter(0, token, 1000.0)

    assert board.entries()[0].token == token


def test_a_closed_board_is_empty(shared: SharedBoard) -> None:
    Board(1, shared.fileno()).enter(0, b"1:1", 1000.0)

    shared.close()

    assert shared.entries() == []
