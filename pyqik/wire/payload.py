"""The job payload: reading it exactly, changing fields of it without touching the rest, writing a new one.

What goes back to Redis is built from the original text of every field that is not changed, so that integers beyond 64
bits, the digits of a float, unknown fields and their order survive. Source: sidekiq/job_util.rb at 6.4, 7.3 and 8.1.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar

import msgspec

from pyqik.core.errors import InvalidJob, InvalidPayload

#: Ruby parses and generates at most this many nested arrays and objects; a deeper text is "invalid JSON" to Sidekiq.
MAX_NESTING: Final = 100
#: The class name under which the dead set shows what is not a job.
INVALID_PAYLOAD_CLASS: Final = "pyqik::InvalidPayload"
#: Epoch milliseconds, some 30,000 years from now: a larger timestamp is none.
TIMESTAMP_LIMIT: Final = 1e15
#: A payload's own count is believed up to here; beyond a few thousand digits it could not be written back.
COUNT_LIMIT: Final = 2**53

_Default = TypeVar("_Default")

_decode = msgspec.json.Decoder().decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class Payload:
    """A job's hash on the wire.

    `payload["key"]`, `.get`, `in` and assignment reach every field. Client middleware may assign; what server
    middleware assigns is seen by the job of this run only (a retry is written from the original text, as Sidekiq does).
    """

    __slots__ = ("fields",)

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields

    @property
    def job_class(self) -> str:
        """The class name that Ruby put on the wire, such as `"Billing::SendReceipt"`."""
        return str(self.fields.get("class"))

    @property
    def jid(self) -> str:
        """24 hexadecimal digits, by Sidekiq's convention; empty if whoever pushed the job gave it none."""
        return str(self.fields.get("jid") or "")

    @property
    def queue(self) -> str:
        """The queue's name without its `queue:` prefix."""
        return str(self.fields.get("queue") or "default")

    @property
    def args(self) -> list[Any]:
        """The positional arguments. Missing means none; an object becomes its pairs, as Ruby's splat has it."""
        args = self.fields.get("args")
        if args is None:
            return []
        if isinstance(args, dict):
            return [[key, value] for key, value in args.items()]
        return args if isinstance(args, list) else [args]

    @property
    def display_class(self) -> str:
        """The class that logs and metrics name: Active Job's own class inside its wrapper, else `job_class`."""
        return str(self.fields.get("wrapped") or self.fields.get("class"))

    @property
    def title(self) -> str:
        """Class and jid: what a tool that shows one name for a job shows."""
        return f"{self.display_class} {self.jid}"

    def get(self, key: str, default: Any = None) -> Any:
        """The field `key`, or `default`."""
        return self.fields.get(key, default)

    def __getitem__(self, key: str) -> Any:
        return self.fields[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.fields[key] = value

    def __contains__(self, key: object) -> bool:
        return key in self.fields

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields)

    def __repr__(self) -> str:
        # Arguments stay out: a payload in a log line or a traceback must not show a customer's data.
        return f"<Payload {self.job_class} {self.jid}>"


def decode(raw: bytes) -> Payload:
    """Read a payload as it stands in Redis.

    Raises: InvalidPayload when it is not JSON (NaN, lone surrogates, invalid UTF-8 and numbers out of range included),
    nested more than 100 deep, not an object, or an object without a class name. All of the former are invalid to Ruby
    too, except numbers out of range: `1e400` is Infinity to Ruby, and an integer may have thousands of digits.
    """
    return payload_of(read_object(raw))


def payload_of(fields: dict[str, Any]) -> Payload:
    """The job that an object is. Raises: InvalidPayload when it is none."""
    if type(fields.get("class")) is not str or not fields["class"]:
        raise InvalidPayload("an object without a class name")
    if fields["class"] == INVALID_PAYLOAD_CLASS:
        raise InvalidPayload("what `dead_entry` wrapped, retried by hand; it goes back as it is")
    return Payload(fields)


def read_object(raw: bytes) -> dict[str, Any]:
    """The fields of the object that `raw` holds, whether a job or not. Raises: InvalidPayload when it holds none."""
    fields = _read(raw)
    if type(fields) is not dict:
        raise InvalidPayload(f"valid JSON, but {_shortened(fields)} where a job's object was expected")
    return fields


