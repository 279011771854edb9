"""What a person is shown of a job: the Active Job class and its arguments instead of those of their wrapper.

Source: `display_class` and `display_args` in sidekiq/api.rb at 8.1. What is no wrapper is shown as it is.
"""

from __future__ import annotations

from typing import Any, Final

from pyqik.wire.payload import Payload

#: Rails' adapter up to 8.1 writes the first, Sidekiq's own since 8.0 the second.
WRAPPERS: Final = ("ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper", "Sidekiq::ActiveJob::Wrapper")
#: Rails before 6.0, and since: a mail is sent by a job whose first arguments are mailer, method and "deliver_now".
OLD_MAIL: Final = "ActionMailer::DeliveryJob"
MAIL: Final = "ActionMailer::MailDeliveryJob"
_MAIL_ARGUMENTS: Final = 3

_GLOBAL_ID: Final = "_aj_globalid"
_PREFIX: Final = "_aj_"


def display_class(payload: Payload) -> str:
    """The class that the Web UI shows: of a mail, mailer and method, as in `UserMailer#welcome`."""
    chosen = payload.get("display_class")
    if isinstance(chosen, str) and chosen:
        return chosen
    wrapped = _wrapped(payload)
    if wrapped in (OLD_MAIL, MAIL) and (arguments := _arguments(payload)):
        return "#".join(str(argument) for argument in arguments[:2])
    return wrapped or payload.job_class


def display_args(payload: Payload) -> list[Any]:
    """The arguments that the Web UI shows: Active Job's own, objects as their global ids, and no encrypted text."""
    args = payload.args
    if _wrapped(payload) is None:
        encrypt = payload.get("encrypt")
        # Ruby's idea of what is true: 0 is.
        hidden = encrypt is not None and encrypt is not False and args
        return [*args[:-1], "[encrypted data]"] if hidden else args
    arguments = _arguments(payload)
    if arguments is None:
        return args
    shown: list[Any] = _plain(arguments)
    if payload.get("wrapped") == OLD_MAIL:
        return shown[_MAIL_ARGUMENTS:]
    if payload.get("wrapped") == MAIL and len(shown) > _MAIL_ARGUMENTS and isinstance(shown[_MAIL_ARGUMENTS], dict):
        return [shown[_MAIL_ARGUMENTS].get(key) for key in ("params", "args")]
    return shown


def _wrapped(payload: Payload) -> str | None:
    """The Active Job class, if `payload` is that of a wrapper."""
    wrapped = payload.get("wrapped")
    return wrapped if payload.job_class in WRAPPERS and isinstance(wrapped, str) and wrapped else None


def _arguments(payload: Payload) -> list[Any] | None:
    """The arguments as Active Job wrote them."""
    first = payload.args[0] if payload.args else None
    arguments = first.get("arguments") if isinstance(first, dict) else None
    return arguments if isinstance(arguments, list) else None


def _plain(value: Any) -> Any:
    """`value` without the marks that tell Active Job how to read it. A payload is nested 100 deep at most."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_GLOBAL_ID}:
        return value[_GLOBAL_ID]
    return {key: _plain(item) for key, item in value.items() if not key.startswith(_PREFIX)}
