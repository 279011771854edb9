"""Declaring jobs: names, options, signatures, and what the engine is told of them."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

import pyqik
from pyqik.jobs.registry import registry
from pyqik.wire.payload import Payload

PAYLOAD = Payload({"class": "Foo", "jid": "a" * 24, "queue": "low", "args": [2, 3]})


def test_a_declared_function_is_called_like_any_function() -> None:
    @pyqik.job("Foo")
    def multiply(a: int, b: int) -> int:
        """Multiply."""
        return a * b

    assert multiply(2, b=3) == 6
    assert (multiply.__name__, multiply.__doc__) == ("multiply", "Multiply.")


def test_a_function_without_a_name_has_its_own() -> None:
    @pyqik.job
    def bare() -> None: ...

    @pyqik.job(queue="low")
    def with_options() -> None: ...

    assert {"bare", "with_options"} <= set(registry.names())


def test_a_declaration_keeps_the_options_that_were_given_and_no_default() -> None:
    @pyqik.job("Foo")
    def bare() -> None: ...

    @pyqik.job("Bar", queue="low", retry=0, retry_for=3600, tags=["x"], dead=False, backtrace=5, custom={"a": 1})
    def full() -> None: ...

    assert registry.get("Foo").options == {}
    assert registry.get("Bar").options == {
        "queue": "low",
        "retry": 0,
        "retry_for": 3600,
        "tags": ["x"],
        "dead": False,
        "backtrace": 5,
        "custom": {"a": 1},
    }


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"queue": ""}, "Foo: queue is ''"),
        ({"retry": "5"}, "Foo: retry is '5'"),
        ({"retry": -1}, "retry is -1"),
        ({"retry": None}, "retry is None"),
        ({"retry_for": 0}, "retry_for is 0"),
        ({"stuck_after": 0}, "stuck_after is 0"),
        ({"stuck_after": "60"}, "stuck_after is '60'; write the seconds"),
        ({"stuck_after": 2_000_000_000}, "at most 1,000,000,000"),
        ({"retry_for": 1_000_000_001}, "at most 1,000,000,000"),
        ({"retry_queue": 5}, "retry_queue is 5"),
        ({"dead": 0}, "dead is 0"),
        ({"backtrace": -1}, "backtrace is -1"),
        ({"tags": ("a",)}, "tags is"),
        ({"tags": [1]}, "tags is"),
        ({"jid": "a"}, "'jid' is not an option"),
        ({"args": []}, "'args' is not an option"),
    ],
    ids=str,
)
def test_an_option_that_cannot_be_is_refused_when_the_job_is_declared(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(pyqik.InvalidJob, match=complaint):
        pyqik.job("Foo", **options)(print)
    with pytest.raises(pyqik.InvalidJob, match=complaint):
        type("Foo", (pyqik.Job,), {"perform": lambda self: None}, **options)

    assert "Foo" not in registry.names()


def test_a_generator_is_no_job() -> None:
    with pytest.raises(pyqik.InvalidJob, match="Foo has a `yield`"):

        @pyqik.job("Foo")
        def forgetful() -> Any:
            yield


def test_a_lambda_needs_no_name_of_its_own() -> None:
    pyqik.job("Foo")(lambda: None)

    assert "Foo" in registry.names()


def test_something_without_a_name_needs_one() -> None:
    with pytest.raises(pyqik.InvalidJob, match="has no name"):
        pyqik.job(functools.partial(print, "x"))


def test_two_functions_cannot_share_a_name() -> None:
    @pyqik.job("Foo")
    def first() -> None: ...

    with pytest.raises(pyqik.InvalidJob, match=r"two jobs are called 'Foo'.*first.*second"):

        @pyqik.job("Foo")
        def second() -> None: ...


def test_a_reloaded_module_replaces_its_jobs() -> None:
    def load() -> Callable[..., Any]:
        @pyqik.job("Foo")
        def reloaded() -> None: ...

        return reloaded.perform

    load()
    newer = load()

    assert registry.get("Foo").create(PAYLOAD).perform is newer


def test_a_function_job_runs_as_it_was_written() -> None:
    @pyqik.job("Foo")
    def multiply(a: int, b: int) -> int:
        return a * b

    definition = registry.get("Foo")
    run = definition.create(PAYLOAD)

    assert not definition.is_async
    assert run.perform(2, 3) == 6
    assert run.retry_in(0, ValueError()) is None
    run.retries_exhausted(ValueError())


def test_an_async_function_is_known_as_such() -> None:
    @pyqik.job("Foo")
    async def fetch(a: int) -> int:
        return a

    assert registry.get("Foo").is_async
    assert asyncio.run(fetch(2)) == 2


def test_arguments_are_checked_before_the_jobs_own_frame() -> None:
    @pyqik.job("Foo")
    def one(order_id: int) -> None: ...

    with pytest.raises(pyqik.WrongArguments, match=r"Foo takes 1 argument \(order_id\), got 2"):
        registry.get("Foo").check_arguments(["secret", 2])


def test_the_signature_of_a_declared_function_is_its_own() -> None:
    @pyqik.job("Foo")
    def one(order_id: int) -> None: ...

    assert str(inspect.signature(one)) == "(order_id: 'int') -> 'None'"


class Resize(pyqik.Job, name="Unit::Resize", queue="images", retry=3):
    """A job with rules of its own."""

    def perform(self, image_id: int, width: int) -> tuple[str, int, int]:
        self.logger.info("resizing", width=width)
        return self.jid, image_id, width

    def retry_in(self, count: int, error: Exception) -> pyqik.RetryDecision:
        decisions: list[pyqik.RetryDecision] = [1.5, pyqik.KILL, pyqik.DISCARD, None]
        return decisions[count]


def test_each_run_of_a_class_job_has_an_instance_of_its_own() -> None:
    definition = registry.get("Unit::Resize")

    first, second = definition.create(PAYLOAD), definition.create(PAYLOAD)

    assert first is not second
    assert isinstance(first, Resize)
    assert first.payload is PAYLOAD
    assert first.perform(2, 3) == ("a" * 24, 2, 3)


def test_a_class_job_may_say_when_it_is_retried() -> None:
    run = registry.get("Unit::Resize").create(PAYLOAD)

    decisions = [run.retry_in(count, ValueError()) for count in range(4)]

    assert decisions == [1.5, pyqik.KILL, pyqik.DISCARD, None]


def test_a_class_jobs_logger_names_the_job() -> None:
    run = registry.get("Unit::Resize").create(PAYLOAD)

    with capture_logs() as lines:
        run.perform(2, 3)

    assert lines[0] == {
        "event": "resizing",
        "width": 3,
        "log_level": "info",
        "jid": "a" * 24,
        "class": "Foo",
        "queue": "low",
    }


def test_a_class_job_that_nobody_enqueued_can_be_tried_out() -> None:
    assert Resize().perform(2, 3) == ("", 2, 3)


def test_the_arguments_of_a_class_job_are_those_of_its_perform() -> None:
    with pytest.raises(pyqik.WrongArguments, match=r"Unit::Resize takes 2 arguments \(image_id, width\), got 1"):
        registry.get("Unit::Resize").check_arguments([1])


def test_a_class_job_has_its_own_name_unless_it_is_given_one() -> None:
    class Purge(pyqik.Job):
        async def perform(self) -> None: ...

    assert Purge.definition.name == "Purge"
    assert registry.get("Purge").is_async
    assert registry.get("Purge").options == {}


def test_a_class_without_perform_must_be_abstract() -> None:
    with pytest.raises(pyqik.InvalidJob, match=r"Idle has no `perform`.*abstract=True"):

        class Idle(pyqik.Job): ...


def test_subclasses_inherit_options_and_methods_and_not_the_name() -> None:
    class Low(pyqik.Job, abstract=True, queue="low", retry=1):
        def perform(self) -> str:
            return type(self).__name__

    class Quick(Low, retry=0): ...

    assert "Low" not in registry.names()
    assert registry.get("Quick").options == {"queue": "low", "retry": 0}
    assert registry.get("Quick").create(PAYLOAD).perform() == "Quick"


def test_an_abstract_class_cannot_be_enqueued() -> None:
    class Low(pyqik.Job, abstract=True): ...

    with pytest.raises(pyqik.InvalidJob, match="Low is abstract"):
        Low.perform_async()


def test_a_keyword_argument_cannot_be_enqueued() -> None:
    @pyqik.job("Foo")
    def one(order_id: int) -> None: ...

    with pytest.raises(pyqik.InvalidJob, match="keyword argument 'order_id'"):
        one.perform_async(order_id=1)


def test_arguments_that_do_not_fit_cannot_be_enqueued() -> None:
    @pyqik.job("Foo")
    def one(order_id: int) -> None: ...

    with pytest.raises(pyqik.WrongArguments):
        one.perform_async()  # type: ignore[call-arg]  # that is the test
