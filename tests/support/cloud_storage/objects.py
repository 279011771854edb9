"""The buckets and their objects, with the rules of Cloud Storage: generations, preconditions, one write a second."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import md5
from typing import Any, Final
from urllib.parse import quote

from pyqik.stores.checksums import crc32c, joined
from tests.support.cloud_storage.behaviour import Behaviour
from tests.support.cloud_storage.errors import ApiError, Unexpected

#: Sources of one compose, at most.
MOST_SOURCES: Final = 32

#: Bytes that are summed at once: `crc32c` copies what is no `bytes`.
_SUMMED: Final = 1024 * 1024
#: Of a resource in a request: what is kept as it is, and what only the service says.
_KEPT: Final = frozenset(
    {"contentType", "metadata", "cacheControl", "contentDisposition", "contentLanguage", "customTime"}
)
_SAID: Final = frozenset(
    {"kind", "id", "selfLink", "mediaLink", "name", "bucket", "generation", "metageneration", "size", "md5Hash"}
    | {"crc32c", "etag", "timeCreated", "updated", "timeStorageClassUpdated", "componentCount", "storageClass"}
)


@dataclass(frozen=True, slots=True)
class Draft:
    """What an object is made of. The bytes may be shared with other objects."""

    pieces: tuple[memoryview, ...]
    size: int
    crc: int
    md5: bytes | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: Of how many objects it is composed; 0 if it is not.
    components: int = 0

    def with_settings(self, settings: Mapping[str, Any]) -> Draft:
        """The same bytes."""
        return replace(self, settings=settings)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as it stands in a bucket."""

    bucket: str
    name: str
    generation: int
    draft: Draft
    written_at: datetime

    @property
    def data(self) -> bytes:
        """All bytes, joined."""
        return b"".join(self.draft.pieces)

    @property
    def size(self) -> int:
        """In bytes."""
        return self.draft.size

    @property
    def crc(self) -> int:
        """CRC32C."""
        return self.draft.crc

    @property
    def content_type(self) -> str | None:
        """None if nobody has said one."""
        return self.draft.settings.get("contentType")

    @property
    def metadata(self) -> dict[str, str]:
        """What its writer has noted beside it."""
        return dict(self.draft.settings.get("metadata") or {})

    @property
    def components(self) -> int:
        """Of how many objects it is composed; 0 if it is not."""
        return self.draft.components

    @property
    def hashes(self) -> dict[str, str]:
        """As they stand in `X-Goog-Hash`. A composed object has no MD5."""
        hashes = {"crc32c": base64.b64encode(self.crc.to_bytes(4, "big")).decode()}
        if self.draft.md5 is not None:
            hashes["md5"] = base64.b64encode(self.draft.md5).decode()
        return hashes

    def resource(self, url: str) -> dict[str, Any]:
        """Google's JSON of an object."""
        path = f"storage/v1/b/{self.bucket}/o/{quote(self.name, safe='')}"
        moment = self.written_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        hashes = self.hashes
        resource = {
            **self.draft.settings,
            "kind": "storage#object",
            "id": f"{self.bucket}/{self.name}/{self.generation}",
            "selfLink": f"{url}/{path}",
            "mediaLink": f"{url}/download/{path}?generation={self.generation}&alt=media",
            "name": self.name,
            "bucket": self.bucket,
            "generation": str(self.generation),
            "metageneration": "1",
            "storageClass": "STANDARD",
            "size": str(self.size),
            "crc32c": hashes["crc32c"],
            "etag": f"C{self.generation}/E=",
            "timeCreated": moment,
            "updated": moment,
            "timeStorageClassUpdated": moment,
        }
        if "md5" in hashes:
            resource["md5Hash"] = hashes["md5"]
        if self.components:
            resource["componentCount"] = self.components
        return resource


