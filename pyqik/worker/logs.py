"""Logging of `pyqik work`: structlog, for people on a terminal and as JSON everywhere else.

Used by the command alone. A program that embeds the launcher keeps its own configuration of structlog. Two lines for
each job are written, so what stands on their way is made for speed.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import select
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, TextIO, TypeAlias

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

#: Seconds for which a line waits for whoever should read the log; those behind it do not wait.
PATIENCE: Final = 1.0

_encode: Final = msgspec.json.Encoder(enc_hook=repr).encode


def configure(level: str, log_format: str, stream: TextIO | None = None) -> None:
    """Send every log line of this process to `stream` (stdout), those of the logging module too.

    `level` is `debug`, `info`, `warning`, `error` or `critical`; `log_format` is `console`, `json` or `auto`.
    """
    # There is none if whoever started this has closed it.
    stream = stream or sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # for good
    number = logging.getLevelNamesMapping()[level.upper()]
    console = log_format == "console" or (log_format == "auto" and stream.isatty())
    before: list[Processor] = [structlog.contextvars.merge_contextvars, _Stamp()]
    render = _Guarded(_to_console(stream) if console else _to_json)

    def render_text(logger: WrappedLogger, method: str, event: EventDict) -> str:
        line = render(logger, method, event)
        return line if isinstance(line, str) else line.decode()

    lines = LineWriter(stream)
    atexit.register(lines.flush)
    processors: list[Processor] = [*before, render]
    logger = structlog.make_filtering_bound_logger(number)
    structlog.configure(
        processors=processors,
        wrapper_class=_with_lean_info(logger, processors) if number <= logging.INFO else logger,
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
                render_text,
            ],
        )
    )
    logging.basicConfig(level=max(number, logging.INFO), handlers=[handler], force=True)


def _with_lean_info(base: type[Any], processors: Sequence[Processor]) -> type[Any]:
    """structlog's bound logger `base` with an `info` that comes to the same on a shorter way, as two lines for each job
    take it. Whoever configures other processors afterwards is not affected.
    """
    usual: Callable[..., object] = base.info

    def info(self: Any, event: str, *args: object, **fields: object) -> object:
        if args or self._processors is not processors:
            return usual(self, event, *args, **fields)
        line: Any = {**self._context, **fields, "event": event}
        try:
            for process in processors:
                line = process(self._logger, "info", line)
        except structlog.DropEvent:
            return None  # By a test that captures what is logged.
        return self._logger.info(line)

    return type(base.__name__, (base,), {"info": info})


class LineWriter:
    """What structlog calls a logger: writes each line whole and at once. A line that cannot be written is dropped, as
    there is nobody to tell; a job must not fail for it, nor a stop wait for whoever does not read.

    Threads do not wait for each other here: whoever is writing also writes what others bring meanwhile.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: deque[bytes] = deque()
        self._writing = threading.Lock()
        #: Lines that nobody has read in time, since the last that was written.
        self._dropped = 0
        self._start = b""
        try:
            self._fileno = _own_end(stream.fileno())
        except (OSError, ValueError):
            self._fileno = -1  # Not a file: a test's or a program's own stream.

    def msg(self, line: str | bytes) -> None:
        """Write `line`."""
        self._lines.append(line if isinstance(line, bytes) else line.encode("utf-8", "backslashreplace"))
        self.flush()

    def flush(self) -> None:
        """Write what is left: `Shutdown` may have ended a job's thread's turn at that."""
        # Asked again after each turn: a line that comes while the lock is held has not found it free. And only a `with`
        # leaves no moment in which `Shutdown` could find the lock taken, but nobody who would release it.
        while self._lines and not self._writing.locked():
            with self._writing:
                try:
                    self._write(self._drained())
                except (OSError, ValueError):
                    pass

    debug = info = warning = warn = error = critical = exception = fatal = log = msg

    def _drained(self) -> bytes:
        """All lines; none if whoever wrote before has taken what this thread has seen."""
        lines = []
        while self._lines:
            lines.append(self._lines.popleft())
        return b"\n".join([*lines, b""]) if lines else b""

    def _write(self, data: bytes) -> None:
        if self._fileno < 0:
            self._stream.write(data.decode())
            self._stream.flush()
            return
        rest = self._start + data
        while rest:
            try:
                rest = rest[os.write(self._fileno, rest) :]
            except BlockingIOError:
                if self._dropped or not self._reader_comes():
                    self._dropped += data.count(b"\n")
                    # What was cut in the middle must not run into the next line.
                    self._start = b"\n" if len(rest) < len(self._start + data) else self._start
                    return
        self._start = b""
        if self._dropped and data:
            # It stands before what comes next: this thread writes until there is nothing left.
            dropped, self._dropped = self._dropped, 0
            structlog.get_logger("pyqik").warning("nobody read the log; lines are missing", count=dropped)

    def _reader_comes(self) -> bool:
        poll = select.poll()
        poll.register(self._fileno, select.POLLOUT)
        return bool(poll.poll(PATIENCE * 1000))


