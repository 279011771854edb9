"""A payload as it stands in Redis, read in Sidekiq's words. Whatever stands there is read: what is no job says so."""

from __future__ import annotations

import base64
import time
import zlib
from typing import Any, Final

import msgspec

from pyqik.core.errors import InvalidPayload
from pyqik.wire import display
from pyqik.wire.payload import INVALID_PAYLOAD_CLASS, Payload, payload_of, read_object, seconds

#: Bytes of an unpacked backtrace that are read: a small text may unpack to any size.
BACKTRACE_LIMIT: Final = 10_000_000


class JobRecord:
    """A payload, as it was when it was read. Times are epoch seconds, None where the payload has none.

    It may not be a job at all: `invalid` then says why, `klass` is "pyqik::InvalidPayload", and `args` has the text.
    """

    def __init__(self, raw: bytes, queue: str | None = None) -> None:
        self.raw: Final = raw
        """The exact text."""
        fields, mistake = _read(raw)
        self.invalid: Final = mistake
        """Why it is not a job; empty for a job."""
        self._payload: Final = Payload(fields)
        self.queue: Final = queue or self._payload.queue
        """The queue in which it stands, or to which it would go."""

    @property
    def item(self) -> dict[str, Any]:
        """Every field by its name on the wire, such as `item.get("bid")`; empty if the text is no JSON object."""
        return self._payload.fields

    @property
    def klass(self) -> str:
        """The class name on the wire. That of an Active Job is its wrapper's; see `display_class`."""
        return self._payload.job_class if type(self.item.get("class")) is str else INVALID_PAYLOAD_CLASS

    @property
    def display_class(self) -> str:
        """The class as the Web UI shows it: Active Job's own, or `UserMailer#welcome`."""
        return display.display_class(self._payload) if type(self.item.get("class")) is str else self.klass

    @property
    def args(self) -> list[Any]:
        """The positional arguments."""
        return self._payload.args if self.item else [self.raw.decode("utf-8", "replace")]

    @property
    def display_args(self) -> list[Any]:
        """The arguments as the Web UI shows them: Active Job's own, and no encrypted ones."""
        return display.display_args(self._payload) if self.item else self.args

    @property
    def jid(self) -> str:
        """The job's id; empty if it has none."""
        return str(self.item.get("jid") or "")

    @property
    def tags(self) -> list[str]:
        """The tags that the Web UI shows."""
        tags = self.item.get("tags")
        return [str(tag) for tag in tags] if isinstance(tags, list) else []

    @property
    def created_at(self) -> float | None:
        """When it was pushed for the first time."""
        return seconds(self.item.get("created_at"), self.enqueued_at)

    @property
    def enqueued_at(self) -> float | None:
        """When it was put into its queue the last time."""
        return seconds(self.item.get("enqueued_at"), None)

    @property
    def latency(self) -> float:
        """Seconds since it was enqueued, by this machine's clock; 0.0 if nobody knows."""
        since = self.enqueued_at if self.enqueued_at is not None else self.created_at
        return 0.0 if since is None else time.time() - since

    @property
    def failed_at(self) -> float | None:
        """When it failed first."""
        return seconds(self.item.get("failed_at"), None)

    @property
    def retried_at(self) -> float | None:
        """When it failed last, if not for the first time."""
        return seconds(self.item.get("retried_at"), None)

    @property
    def retry_count(self) -> int | None:
        """How many retries it has had; None if it never failed, -1 if its first retry was made by hand."""
        count = self.item.get("retry_count")
        return count if type(count) is int else None

    @property
    def error_class(self) -> str | None:
        """The class of the error with which it failed last."""
        return _text(self.item.get("error_class"))

    @property
    def error_message(self) -> str | None:
        """The text of that error."""
        return _text(self.item.get("error_message"))

    @property
    def error_backtrace(self) -> list[str] | None:
        """Its backtrace, the innermost line first; None if the job's options do not ask for one."""
        return _unpacked(self.item.get("error_backtrace"))

    def __repr__(self) -> str:
        # Arguments stay out: a record in a log line or a traceback must not show a customer's data.
        return f"<{type(self).__name__} {self.klass} {self.jid}>"


def _read(raw: bytes) -> tuple[dict[str, Any], str]:
    """The fields, and why they are not those of a job."""
    fields: dict[str, Any] = {}
    try:
        fields = read_object(raw)
        payload_of(fields)
    except InvalidPayload as error:
        # What was wrapped for the dead set carries the reason with it.
        wrapped = fields.get("class") == INVALID_PAYLOAD_CLASS
        return fields, str(fields.get("error_message") if wrapped else error)
    return fields, ""


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _unpacked(value: object) -> list[str] | None:
    """A backtrace: base64 of zlib of a JSON array, in one line or several; a plain array before Sidekiq 6.0."""
    if isinstance(value, list):
        return [str(line) for line in value]
    if not isinstance(value, str):
        return None
    try:
        packed = base64.b64decode(value)
        return msgspec.json.decode(zlib.decompressobj().decompress(packed, BACKTRACE_LIMIT), type=list[str])
    except (ValueError, zlib.error, msgspec.MsgspecError):
        return None
