"""Logging of `pyqik work`: structlog, for people on a terminal and as JSON everywhere else.

Used by the command alone. A program that embeds the launcher keeps its own configuration of structlog. Two lines for
each job are written, so what stands on their way is made for speed.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
import time
from collections import deque
from typing import Final, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_encode: Final = msgspec.json.Encoder(enc_hook=repr).encode


def configure(level: str, log_format: str, stream: TextIO | None = None) -> None:
    """Send every log line of this process to `stream` (stdout), those of the logging module too.

    `level` is `debug`, `info`, `warning`, `error` or `critical`; `log_format` is `console`, `json` or `auto`.
    """
    stream = stream or sys.stdout
    number = logging.getLevelNamesMapping()[level.upper()]
    console = log_format == "console" or (log_format == "auto" and stream.isatty())
    before: list[Processor] = [structlog.contextvars.merge_contextvars, _Stamp()]
    render: Processor = structlog.dev.ConsoleRenderer(colors=stream.isatty()) if console else _to_json
    lines = LineWriter(stream)
    structlog.configure(
        processors=[*before, render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *args: lines,
        cache_logger_on_first_use=True,
    )
    # What libraries say through the logging module looks the same.
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*before, _add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                render if console else _to_json_text,
            ],
        )
    )
    logging.basicConfig(level=max(number, logging.INFO), handlers=[handler], force=True)


class LineWriter:
    """What structlog calls a logger: writes each line whole and at once. A line that cannot be written is dropped, as
    there is nobody to tell; a job must not fail for it.

    Threads do not wait for each other here: whoever is writing also writes what others bring meanwhile.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: deque[bytes] = deque()
        self._writing = threading.Lock()
        try:
            self._fileno = stream.fileno()
        except (OSError, ValueError):
            self._fileno = -1  # Not a file: a test's or a program's own stream.

    def msg(self, line: str | bytes) -> None:
        """Write `line`."""
        self._lines.append(line if isinstance(line, bytes) else line.encode("utf-8", "backslashreplace"))
        # Asked again after each turn: a line that comes while the lock is held has not found it free.
        while self._lines and self._writing.acquire(False):
            try:
                self._write(self._drained())
            except (OSError, ValueError):
                pass
            finally:
                self._writing.release()

    debug = info = warning = warn = error = critical = exception = fatal = log = msg

    def _drained(self) -> bytes:
        data = self._lines.popleft() + b"\n"
        while self._lines:
            data += self._lines.popleft() + b"\n"
        return data

    def _write(self, data: bytes) -> None:
        if self._fileno < 0:
            self._stream.write(data.decode())
            self._stream.flush()
            return
        while data:
            try:
                data = data[os.write(self._fileno, data) :]
            except BlockingIOError:
                # Somebody who shares this end has made it non-blocking.
                select.select([], [self._fileno], [])


class _Stamp:
    """Adds `level`, `timestamp` (ISO 8601, UTC, microseconds; the text of a second is made once) and `pid`."""

    def __init__(self) -> None:
        self._second: tuple[int, str] = (0, "")

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        now = time.time()
        second, text = self._second
        if not 0.0 <= now - second < 1.0:
            second = int(now)
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = (second, text)
        event["level"] = "error" if method == "exception" else method
        event["timestamp"] = f"{text}.{int((now - second) * 1_000_000):06d}Z"
        event["pid"] = os.getpid()
        return event


def _add_logger_name(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    record = event.get("_record")
    if record is not None:
        event["logger"] = record.name
    return event


def _to_json(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
    if "exc_info" in event:
        event = structlog.processors.format_exc_info(logger, method, event)
    return _encode(event)


def _to_json_text(logger: WrappedLogger, method: str, event: EventDict) -> str:
    """Formatters of the logging module want text."""
    return _to_json(logger, method, event).decode()
