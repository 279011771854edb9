"""What the fake answers when it does not do what it was asked to."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Final

_REASONS: Final = {
    400: "invalid",
    401: "required",
    403: "forbidden",
    404: "notFound",
    412: "conditionNotMet",
    429: "rateLimitExceeded",
    500: "backendError",
    503: "backendError",
}


class ApiError(Exception):
    """An answer that is an error, as Cloud Storage words it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status: Final = status

    @property
    def body(self) -> bytes:
        """Google's JSON of an error."""
        message = str(self)
        reason = _REASONS.get(self.status, "error")
        errors = [{"message": message, "domain": "global", "reason": reason}]
        return json.dumps({"error": {"code": self.status, "message": message, "errors": errors}}).encode()


class Unexpected(Exception):
    """A request that the fake does not know. Nobody gets an answer that is only nearly right."""


class Broken(Exception):
    """The connection ends here, without another word."""


def phrase(status: int) -> str:
    """What stands behind a status in the first line of an answer."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Client Closed Request" if status == 499 else "Error"
