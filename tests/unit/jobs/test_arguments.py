"""Arguments that do not fit a signature are refused before the job's own frame, and never shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pyqik.core.errors import InvalidJob, WrongArguments
from pyqik.jobs.arguments import ArgumentsCheck


def none() -> None: ...
def one(order_id: int) -> None: ...
def two(order_id: int, /, copies: int) -> None: ...
def defaulted(order_id: int, copies: int = 1) -> None: ...
def optional(copies: int = 1) -> None: ...
def rest(order_id: int, *ids: int) -> None: ...
def anything(*ids: int) -> None: ...
def flagged(order_id: int, *, dry_run: bool = False, **extra: object) -> None: ...
def demanding(order_id: int, *, dry_run: bool) -> None: ...


@pytest.mark.parametrize(
    ("function", "given", "message"),
    [
        (none, 1, "Foo takes no arguments, got 1"),
        (one, 0, "Foo takes 1 argument (order_id), got 0"),
        (one, 2, "Foo takes 1 argument (order_id), got 2"),
        (two, 1, "Foo takes 2 arguments (order_id, copies), got 1"),
        (defaulted, 0, "Foo takes 1 to 2 arguments (order_id, copies=…), got 0"),
        (defaulted, 3, "Foo takes 1 to 2 arguments (order_id, copies=…), got 3"),
        (optional, 2, "Foo takes 0 to 1 argument (copies=…), got 2"),
        (rest, 0, "Foo takes at least 1 argument (order_id, *ids), got 0"),
        (flagged, 2, "Foo takes 1 argument (order_id), got 2"),
    ],
)
def test_a_wrong_number_of_arguments_is_named(function: Callable[..., Any], given: int, message: str) -> None:
    check = ArgumentsCheck.of("Foo", function)

    with pytest.raises(WrongArguments) as caught:
        check.check(["secret"] * given)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("function", "given"),
    [(none, 0), (one, 1), (two, 2), (defaulted, 1), (defaulted, 2), (optional, 0), (rest, 1), (rest, 9), (anything, 0)],
)
def test_a_fitting_number_of_arguments_passes(function: Callable[..., Any], given: int) -> None:
    ArgumentsCheck.of("Foo", function).check(["value"] * given)


def test_a_keyword_that_no_payload_can_give_is_refused_when_the_job_is_declared() -> None:
    with pytest.raises(InvalidJob, match="keyword argument 'dry_run'"):
        ArgumentsCheck.of("Foo", demanding)


def test_the_instance_of_a_method_does_not_count() -> None:
    class Owner:
        def perform(self, order_id: int) -> None: ...

    check = ArgumentsCheck.of("Foo", Owner.perform, bound=True)

    assert (check.least, check.most) == (1, 1)