def _own_end(fileno: int) -> int:
    """For a pipe, an end of this process's own that does not block: the mode of `fileno` is that of everybody who has
    it. Anything else as it is.
    """
    if stat.S_ISFIFO(os.fstat(fileno).st_mode):
        # Without /proc, without the right to, or without a reader: as it is.
        with contextlib.suppress(OSError):
            return os.open(f"/proc/self/fd/{fileno}", os.O_WRONLY | os.O_NONBLOCK)
    return fileno


class _Stamp:
    """Adds `level`, `timestamp` (ISO 8601, UTC, microseconds; the text of a second is made once) and `pid`."""

    def __init__(self) -> None:
        self._second: tuple[int, str] = (0, "")
        self._note_pid()
        os.register_at_fork(after_in_child=self._note_pid)

    def _note_pid(self) -> None:
        self._pid = os.getpid()

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        now = time.time()
        second, text = self._second
        if not 0.0 <= now - second < 1.0:
            second = int(now)
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = (second, text)
        event["level"] = "error" if method == "exception" else method
        event["timestamp"] = "%s.%06dZ" % (text, (now - second) * 1_000_000)  # noqa: UP031  # twice as fast
        event["pid"] = self._pid
        return event


def _add_logger_name(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    record = event.get("_record")
    if record is not None:
        event["logger"] = record.name
    return event


Renderer: TypeAlias = Callable[[WrappedLogger, str, EventDict], str | bytes]


def _to_json(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
    if "exc_info" in event:
        event = structlog.processors.format_exc_info(logger, method, dict(event))
    return _encode(event)


def _to_console(stream: TextIO) -> Renderer:
    renderer = structlog.dev.ConsoleRenderer(colors=stream.isatty())
    # It takes the event to pieces.
    return lambda logger, method, event: renderer(logger, method, dict(event))


class _Guarded:
    """A renderer that renders any event: a text that is no UTF-8, or a value that cannot show itself, must not make a
    line of the log raise into a job, or into the thread that runs it.
    """

    def __init__(self, render: Renderer) -> None:
        """`render` leaves the event as it is."""
        self._render = render

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> str | bytes:
        try:
            return self._render(logger, method, event)
        except Exception:
            tame = {_tame(name): _tame(value) for name, value in event.items() if name != "exc_info"}
            if event.get("exc_info"):
                tame["exception"] = _tame(structlog.processors.format_exc_info(logger, method, event).get("exception"))
            return self._render(logger, method, tame)


def _tame(value: object) -> Any:
    """Text that UTF-8 holds, in the place of any value but a number."""
    if value is None or type(value) in (bool, int, float):
        return value
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception as error:
        text = f"<a {type(value).__name__} whose repr raises {type(error).__name__}>"
    return text.encode("utf-8", "backslashreplace").decode()
