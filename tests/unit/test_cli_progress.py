"""`pyqik progress JID`: what it writes, to whom, and its exit statuses."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from pyqik import progress_bar
from pyqik.cli import main
from tests.support.wait import wait_until

JID = "b4a577edbccf1d805744efa9"
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def known(redis: redis_py.Redis) -> redis_py.Redis:
    """The server, on which something is known of a job that runs."""
    redis.hset(f"it-{JID}", mapping={"ex": "2", "c": "7", "rt": "1.5", "items": "7"})
    redis.hset(f"progress/{JID}", mapping={"items": "7", "total": "10", "note": "on it", "at": "1795460000.5"})
    return redis


def end(redis: redis_py.Redis) -> None:
    """The job has ended."""
    redis.hset(f"progress/{JID}", mapping={"items": "10", "ended": "1795460001.5"})


@pytest.mark.usefixtures("known")
def test_it_shows_how_far_a_job_is(redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["progress", JID, "--redis", redis_url]) == 0

    written = capsys.readouterr()
    assert (written.out, written.err) == (f"{JID}: 7 of 10 (70.0 %): on it\n", "")


@pytest.mark.usefixtures("known")
def test_it_writes_json(redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["progress", JID, "--json", "--redis", redis_url]) == 0

    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (said["done"], said["total"], said["percent"], said["cursor"], said["eta"]) == (7, 10, 70.0, 7, None)


@pytest.mark.usefixtures("known")
def test_it_asks_where_the_configuration_says(
    redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.toml").write_text(f'redis = "{redis_url}"\n', encoding="utf-8")
    assert main(["progress", JID, "-C", "mine.toml"]) == 0

    monkeypatch.setenv("REDIS_URL", redis_url)
    assert main(["progress", JID]) == 0

    assert capsys.readouterr().out.count("7 of 10") == 2


def test_nothing_in_redis_commands_the_terminal(
    known: redis_py.Redis, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    known.hset(f"progress/{JID}", "note", "\x1b[2J\r\n\x07evil \u202e")

    for options in ([], ["--json"]):
        assert main(["progress", JID, *options, "--redis", redis_url]) == 0
        assert capsys.readouterr().out.removesuffix("\n").isprintable()


@pytest.mark.parametrize("options", [[], ["--follow"], ["--json"], ["--follow", "--json"]], ids=" ".join)
def test_of_a_job_of_which_nothing_is_known_that_is_said(
    options: list[str], redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["progress", JID, *options, "--redis", redis_url]) == 1

    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.startswith(f"pyqik: nothing is known of the job {JID}: it has not begun")


@pytest.mark.parametrize("options", [[], ["--follow"]], ids=" ".join)
def test_a_server_that_is_not_there_is_named_without_its_password(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["progress", JID, *options, "--redis", f"unix://:s3cret@{tmp_path}/no.sock"]) == 1

    written = capsys.readouterr()
    assert written.out == ""
    assert "cannot be reached" in written.err
    assert "s3cret" not in written.err
    assert "Traceback" not in written.err


@pytest.mark.parametrize("line", [[], [JID, JID], [JID, "--fol"], [JID, "--concurrency", "5"]])
def test_a_line_that_cannot_be_ends_with_status_2(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["progress", *line])

    assert ended.value.code == 2


def test_a_mistake_in_the_configuration_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["progress", JID, "--redis", "http://localhost"]) == 1
    assert capsys.readouterr().err.startswith("pyqik: redis is")


# Followed.


class Terminal(io.StringIO):
    """What was written to a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_bar, "INTERVAL", 0.01)


def test_following_a_job_that_has_ended_shows_it_once(
    known: redis_py.Redis, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    end(known)

    assert main(["progress", JID, "--follow", "--redis", redis_url]) == 0
    assert capsys.readouterr().out == f"{JID}: 10 of 10 (100 %), ended: on it\n"


def test_following_on_a_terminal_draws_a_bar(
    known: redis_py.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    end(known)
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)

    assert main(["progress", JID, "--follow", "--redis", redis_url]) == 0

    assert re.fullmatch(r"\r\[#+\] 100 % 10 of 10, ended: on it +\n", screen.getvalue())


class Screen(io.StringIO):
    """Calls `changed` with the number of the line whenever one was written."""

    def __init__(self, changed: Callable[[int], object]) -> None:
        super().__init__()
        self._changed = changed

    def flush(self) -> None:
        super().flush()
        self._changed(self.getvalue().count("\n"))


@pytest.mark.usefixtures("nobody_waits")
def test_following_writes_a_line_for_each_change(
    known: redis_py.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(lines: int) -> None:
        if lines == 1:
            known.hset(f"progress/{JID}", "items", "8")
        elif lines == 2:
            known.hset(f"progress/{JID}", "note", "nearly done")
        elif lines == 3:
            end(known)

    screen = Screen(change)
    monkeypatch.setattr("sys.stdout", screen)

    assert main(["progress", JID, "--follow", "--redis", redis_url]) == 0

    assert screen.getvalue().splitlines() == [
        f"{JID}: 7 of 10 (70.0 %): on it",
        f"{JID}: 8 of 10 (80.0 %): on it",
        f"{JID}: 8 of 10 (80.0 %): nearly done",
        f"{JID}: 10 of 10 (100 %), ended: nearly done",
    ]


@pytest.mark.usefixtures("nobody_waits")
def test_following_ends_when_nothing_is_known_any_more(
    known: redis_py.Redis, redis_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Screen(lambda lines: known.flushall())
    monkeypatch.setattr("sys.stdout", screen)

    assert main(["progress", JID, "--follow", "--json", "--redis", redis_url]) == 0

    assert json.loads(screen.getvalue())["done"] == 7
    assert capsys.readouterr().err == f"pyqik: nothing is known of the job {JID} any more: it has ended\n"


# In a process of its own.

Follow = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def follow(redis_url: str) -> Iterator[Follow]:
    """`follow(stdout)`: a `pyqik progress JID --follow`, gone after the test."""
    started: list[subprocess.Popen[str]] = []
    # What a shell starts in the background ignores SIGINT, and so do its children: unless a handler stood here.
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)

    def follow(stdout: int) -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "pyqik", "progress", JID, "--follow", "--redis", redis_url]
        started.append(subprocess.Popen(line, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield follow
    signal.signal(signal.SIGINT, ours)
    for process in started:
        process.kill()
        process.communicate(timeout=10)


@pytest.mark.usefixtures("known")
def test_ctrl_c_ends_it_without_a_traceback(follow: Follow) -> None:
    process = follow(subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == f"{JID}: 7 of 10 (70.0 %): on it\n"

    process.send_signal(signal.SIGINT)

    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 130


@pytest.mark.usefixtures("known")
def test_ctrl_c_leaves_the_terminal_on_a_line_of_its_own(follow: Follow) -> None:
    master, slave = pty.openpty()
    written: list[bytes] = []

    def read() -> None:
        try:
            while part := os.read(master, 4096):
                written.append(part)
        except OSError:  # The other end is closed.
            pass

    reader = threading.Thread(target=read)
    reader.start()
    try:
        process = follow(slave)
        os.close(slave)
        wait_until(lambda: b"on it" in b"".join(written), 20)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    finally:
        reader.join(20)
        os.close(master)

    assert (process.returncode, errors) == (130, "")
    text = b"".join(written).decode()
    assert text.startswith("\r[")
    assert "70 % 7 of 10: on it" in text
    assert text.endswith(" \r\n")