def seconds(value: object, default: _Default) -> float | _Default:
    """A payload's timestamp as epoch seconds: Sidekiq 8 writes integer milliseconds, 6 and 7 float seconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > TIMESTAMP_LIMIT:
        return default
    return value / 1000 if isinstance(value, int) else value


def dead_entry(raw: bytes, error: InvalidPayload, queue: str, now: float) -> bytes:
    """What stands in the dead set for `raw`, which is not a job.

    Text that Ruby cannot parse goes there unchanged, as Sidekiq does (processor.rb). Anything else that is not a job
    would break the Dead page (an error 500 for the whole page, seen with 7.3 and 8.1) or be lost by its Retry button,
    so it is wrapped into an object that has the text as its only argument.
    """
    if not _ruby_reads(raw):
        return raw
    return _encode(
        {
            "class": INVALID_PAYLOAD_CLASS,
            "args": [raw.decode()],
            "jid": f"{random.getrandbits(96):024x}",
            "queue": queue,
            "retry": False,
            "created_at": now,
            "error_class": "pyqik.InvalidPayload",
            "error_message": str(error),
            "failed_at": now,
            "retry_count": 0,
        }
    )


def _ruby_reads(raw: bytes) -> bool:
    """Whether Ruby's parser reads `raw` as anything but a job: unlike ours it takes a number of any size."""
    try:
        value = json.loads(raw.decode(), parse_int=len, parse_float=len, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return False
    if isinstance(value, dict) and type(value.get("class")) is str and value["class"]:
        return False  # A job like any other to Ruby's pages and buttons.
    return not isinstance(value, (list, dict)) or nesting(value) <= MAX_NESTING


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _read(raw: bytes) -> Any:
    try:
        value = _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidPayload(f"not valid JSON: {error}") from None
    # Counting brackets is cheap and settles nearly every payload that is not too short already; the rest is walked.
    if len(raw) > 2 * MAX_NESTING and raw.count(b"[") + raw.count(b"{") > MAX_NESTING and nesting(value) > MAX_NESTING:
        raise InvalidPayload(f"nested more than {MAX_NESTING} deep, which Ruby's JSON parser refuses")
    return value


def patch(raw: bytes, changes: Mapping[str, Any]) -> bytes:
    """`raw` with the top-level fields of `changes` set (or removed, where the value is None); every other field keeps
    its text and its place."""
    fields: dict[str, Any] = _decode_fields(raw)
    for key, value in changes.items():
        if value is None:
            fields.pop(key, None)
        else:
            fields[key] = value
    return _encode(fields)


def encode(payload: Payload) -> bytes:
    """The text of a new payload: compact, UTF-8, `/` unescaped, as Ruby writes it.

    Raises: InvalidJob when a value has no exact JSON form (see `check_json`).
    """
    for key, value in payload.fields.items():
        check_json(value, key)
    return _encode(payload.fields)


def check_json(value: object, where: str, depth: int = 1) -> None:
    """Refuse what would not come back from JSON as it was: Sidekiq's strict arguments, for every field.

    Raises: InvalidJob naming the place, the value's type and the way out.
    """
    kind = type(value)
    if kind is str:
        _check_text(value, where)  # type: ignore[arg-type]  # `kind is str` does not narrow
    elif value is None or kind is bool or kind is int:
        return
    elif kind is float:
        if not math.isfinite(value):  # type: ignore[arg-type]  # likewise
            raise InvalidJob(f"{where} is {value!r}, which JSON cannot hold; send None or a string")
    elif depth >= MAX_NESTING:
        raise InvalidJob(
            f"{where} is nested more than {MAX_NESTING} deep, which Ruby's JSON parser refuses; flatten it"
        )
    elif isinstance(value, list) and kind is list:
        for index, item in enumerate(value):
            check_json(item, f"{where}[{index}]", depth + 1)
    elif isinstance(value, dict) and kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise InvalidJob(f"{where} has the key {key!r}; JSON's keys are strings, write {str(key)!r}")
            _check_text(key, where)
            check_json(item, f"{where}[{key!r}]", depth + 1)
    else:
        raise InvalidJob(f"{where} is {_article(kind)}, which does not survive JSON unchanged; {_way_out(kind)}")


def nesting(container: list[Any] | dict[str, Any]) -> int:
    """How many arrays and objects are inside each other at the deepest place; level by level, as recursion could
    overflow."""
    depth, level = 0, [container]
    while level:
        depth += 1
        level = [
            child
            for outer in level
            for child in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(child, (dict, list))
        ]
    return depth


def _check_text(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidJob(
            f"{where} has a lone surrogate, which UTF-8 cannot hold; decode the bytes as UTF-8 first"
        ) from None


def _article(kind: type) -> str:
    return f"a {kind.__qualname__}" if kind.__module__ == "builtins" else f"a {kind.__module__}.{kind.__qualname__}"


def _way_out(kind: type) -> str:
    if issubclass(kind, (tuple, set, frozenset)):
        return "send a list"
    if issubclass(kind, (bytes, bytearray)):
        return "send text, base64 for instance"
    if hasattr(kind, "isoformat"):
        return "send value.isoformat() and parse it in the job"
    return "send numbers, strings, booleans, None, lists and dictionaries only (an id rather than an object)"


def _shortened(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 20 else f"{text[:20]}…"
