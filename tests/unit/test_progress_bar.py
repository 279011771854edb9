"""How progress is shown to people, and the command that does it."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
import redis as redis_py

from pyqik.cli import main
from pyqik.jobs.progress import Progress
from pyqik.progress_bar import bar_of, line_of

JID = "b4a577edbccf1d805744efa9"


def test_a_line_says_what_is_known() -> None:
    known = Progress(JID, 1234, 10_000, "writing the orders", failed_rows=12, pace=45.0, updated_at=1.0)

    line = line_of(known)

    for part in (JID, "1,234 of 10,000", "12.3 %", "45 a second", "4 min", "12 failed rows", "writing the orders"):
        assert part in line, part
    assert "None" not in line_of(Progress(JID, 5))


def test_a_bar_fits_the_terminal_and_cannot_command_it() -> None:
    bar = bar_of(Progress(JID, 52, 100, "evil \x1b[2J\r\n note"), 60)

    assert "52" in bar
    assert len(bar) <= 60
    assert bar.isprintable()
    assert line_of(Progress(JID, 1, note="\x1b[31m\u202e")).isprintable()


@pytest.fixture
def known(redis: redis_py.Redis) -> redis_py.Redis:
    redis.hset(f"it-{JID}", mapping={"ex": "2", "c": "7", "rt": "1.5", "items": "7"})
    redis.hset(f"progress/{JID}", mapping={"items": "7", "total": "10", "note": "on it", "at": "1795460000.5"})
    return redis


@pytest.mark.usefixtures("known")
def test_the_command_shows_how_far_a_job_is(redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["progress", JID, "--redis", redis_url]) == 0
    assert "7 of 10" in capsys.readouterr().out

    assert main(["progress", JID, "--json", "--redis", redis_url]) == 0
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (said["done"], said["total"], said["percent"], said["cursor"]) == (7, 10, 70.0, 7)


def test_a_job_of_which_nothing_is_known_is_said_so(redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["progress", JID, "--redis", redis_url]) == 1
    assert JID in capsys.readouterr().err
    assert main(["progress", JID, "--redis", "redis://127.0.0.1:1/0"]) == 1
    assert "cannot be reached" in capsys.readouterr().err


def test_following_ends_with_the_job(
    known: redis_py.Redis, redis_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known.hset(f"progress/{JID}", "ended", "1795460001.5")

    assert main(["progress", JID, "--follow", "--redis", redis_url]) == 0
    assert capsys.readouterr().out.count("\n") == 1

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    assert main(["progress", JID, "--follow", "--redis", redis_url]) == 0
    assert "\r" in screen.getvalue()
