"""What code that a job calls may ask about the job."""

from __future__ import annotations

import contextvars
import threading

import pytest
from structlog.testing import capture_logs

from pyqik.core.errors import PyqikError
from pyqik.jobs import context
from pyqik.jobs.context import Context, current
from pyqik.wire.payload import Payload

PAYLOAD = Payload({"class": "Foo::Bar", "jid": "a" * 24, "queue": "low", "args": [1, "secret"]})


def test_outside_of_a_job_there_is_no_current_one() -> None:
    with pytest.raises(PyqikError, match="no job runs here"):
        current()


def test_the_current_job_is_known_until_it_ends() -> None:
    token = context.enter(Context(PAYLOAD, lambda: False))
    running = current()
    context.reset(token)

    assert (running.jid, running.job_class, running.queue, running.args) == ("a" * 24, "Foo::Bar", "low", [1, "secret"])
    assert running.payload is PAYLOAD
    with pytest.raises(PyqikError):
        current()


def test_it_asks_each_time_whether_the_process_stops() -> None:
    answers = iter([False, True])
    running = Context(PAYLOAD, lambda: next(answers))

    assert [running.stopping(), running.stopping()] == [False, True]


def test_a_copied_context_knows_the_job_in_another_thread() -> None:
    seen: list[str] = []
    token = context.enter(Context(PAYLOAD, lambda: False))
    copied = contextvars.copy_context()
    context.reset(token)

    thread = threading.Thread(target=copied.run, args=(lambda: seen.append(current().jid),))
    thread.start()
    thread.join()

    assert seen == ["a" * 24]


def test_its_logger_names_the_job_and_not_its_arguments() -> None:
    running = Context(PAYLOAD, lambda: False)

    with capture_logs() as lines:
        running.logger.info("hello", width=3)

    assert lines == [
        {"event": "hello", "width": 3, "log_level": "info", "jid": "a" * 24, "class": "Foo::Bar", "queue": "low"}
    ]
