"""Which request means what: the part of Google's JSON API that the fake knows."""

from __future__ import annotations

import json
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from tests.support.cloud_storage.behaviour import Behaviour
from tests.support.cloud_storage.errors import ApiError, Unexpected
from tests.support.cloud_storage.faults import Step, Verb
from tests.support.cloud_storage.objects import (
    Buckets,
    Conditions,
    Received,
    StoredObject,
    number_of,
    settings_of,
    sliced,
)
from tests.support.cloud_storage.uploads import Upload, flipped, hashes_of, object_of, split_related

#: They change nothing: the fake answers with all fields, without spaces.
_HARMLESS: Final = frozenset({"prettyPrint", "projection", "fields", "alt"})
_CONDITIONS: Final = frozenset(
    {"ifGenerationMatch", "ifGenerationNotMatch", "ifMetagenerationMatch", "ifMetagenerationNotMatch"}
)
_SOURCE: Final = frozenset({"sourceGeneration", *(f"ifSource{name[2:]}" for name in _CONDITIONS)})


@dataclass(eq=False)
class Request:
    """One, also of a batch."""

    method: str
    target: str
    #: By their names in lower case.
    headers: Mapping[str, str]
    body: bytes | bytearray = b""
    #: Whether the bytes that are put are to be received otherwise than they were sent.
    is_flipped: bool = False

    @property
    def path(self) -> list[str]:
        """Its segments; a name may have slashes."""
        return [unquote(segment) for segment in urlsplit(self.target).path.split("/")[1:]]

    @property
    def query(self) -> dict[str, str]:
        """What stands behind the question mark."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    def only(self, *known: str) -> dict[str, str]:
        """Its query. Raises: Unexpected if there is more in it than the fake knows."""
        query = self.query
        if unknown := query.keys() - _HARMLESS - set(known):
            raise Unexpected(f"parameters that are not known: {sorted(unknown)}")
        return query

    def received(self, data: memoryview | bytes | bytearray) -> memoryview:
        """The bytes that are put, as they have come in."""
        return flipped(data) if self.is_flipped else memoryview(data)


def lowered(headers: Message) -> dict[str, str]:
    """Headers as a request has them."""
    return {name.lower(): value for name, value in headers.items()}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; its body in pieces, which are not copied."""

    status: int
    body: Sequence[memoryview | bytes] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


class Call(NamedTuple):
    """What a request asks for, not done yet."""

    verb: Verb
    bucket: str
    name: str
    act: Callable[[], Reply]
    step: Step = ""


