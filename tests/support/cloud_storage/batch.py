"""Several requests in one: the batch endpoint, which takes deletes here."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from email import message_from_bytes
from email.message import Message
from typing import Final

from tests.support.cloud_storage.api import Reply, Request, lowered
from tests.support.cloud_storage.errors import ApiError, Unexpected, phrase

#: Requests of one batch, at most.
MOST_CALLS: Final = 100


def requests_of(request: Request) -> list[Request]:
    """Those of a batch. Raises: ApiError, Unexpected."""
    head = f"Content-Type: {request.headers.get('content-type', '')}\r\n\r\n".encode()
    parts = message_from_bytes(head + bytes(request.body)).get_payload()
    if not isinstance(parts, list):
        raise ApiError(400, "Failed to parse batch request: it is not multipart")
    if len(parts) > MOST_CALLS:
        raise ApiError(400, f"The batch request has {len(parts)} calls; {MOST_CALLS} are allowed.")
    # The credentials are given once, for all of them.
    shared = {name: value for name, value in request.headers.items() if name == "authorization"}
    return [_request_of(part, shared) for part in parts if isinstance(part, Message)]


def _request_of(part: Message, shared: Mapping[str, str]) -> Request:
    payload = part.get_payload(decode=True)
    # Python's generator of messages, which the client uses, ends lines as it likes.
    lines = (payload if isinstance(payload, bytes) else b"").replace(b"\r\n", b"\n")
    head, _, body = lines.partition(b"\n\n")
    first, _, headers = head.partition(b"\n")
    line = re.fullmatch(rb"([A-Z]+) (\S+) HTTP/1\.1", first)
    if part.get_content_type() != "application/http" or line is None or line[1] != b"DELETE":
        raise Unexpected(f"a batch with {first!r}")
    message = message_from_bytes(headers + b"\n\n")
    return Request(line[1].decode(), line[2].decode(), {**shared, **lowered(message)}, body)


def reply_of(replies: Sequence[Reply]) -> Reply:
    """One for all of them, in their order."""
    boundary = f"batch_{secrets.token_hex(12)}"
    parts: list[bytes] = []
    for number, reply in enumerate(replies):
        body = b"".join(reply.body)
        head = {"Content-Length": str(len(body)), **reply.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        parts.append(
            f"--{boundary}\r\nContent-Type: application/http\r\nContent-ID: <response-{number}>\r\n\r\n"
            f"HTTP/1.1 {reply.status} {phrase(reply.status)}\r\n{lines}\r\n".encode()
        )
        parts += (body, b"\r\n")
    parts.append(f"--{boundary}--\r\n".encode())
    return Reply(200, (b"".join(parts),), {"Content-Type": f"multipart/mixed; boundary={boundary}"})
