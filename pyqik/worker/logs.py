"""Logging of `pyqik work`: structlog, for people on a terminal and as JSON everywhere else.

Used by the command alone. A program that embeds the launcher keeps its own configuration of structlog.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger


def configure(level: str, log_format: str, stream: TextIO | None = None) -> None:
    """Send every log line of this process to `stream` (stdout), those of the logging module too.

    `level` is `debug`, `info`, `warning`, `error` or `critical`; `log_format` is `console`, `json` or `auto`.
    """
    stream = stream or sys.stdout
    number = logging.getLevelNamesMapping()[level.upper()]
    console = log_format == "console" or (log_format == "auto" and stream.isatty())
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_pid,
    ]
    after: list[Processor]
    if console:
        after = [structlog.dev.ConsoleRenderer(colors=stream.isatty())]
    else:
        after = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_to_json)]
    structlog.configure(
        processors=[*before, *after],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    # What libraries say through the logging module looks the same.
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*before, _add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *after],
        )
    )
    logging.basicConfig(level=max(number, logging.INFO), handlers=[handler], force=True)


def _add_pid(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    event["pid"] = os.getpid()
    return event


def _add_logger_name(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    record = event.get("_record")
    if record is not None:
        event["logger"] = record.name
    return event


def _to_json(event: Any, default: Callable[[Any], Any] | None = None, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()