class Api:
    """Does what the requests ask for."""

    def __init__(self, buckets: Buckets, behaviour: Behaviour, url: str) -> None:
        self._url = url
        self._behaviour = behaviour
        self._buckets = buckets
        self._uploads: dict[str, Upload] = {}
        self._rewrites: dict[str, tuple[str, int, int]] = {}

    def call(self, request: Request) -> Call:
        """What it asks for. Raises: Unexpected."""
        match request.method, request.path:
            case "GET", ["storage", "v1", "b", bucket]:
                return Call("bucket", bucket, "", lambda: self._get_bucket(request, bucket))
            case "GET", ["storage", "v1", "b", bucket, "o"]:
                return Call("list", bucket, request.query.get("prefix", ""), lambda: self._list(request, bucket))
            case "GET", ["storage", "v1", "b", bucket, "o", name] if request.query.get("alt") != "media":
                return Call("get", bucket, name, lambda: self._get(request, bucket, name))
            case "GET", (
                ["storage", "v1", "b", bucket, "o", name] | ["download", "storage", "v1", "b", bucket, "o", name]
            ):
                return Call("download", bucket, name, lambda: self._download(request, bucket, name))
            case "DELETE", ["storage", "v1", "b", bucket, "o", name]:
                return Call("delete", bucket, name, lambda: self._delete(request, bucket, name))
            case "POST", ["storage", "v1", "b", bucket, "o", name, "compose"]:
                return Call("compose", bucket, name, lambda: self._compose(request, bucket, name))
            case "POST", ["storage", "v1", "b", source, "o", old, "rewriteTo", "b", bucket, "o", name]:
                return Call("copy", bucket, name, lambda: self._rewrite(request, source, old, bucket, name))
            case method, ["upload", "storage", "v1", "b", bucket, "o"]:
                return self._upload(request, method, bucket)
        raise Unexpected("no such method")

    def _get_bucket(self, request: Request, bucket: str) -> Reply:
        request.only()
        self._buckets.objects(bucket)
        said = {"kind": "storage#bucket", "id": bucket, "name": bucket, "projectNumber": "1", "location": "EU"}
        return _json({**said, "locationType": "multi-region", "storageClass": "STANDARD", "metageneration": "1"})

    def _list(self, request: Request, bucket: str) -> Reply:
        query = request.only("prefix", "delimiter", "pageToken", "maxResults", "startOffset", "endOffset")
        prefix, delimiter, limit = query.get("prefix", ""), query.get("delimiter", ""), number_of(query, "maxResults")
        page_size = self._behaviour.page_size
        try:
            after = urlsafe_b64decode(query.get("pageToken", "")).decode()
        except ValueError:
            raise ApiError(400, "Invalid page token") from None
        found: dict[str, StoredObject | None] = {}
        for name, stored in sorted(self._buckets.objects(bucket).items()):
            in_range = query.get("startOffset", "") <= name and ("endOffset" not in query or name < query["endOffset"])
            if name.startswith(prefix) and in_range:
                head, mark, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
                key = prefix + head + mark if mark else name
                if key > after:
                    found[key] = None if mark else stored
        keys = list(found)[: min(limit or page_size, page_size)]
        answer: dict[str, Any] = {"kind": "storage#objects"}
        if len(keys) < len(found):
            answer["nextPageToken"] = urlsafe_b64encode(keys[-1].encode()).decode()
        if items := [stored.resource(self._url) for stored in map(found.__getitem__, keys) if stored is not None]:
            answer["items"] = items
        if prefixes := [key for key in keys if found[key] is None]:
            answer["prefixes"] = prefixes
        return _json(answer)

    def _get(self, request: Request, bucket: str, name: str) -> Reply:
        query = request.only("generation", *_CONDITIONS)
        found = self._buckets.find(bucket, name, Conditions.of(query), number_of(query, "generation"))
        return self._resource(found)

    def _download(self, request: Request, bucket: str, name: str) -> Reply:
        query = request.only("generation", *_CONDITIONS)
        if query.get("alt") != "media":
            raise Unexpected("a download without alt=media")
        found = self._buckets.find(bucket, name, Conditions.of(query), number_of(query, "generation"))
        headers = {
            "Content-Type": found.content_type or "application/octet-stream",
            "X-Goog-Hash": ",".join(f"{kind}={value}" for kind, value in found.hashes.items()),
            "X-Goog-Generation": str(found.generation),
            "X-Goog-Metageneration": "1",
            "X-Goog-Storage-Class": "STANDARD",
            "X-Goog-Stored-Content-Encoding": "identity",
            "X-Goog-Stored-Content-Length": str(found.size),
        }
        asked = request.headers.get("range")
        if asked is None:
            return Reply(200, found.draft.pieces, headers)
        start, end = _range_of(asked, found.size)
        if start >= found.size:
            return Reply(
                416, (b"The requested range cannot be satisfied.",), {"Content-Range": f"bytes */{found.size}"}
            )
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{found.size}"
        return Reply(206, tuple(sliced(found.draft.pieces, start, end)), headers)

    def _delete(self, request: Request, bucket: str, name: str) -> Reply:
        query = request.only("generation", *_CONDITIONS)
        self._buckets.remove(bucket, name, Conditions.of(query), number_of(query, "generation"))
        return Reply(204)

    def _compose(self, request: Request, bucket: str, name: str) -> Reply:
        conditions = Conditions.of(request.only(*_CONDITIONS))
        body = object_of(request.body)
        if not body.keys() <= {"kind", "sourceObjects", "destination"}:
            raise Unexpected(f"a compose with fields that are not known: {sorted(body)}")
        settings = settings_of(body.get("destination") or {}, bucket, name)
        self._buckets.check(bucket, name, conditions)
        draft = self._buckets.composed(bucket, body.get("sourceObjects") or [], settings)
        return self._resource(self._buckets.write(bucket, name, draft, conditions))

    def _rewrite(self, request: Request, source: str, old: str, bucket: str, name: str) -> Reply:
        query = request.only("rewriteToken", *_CONDITIONS, *_SOURCE)
        conditions = Conditions.of(query)
        found = self._buckets.find(source, old, Conditions.of(query, "ifSource"), number_of(query, "sourceGeneration"))
        self._buckets.check(bucket, name, conditions)
        path = urlsplit(request.target).path
        done, token = 0, query.get("rewriteToken")
        if token is not None:
            begun, generation, done = self._rewrites.pop(token, ("", 0, 0))
            if (begun, generation) != (path, found.generation):
                raise ApiError(400, "Invalid rewrite token, or it is that of another rewrite.")
        chunk = self._behaviour.rewrite_chunk
        done = found.size if chunk is None else min(done + chunk, found.size)
        answer: dict[str, Any] = {
            "kind": "storage#rewriteResponse",
            "totalBytesRewritten": str(done),
            "objectSize": str(found.size),
            "done": done == found.size,
        }
        if done < found.size:
            answer["rewriteToken"] = token = secrets.token_urlsafe(16)
            self._rewrites[token] = (path, found.generation, done)
            return _json(answer)
        body = object_of(request.body)
        settings = settings_of(body, bucket, name) if body else found.draft.settings
        draft = found.draft.with_settings(settings)
        answer["resource"] = self._buckets.write(bucket, name, draft, conditions).resource(self._url)
        return _json(answer)

    def _upload(self, request: Request, method: str, bucket: str) -> Call:
        query = request.query
        kind, identity = query.get("uploadType"), query.get("upload_id", "")
        if method in ("PUT", "DELETE") and kind == "resumable":
            upload = self._uploads.get(identity)
            name = "" if upload is None else upload.name
            step: Step = "chunk"
            if method == "DELETE":
                step = "cancel"
            elif request.headers.get("content-range", "").startswith("bytes */"):
                step = "query"
            return Call("put", bucket, name, lambda: self._go_on(request, upload, step), step)
        if method != "POST" or kind not in ("media", "multipart", "resumable"):
            raise Unexpected("no such upload")
        if kind == "multipart":
            resource, media_type, data = split_related(request.headers.get("content-type", ""), request.body)
        elif kind == "media":
            media_type = request.headers.get("content-type", "application/octet-stream")
            resource, data = {}, memoryview(request.body)
        else:
            resource, data = object_of(request.body), memoryview(b"")
            media_type = request.headers.get("x-upload-content-type", "application/octet-stream")
        name = query.get("name", resource.get("name", ""))
        resource.setdefault("contentType", media_type)
        if kind == "resumable":
            return Call("put", bucket, name, lambda: self._start(request, bucket, name, resource), "start")
        return Call("put", bucket, name, lambda: self._insert(request, bucket, name, resource, data))

    def _insert(self, request: Request, bucket: str, name: str, resource: Mapping[str, Any], data: memoryview) -> Reply:
        conditions = Conditions.of(request.only("uploadType", "name", *_CONDITIONS))
        settings = settings_of(resource, bucket, name)
        self._buckets.check(bucket, name, conditions)
        received = Received()
        received.add(request.received(data))
        draft = received.draft(settings, hashes_of(resource, request.headers.get("x-goog-hash")))
        return self._resource(self._buckets.write(bucket, name, draft, conditions))

    def _start(self, request: Request, bucket: str, name: str, resource: Mapping[str, Any]) -> Reply:
        conditions = Conditions.of(request.only("uploadType", "name", *_CONDITIONS))
        settings = settings_of(resource, bucket, name)
        self._buckets.check(bucket, name, conditions)
        hashes_of(resource, None)
        total = number_of(request.headers, "x-upload-content-length")
        identity = secrets.token_urlsafe(24)
        self._uploads[identity] = Upload(bucket, name, settings, resource, conditions, total)
        query = f"uploadType=resumable&name={quote(name, safe='')}&upload_id={identity}"
        return Reply(200, (), {"Location": f"{self._url}/upload/storage/v1/b/{bucket}/o?{query}"})

    def _go_on(self, request: Request, upload: Upload | None, step: Step) -> Reply:
        request.only("uploadType", "name", "upload_id")
        if upload is None:
            raise ApiError(404, "No such upload.")
        if step == "cancel":
            upload.cancel()
            return Reply(499)
        data = request.received(request.body)
        headers = request.headers
        finished = upload.take(self._buckets, data, headers.get("content-range"), headers.get("x-goog-hash"))
        if finished is not None:
            return self._resource(finished)
        size = upload.received.size
        return Reply(308, (), {"Range": f"bytes=0-{size - 1}"} if size else {})

    def _resource(self, stored: StoredObject) -> Reply:
        return _json(stored.resource(self._url))


def _json(answer: Mapping[str, Any]) -> Reply:
    return Reply(200, (json.dumps(answer).encode(),), {"Content-Type": "application/json; charset=UTF-8"})


def _range_of(header: str, size: int) -> tuple[int, int]:
    """The first byte, and the one after the last. Raises: Unexpected."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip())
    if found is None or not (found[1] or found[2]) or (found[1] and found[2] and int(found[2]) < int(found[1])):
        raise Unexpected(f"a range that is not known: {header}")
    if not found[1]:
        return (max(size - int(found[2]), 0), size) if int(found[2]) else (size, size)
    return int(found[1]), min(int(found[2]) + 1, size) if found[2] else size
