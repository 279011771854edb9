"""Lines of the log: whatever is said in them, each is written, and none raises into the job that says it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from pyqik.worker import logs


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
