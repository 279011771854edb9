"""Lines of the log: whatever is said in them and whoever reads them, none hurts the job that says it."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from pyqik.core.errors import Shutdown
from pyqik.worker import logs
from pyqik.worker.engine.runners import raise_in_thread


class Mute:
    """It cannot show itself."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


def circle() -> list[Any]:
    """A list that contains itself."""
    items: list[Any] = []
    items.append(items)
    return items


@pytest.fixture(autouse=True)
def own_configuration() -> Iterator[None]:
    """What a test configures ends with it."""
    root = logging.getLogger()
    before = (structlog.get_config(), root.handlers[:], root.level)
    yield
    structlog.configure(**before[0])
    root.handlers[:], root.level = before[1], before[2]


@pytest.mark.parametrize("args", [(), (1, 3)], ids=["as it is", "with values for its event"])
def test_an_info_says_what_a_warning_would(args: tuple[object, ...]) -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    log = structlog.get_logger("pyqik").bind(shop=7)
    event = "%s of %s" if args else "100 %s"

    with structlog.contextvars.bound_contextvars(request="r1"):
        log.info(event, *args, count=2)
        log.warning(event, *args, count=2)

    info, warning = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (info.pop("level"), warning.pop("level")) == ("info", "warning")
    assert info.pop("timestamp") <= warning.pop("timestamp")
    assert info == warning
    expected = {"event": "1 of 3" if args else "100 %s", "shop": 7, "request": "r1", "count": 2, "pid": os.getpid()}
    assert info == expected


def test_an_info_below_the_level_is_not_written() -> None:
    stream = io.StringIO()
    logs.configure("warning", "json", stream)

    structlog.get_logger("pyqik").info("file")

    assert stream.getvalue() == ""


def test_an_info_goes_through_the_processors_that_are_configured_later() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    seen: list[Any] = []

    def keep(logger: object, method: str, event: Any) -> Any:
        seen.append((method, dict(event)))
        raise structlog.DropEvent

    structlog.configure(processors=[keep])
    structlog.get_logger("pyqik").info("file", count=3)
    with structlog.testing.capture_logs() as captured:
        structlog.get_logger("pyqik").info("page", count=4)

    assert seen == [("info", {"event": "file", "count": 3})]
    assert captured == [{"event": "page", "count": 4, "log_level": "info"}]
    assert stream.getvalue() == ""


ODD = [
    pytest.param("caf\udce9.csv", r"caf\udce9.csv", id="a surrogate, as os.fsdecode makes them"),
    pytest.param(Mute(), "<a Mute whose repr raises RuntimeError>", id="a value without a repr"),
    pytest.param(circle(), "[[...]]", id="a circle"),
    pytest.param({"a": "\ud800"}, r"{'a': '\ud800'}", id="a surrogate in a dictionary"),
    pytest.param(2**100, 2**100, id="a large number"),
]


@pytest.mark.parametrize(("value", "shown"), ODD)
def test_an_odd_value_is_written_in_json(value: object, shown: object) -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)

    structlog.get_logger("pyqik").info("file", value=value, count=3)

    line = json.loads(stream.getvalue())
    assert (line["event"], line["count"], line["value"]) == ("file", 3, shown)


@pytest.mark.parametrize("value", [each.values[0] for each in ODD])
def test_an_odd_value_is_written_on_a_console(value: object) -> None:
    stream = io.StringIO()
    logs.configure("info", "console", stream)

    structlog.get_logger("pyqik").info("file", value=value)

    assert "file" in stream.getvalue()


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_an_error_with_odd_text_is_written_with_its_traceback(log_format: str) -> None:
    stream = io.StringIO()
    logs.configure("info", log_format, stream)

    try:
        raise ValueError("caf\udce9.csv", Mute())
    except ValueError:
        structlog.get_logger("pyqik").exception("failed", name="\udce9")
        logging.getLogger("library").exception("failed \udce9 too")

    assert "Traceback" in stream.getvalue()
    assert "failed" in stream.getvalue()
    assert "too" in stream.getvalue()


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, io.TextIOWrapper]]:
    """A pipe that is full already; the reading end, and the stream that is the log."""
    monkeypatch.setattr(logs, "PATIENCE", 0.05)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4095 + b"\n")
    os.set_blocking(writing, True)
    with os.fdopen(writing, "w") as stream:
        yield reading, stream
    os.close(reading)


