"""How bytes come in: in one request with their metadata, or chunk by chunk in a session that can be resumed."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.support.cloud_storage.errors import ApiError
from tests.support.cloud_storage.objects import Buckets, Conditions, Received, StoredObject

#: All chunks but the last are of a multiple of so many bytes.
GRAIN: Final = 256 * 1024

_RANGE: Final = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


def flipped(data: memoryview | bytes | bytearray) -> memoryview:
    """A copy in which the lowest bit of the byte in the middle is another one."""
    copy = bytearray(data)
    if copy:
        copy[len(copy) // 2] ^= 1
    return memoryview(copy)


def split_related(content_type: str, body: bytes | bytearray) -> tuple[dict[str, Any], str, memoryview]:
    """The metadata, the content type and the bytes of a multipart/related body. Raises: ApiError."""
    boundary = re.fullmatch(r"""multipart/related;\s*boundary=["']?([^"']+?)["']?""", content_type)
    if boundary is None:
        raise ApiError(400, f"Bad content type of a multipart upload: {content_type}")
    mark = b"--" + boundary[1].encode()
    end = len(body) - len(mark) - 4
    tail = bytes(body[max(end, 0) :])
    first_head = body.find(b"\r\n\r\n")
    second = body.find(b"\r\n" + mark + b"\r\n", first_head)
    second_head = body.find(b"\r\n\r\n", second + 2)
    if (
        not body.startswith(mark + b"\r\n")
        or -1 in (first_head, second, second_head)
        or second_head + 4 > end
        or tail != b"\r\n" + mark + b"--"
    ):
        raise ApiError(400, "Malformed multipart body.")
    found = re.search(rb"(?i)\r\ncontent-type: *([^\r]*)", bytes(body[second + 2 : second_head]))
    media_type = found[1].decode() if found else "application/octet-stream"
    return object_of(body[first_head + 4 : second]), media_type, memoryview(body)[second_head + 4 : end]


def object_of(body: bytes | bytearray) -> dict[str, Any]:
    """A JSON object, empty if there is none. Raises: ApiError."""
    try:
        value = json.loads(body) if body else {}
    except ValueError as error:
        raise ApiError(400, f"Parse Error: {error}") from error
    if not isinstance(value, dict):
        raise ApiError(400, "Parse Error: the body is no object")
    return value


def hashes_of(resource: Mapping[str, Any], header: str | None) -> dict[str, str]:
    """The checksums that a client gives with its bytes: by name, in base64. Raises: ApiError."""
    names = {"crc32c": "crc32c", "md5Hash": "md5"}
    given = {kind: resource[name] for name, kind in names.items() if resource.get(name) is not None}
    for entry in header.split(",") if header else []:
        kind, _, value = entry.strip().partition("=")
        if kind not in names.values() or given.setdefault(kind, value) != value:
            raise ApiError(400, f"Invalid X-Goog-Hash: {header}")
    return given


@dataclass(eq=False)
class Upload:
    """A session. Any thread may go on with it: of an attempt that was given up, the request may come in late."""

    bucket: str
    name: str
    settings: Mapping[str, Any]
    resource: Mapping[str, Any]
    conditions: Conditions
    #: Bytes of the whole, if the client has said so.
    total: int | None
    received: Received = field(default_factory=Received)
    finished: StoredObject | None = None
    is_cancelled: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(
        self, buckets: Buckets, data: memoryview, content_range: str | None, hashes: str | None
    ) -> StoredObject | None:
        """The next chunk, or a question for the status; the object, if that was the last one. Raises: ApiError."""
        with self._lock:
            if self.is_cancelled:
                raise ApiError(499, "The upload was cancelled.")
            if self.finished is not None:
                return self.finished
            start, total = self._place(content_range, len(data))
            if total is not None:
                if self.total not in (None, total):
                    raise ApiError(400, f"The upload is of {self.total} bytes, not of {total}.")
                self.total = total
            if start is not None:
                self._add(data, start)
            if content_range != "bytes */*" and self.received.size == self.total:
                draft = self.received.draft(self.settings, hashes_of(self.resource, hashes))
                self.finished = buckets.write(self.bucket, self.name, draft, self.conditions)
                self.received = Received()
            return self.finished

    def cancel(self) -> None:
        """No chunk is taken any more."""
        with self._lock:
            self.is_cancelled = True
            self.received = Received()

    def _place(self, content_range: str | None, size: int) -> tuple[int | None, int | None]:
        """Where the bytes begin, None if it is only a question, and how many there are in all, as far as is said."""
        if content_range is None:
            return 0, size
        found = _RANGE.fullmatch(content_range)
        if found is None:
            raise ApiError(400, f"Invalid Content-Range: {content_range}")
        total = None if found[3] == "*" else int(found[3])
        if found[1] is None:
            if size:
                raise ApiError(400, f"Bytes were sent with Content-Range: {content_range}")
            return None, total
        start, end = int(found[1]), int(found[2]) + 1
        if end - start != size or (total is not None and end > total):
            raise ApiError(400, f"{size} bytes were sent with Content-Range: {content_range}")
        return start, total

    def _add(self, data: memoryview, start: int) -> None:
        """What is there already is left out, as Cloud Storage does."""
        persisted = self.received.size
        end = start + len(data)
        if start > persisted:
            raise ApiError(503, f"Bytes from {start} on were sent, but only {persisted} are there.")
        if self.total is not None and end > self.total:
            raise ApiError(400, f"Bytes up to {end} were sent, but the upload is of {self.total}.")
        if end != self.total and len(data) % GRAIN:
            raise ApiError(400, f"A chunk of {len(data)} bytes, no multiple of {GRAIN}, is not the last one.")
        self.received.add(data[min(persisted - start, len(data)) :])