@dataclass(frozen=True, slots=True)
class Conditions:
    """Preconditions, as they stand in a request; each may be None."""

    match: int | None = None
    not_match: int | None = None
    meta_match: int | None = None
    meta_not_match: int | None = None

    @classmethod
    def of(cls, query: Mapping[str, Any], prefix: str = "if") -> Conditions:
        """Those of a query, or of a source of a compose."""
        names = ("GenerationMatch", "GenerationNotMatch", "MetagenerationMatch", "MetagenerationNotMatch")
        return cls(*(number_of(query, prefix + name) for name in names))

    def check(self, found: StoredObject | None, is_read: bool = False) -> None:
        """Raises: ApiError if one does not hold."""
        generation, meta = (0, 0) if found is None else (found.generation, 1)
        if self.match not in (None, generation) or self.meta_match not in (None, meta):
            raise ApiError(412, "At least one of the pre-conditions you specified did not hold.")
        if (self.not_match, self.meta_not_match) != (None, None) and (
            self.not_match == generation or self.meta_not_match == meta
        ):
            status = 304 if is_read else 412
            raise ApiError(status, "At least one of the pre-conditions you specified did not hold.")


class Received:
    """Bytes that come in, one after the other; kept as they are, and summed at once."""

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[memoryview] = []
        self._sums: list[tuple[int, int]] = []
        self._md5 = md5(usedforsecurity=False)

    def add(self, data: memoryview | bytes) -> None:
        """The next ones."""
        view = memoryview(data)
        if len(view):
            self.size += len(view)
            self._pieces.append(view)
            self._sums.append((len(view), _crc_of(view)))
            self._md5.update(view)

    def draft(self, settings: Mapping[str, Any], given: Mapping[str, str]) -> Draft:
        """All of them. Raises: ApiError if they are not those of the checksums that were `given`."""
        size, crc = joined(self._sums)
        digest = self._md5.digest()
        found = {"crc32c": crc.to_bytes(4, "big"), "md5": digest}
        for kind, value in given.items():
            right = base64.b64encode(found[kind]).decode()
            if value != right:
                raise ApiError(400, f'Provided {kind.upper()} hash "{value}" doesn\'t match calculated "{right}".')
        return Draft(tuple(self._pieces), size, crc, digest, settings)