def drained(reading: int) -> list[str]:
    """What stands in a pipe, without the filling."""
    os.set_blocking(reading, False)
    data = b""
    with contextlib.suppress(BlockingIOError):
        while chunk := os.read(reading, 1 << 20):
            data += chunk
    return [line for line in data.decode().splitlines() if not line.startswith("xx")]


def test_lines_that_nobody_reads_are_left_out_and_that_is_said_later(pipe: tuple[int, io.TextIOWrapper]) -> None:
    reading, stream = pipe
    logs.configure("info", "json", stream)
    log = structlog.get_logger("pyqik")

    for number in range(3):
        log.info("lost", number=number)
    before = drained(reading)
    log.info("read")
    after = [json.loads(line) for line in drained(reading)]

    assert before == []
    assert [(line["event"], line.get("count")) for line in after] == [
        ("read", None),
        ("nobody read the log; lines are missing", 3),
    ]
    assert os.get_blocking(stream.fileno())


def test_a_line_that_was_cut_does_not_run_into_the_next(pipe: tuple[int, io.TextIOWrapper]) -> None:
    reading, stream = pipe
    os.read(reading, 8192)
    logs.configure("info", "json", stream)
    log = structlog.get_logger("pyqik")

    log.info("long", text="y" * 100_000)
    cut = drained(reading)
    log.info("next")
    after = drained(reading)

    assert cut[0].startswith('{"text":"yyy')
    assert after[0] == ""
    assert json.loads(after[1])["event"] == "next"


def test_threads_that_write_at_the_same_time_neither_lose_nor_mix_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    errors: list[BaseException] = []

    def write(thread: int) -> None:
        try:
            for number in range(5_000):
                writer.msg(b"%d %d" % (thread, number))
        except BaseException as error:
            errors.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    with path.open("w") as stream:
        writer = logs.LineWriter(stream)
        threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    sys.setswitchinterval(before)

    lines = [tuple(map(int, line.split())) for line in path.read_text().splitlines()]
    assert errors == []
    assert sorted(lines) == [(thread, number) for thread in range(6) for number in range(5_000)]


def test_a_line_that_another_thread_has_just_written_is_not_missed(tmp_path: Path) -> None:
    class Late:
        """A lock that is free only after somebody else has written everything."""

        def locked(self) -> bool:
            return False

        def __enter__(self) -> None:
            writer._lines.clear()

        def __exit__(self, *_: object) -> None:
            pass

    with (tmp_path / "log").open("w") as stream:
        writer = logs.LineWriter(stream)
        writer._writing = Late()  # type: ignore[assignment]  # the moment in which it went wrong

        writer.msg(b"line")


def test_a_job_that_is_interrupted_while_it_writes_keeps_no_line_from_anybody(tmp_path: Path) -> None:
    """At any bytecode: a lock that nobody releases, or a line that nobody writes, would be seen sooner or later."""

    def write_until_shutdown() -> None:
        with contextlib.suppress(Shutdown):
            writing.set()
            while True:
                writer.msg(b"from the job")

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    with (tmp_path / "log").open("w") as stream:
        writer = logs.LineWriter(stream)
        for number in range(3_000):
            writing = threading.Event()
            job = threading.Thread(target=write_until_shutdown)
            job.start()
            writing.wait()
            for _ in range(number % 300):
                pass
            raise_in_thread(job.ident or 0, Shutdown())
            job.join()
            writer.flush()
            assert not writer._writing.locked()
            assert not writer._lines
    sys.setswitchinterval(before)


def test_without_a_stdout_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    logs.configure("info", "auto")

    structlog.get_logger("pyqik").info("unheard")

    structlog.get_config()["logger_factory"]()._stream.close()
