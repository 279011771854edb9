"""What a person is shown of a job: Active Job without its wrapper. `compat/test_api.py` compares it with Sidekiq's."""

from __future__ import annotations

from typing import Any

import pytest

from pyqik.wire.display import WRAPPERS, display_args, display_class
from pyqik.wire.payload import Payload

MAIL = ["UserMailer", "welcome", "deliver_now"]


def wrapped(active_job: str, arguments: object, wrapper: str = WRAPPERS[0]) -> Payload:
    args = [{"job_class": active_job, "arguments": arguments}]
    return Payload({"class": wrapper, "wrapped": active_job, "args": args})


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_an_active_job_is_shown_without_its_wrapper(wrapper: str) -> None:
    payload = wrapped("Users::Import", [1, "x"], wrapper)

    assert (display_class(payload), display_args(payload)) == ("Users::Import", [1, "x"])


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        pytest.param({"_aj_globalid": "gid://app/User/1"}, "gid://app/User/1", id="an object"),
        pytest.param({"a": 1, "_aj_symbol_keys": ["a"]}, {"a": 1}, id="a hash"),
        pytest.param({"_aj_serialized": "DateSerializer", "value": "2024-02-29"}, {"value": "2024-02-29"}, id="a date"),
        pytest.param([{"b": [{"_aj_globalid": "g"}], "_aj_x": 1}], [{"b": ["g"]}], id="nested"),
    ],
)
def test_the_marks_of_active_job_are_left_out(argument: object, shown: object) -> None:
    assert display_args(wrapped("X", [argument])) == [shown]


@pytest.mark.parametrize(
    ("active_job", "arguments", "shown"),
    [
        pytest.param("ActionMailer::DeliveryJob", [*MAIL, 1, 2], [1, 2], id="before Rails 6"),
        pytest.param("ActionMailer::MailDeliveryJob", [*MAIL, {"args": [1]}], [None, [1]], id="since"),
        pytest.param(
            "ActionMailer::MailDeliveryJob",
            [*MAIL, {"params": {"a": 1, "_aj_symbol_keys": ["a"]}, "args": [1]}],
            [{"a": 1}, [1]],
            id="with params",
        ),
    ],
)
def test_a_mail_is_shown_by_its_mailer_and_method(active_job: str, arguments: list[Any], shown: list[Any]) -> None:
    payload = wrapped(active_job, arguments)

    assert (display_class(payload), display_args(payload)) == ("UserMailer#welcome", shown)


def test_a_display_class_of_its_own_wins() -> None:
    assert display_class(Payload({"class": "A", "display_class": "Nicer"})) == "Nicer"


@pytest.mark.parametrize("encrypt", [True, 0, "x"])
def test_encrypted_arguments_are_not_shown(encrypt: object) -> None:
    payload = Payload({"class": "A", "args": [1, "BAhbBkkiBnM"], "encrypt": encrypt})

    assert display_args(payload) == [1, "[encrypted data]"]
    assert payload.args == [1, "BAhbBkkiBnM"]


@pytest.mark.parametrize("args", [[], [1], [{}], [{"arguments": 5}], [None]], ids=repr)
def test_a_wrapper_around_nothing_is_shown_as_it_is(args: list[Any]) -> None:
    payload = Payload({"class": WRAPPERS[1], "wrapped": "ActionMailer::MailDeliveryJob", "args": args})

    assert (display_class(payload), display_args(payload)) == ("ActionMailer::MailDeliveryJob", args)


@pytest.mark.parametrize("arguments", [[], ["UserMailer"], [*MAIL], [*MAIL, 5]], ids=repr)
def test_a_mail_that_is_none_does_not_break_anything(arguments: list[Any]) -> None:
    payload = wrapped("ActionMailer::MailDeliveryJob", arguments)

    assert display_class(payload)
    assert display_args(payload) == arguments