class Buckets:
    """All of them. Thread-safe."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._buckets: dict[str, dict[str, StoredObject]] = {}
        self._writes: dict[tuple[str, str], float] = {}
        self._generation = 0
        self._lock = threading.RLock()

    def add(self, bucket: str) -> None:
        """Make an empty one, if it is not there."""
        with self._lock:
            self._buckets.setdefault(bucket, {})

    def objects(self, bucket: str) -> dict[str, StoredObject]:
        """A copy of what is in it. Raises: ApiError if there is no such bucket."""
        with self._lock:
            return dict(self._bucket(bucket))

    def find(self, bucket: str, name: str, conditions: Conditions, generation: int | None = None) -> StoredObject:
        """Raises: ApiError if it is not there, is of another generation, or a precondition does not hold."""
        with self._lock:
            found = self._bucket(bucket).get(name)
        if found is None or generation not in (None, found.generation):
            raise ApiError(404, f"No such object: {bucket}/{name}")
        conditions.check(found, is_read=True)
        return found

    def check(self, bucket: str, name: str, conditions: Conditions) -> None:
        """Whether it could be written now. Raises: ApiError."""
        if not 1 <= len(name.encode()) <= 1024 or name in (".", "..") or "\r" in name or "\n" in name:
            raise ApiError(400, f"Invalid object name: {name!r}")
        with self._lock:
            conditions.check(self._bucket(bucket).get(name))

    def write(self, bucket: str, name: str, draft: Draft, conditions: Conditions) -> StoredObject:
        """Put it there, in place of what is. Raises: ApiError."""
        with self._lock:
            self.check(bucket, name, conditions)
            now = self._behaviour.clock()
            if self._behaviour.one_write_a_second and now < self._writes.get((bucket, name), now - 1) + 1:
                message = f"The object {bucket}/{name} exceeded the rate limit for object mutation operations"
                raise ApiError(429, f"{message} (create, update, and delete). Please reduce your request rate.")
            self._writes[bucket, name] = now
            return self.place(bucket, name, draft)

    def place(self, bucket: str, name: str, draft: Draft, age: float = 0.0) -> StoredObject:
        """Put it there without any question, as if it had been written `age` seconds ago."""
        now = time.time()
        with self._lock:
            self._generation = max(self._generation + 1, int(now * 1_000_000))
            moment = datetime.fromtimestamp(now - age, UTC)
            written = StoredObject(bucket, name, self._generation, draft, moment)
            self._bucket(bucket)[name] = written
            return written

    def remove(self, bucket: str, name: str, conditions: Conditions, generation: int | None = None) -> None:
        """Raises: ApiError, as `find` does."""
        with self._lock:
            conditions.check(self.find(bucket, name, Conditions(), generation))
            del self._bucket(bucket)[name]

    def composed(self, bucket: str, sources: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> Draft:
        """Of objects of the same bucket, as they stand in a request. Raises: ApiError."""
        if not 1 <= len(sources) <= MOST_SOURCES:
            raise ApiError(400, f"The number of source components provided ({len(sources)}) must be 1 to 32.")
        with self._lock:
            found = [self._source(bucket, source) for source in sources]
        size, crc = joined((each.size, each.crc) for each in found)
        pieces = tuple(piece for each in found for piece in each.draft.pieces)
        return Draft(pieces, size, crc, None, settings, sum(each.components or 1 for each in found))

    def _source(self, bucket: str, source: Mapping[str, Any]) -> StoredObject:
        known = {"name", "generation", "objectPreconditions"}
        preconditions = source.get("objectPreconditions") or {}
        if not source.keys() <= known or not preconditions.keys() <= {"ifGenerationMatch"}:
            raise Unexpected(f"a source of a compose has fields that are not known: {source}")
        if not isinstance(source.get("name"), str):
            raise ApiError(400, "Required: a source object's name")
        return self.find(bucket, source["name"], Conditions.of(preconditions), number_of(source, "generation"))

    def _bucket(self, name: str) -> dict[str, StoredObject]:
        try:
            return self._buckets[name]
        except KeyError:
            raise ApiError(404, "The specified bucket does not exist.") from None


def _crc_of(view: memoryview) -> int:
    """Its CRC32C, without a copy of the whole."""
    crc = 0
    for start in range(0, len(view), _SUMMED):
        crc = crc32c(view[start : start + _SUMMED], crc)
    return crc


def settings_of(resource: Mapping[str, Any], bucket: str, name: str) -> dict[str, Any]:
    """What a writer says of an object beside its bytes. Raises: ApiError, Unexpected."""
    unknown = resource.keys() - _KEPT - _SAID
    if unknown:
        raise Unexpected(f"the object {name} is given fields that are not known: {sorted(unknown)}")
    if resource.get("name", name) != name or resource.get("bucket", bucket) != bucket:
        raise ApiError(400, "The name or the bucket in the body is not that of the request.")
    metadata = resource.get("metadata") or {}
    if not all(isinstance(value, str) for value in metadata.values()):
        raise ApiError(400, "Invalid value for: metadata: values must be strings")
    return {key: value for key, value in resource.items() if key in _KEPT and value is not None}


def number_of(values: Mapping[str, Any], name: str) -> int | None:
    """A number of a request. Raises: ApiError if it is none."""
    value = values.get(name)
    if value is None:
        return None
    if not str(value).isdecimal():
        raise ApiError(400, f"Invalid value for: {name}: {value!r} is no number")
    return int(value)


def sliced(pieces: Sequence[memoryview], start: int, end: int) -> Iterator[memoryview]:
    """The bytes from `start` up to `end`, not copied."""
    position = 0
    for piece in pieces:
        if position < end and position + len(piece) > start:
            yield piece[max(start - position, 0) : end - position]
        position += len(piece)
