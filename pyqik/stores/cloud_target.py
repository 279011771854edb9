"""Publishing to Google Cloud Storage: composed there of parts that are there, or uploaded."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any, Final

from google.api_core import exceptions as api_errors

from pyqik.core.errors import StoreError
from pyqik.stores.cloud import ATTEMPT, Bucket, CloudStore, default_service, retry, sums_of
from pyqik.stores.store import Mismatch, Part
from pyqik.stores.targets import Finished, Published

__all__ = ["CloudStore", "CloudTarget"]

#: Seconds for which each step is tried.
PATIENCE: Final = 120.0
#: Bytes that are uploaded by one request, if the file is not in Cloud Storage yet.
CHUNK: Final = 8 * 1024 * 1024


class CloudTarget:
    """An object, "gs://bucket/name". `store` is where the parts of files are, if that is in Cloud Storage, too."""

    def __init__(self, url: str, store: CloudStore | None, service: Callable[[], Any] = default_service) -> None:
        bucket, _, name = url.removeprefix("gs://").partition("/")
        if not bucket or not name:
            raise ValueError(f"{url!r} names no object; write gs://bucket/object")
        self._url = url
        self._name = name
        self._bucket = store.bucket if store is not None and store.bucket.name == bucket else Bucket(bucket, service)
        self._store = store

    @property
    def takes_parts(self) -> bool:
        """See `Target.takes_parts`."""
        return self._store is not None

    def generation(self) -> int:
        """As Cloud Storage numbers what is written there."""
        with self._bucket.named(f"{self._name} cannot be published"):
            try:
                return int(self._read().generation)
            except api_errors.NotFound:
                return 0

    def write(self, finished: Finished, expected: int) -> Published:
        """See `Target.write`. The new object is compared with the checksum of what was written, byte for byte."""
        with self._bucket.named(f"{self._name} cannot be published"):
            blob = self._bucket.blob(self._name)
            blob.content_type = finished.content_type or "application/octet-stream"
            blob.metadata = dict(finished.metadata)
            try:
                self._write(blob, finished, expected)
            except api_errors.PreconditionFailed:
                blob = self._ours(finished)
            if sums_of(blob) != (finished.size, finished.crc):
                blob.delete(if_generation_match=blob.generation, timeout=ATTEMPT, retry=retry(PATIENCE))
                raise Mismatch(f"{self._url}: what was published is not what was written, and was removed again")
            return Published(int(blob.generation), finished.size, finished.crc)

    def _write(self, blob: Any, finished: Finished, expected: int) -> None:
        if self._store is None or not finished.parts:
            file = _Chunks(finished.reads())
            blob.chunk_size = CHUNK
            blob.upload_from_file(
                file,
                size=finished.size,
                content_type=blob.content_type,
                if_generation_match=expected,
                checksum="crc32c",
                timeout=ATTEMPT,
                retry=retry(PATIENCE),
            )
        elif self._store.bucket is self._bucket:
            self._store.compose(blob, finished.parts, expected, lambda: PATIENCE)
        else:
            self._copy(blob, self._whole(self._store, finished), expected)

    def _whole(self, store: CloudStore, finished: Finished) -> Part:
        """In the bucket of the parts: only there can they be composed."""
        if len(finished.parts) == 1:
            return finished.parts[0]
        return store.join(f"{finished.parts[-1].name}-whole", finished.parts, lambda: PATIENCE)

    def _copy(self, blob: Any, part: Part, expected: int) -> None:
        """From bucket to bucket; no byte goes over the wire. A large object takes several requests."""
        assert self._store is not None
        token = None
        while True:
            token, _, _ = blob.rewrite(
                self._store.blob(part),
                token=token,
                if_generation_match=expected,
                if_source_generation_match=part.generation,
                timeout=ATTEMPT,
                retry=retry(PATIENCE),
            )
            if token is None:
                return

    def _ours(self, finished: Finished) -> Any:
        """What stands there, if it is this very file: then it was we who wrote it, and the answer was lost."""
        try:
            blob = self._read()
        except api_errors.NotFound:
            raise self._taken() from None
        if sums_of(blob) != (finished.size, finished.crc):
            raise self._taken()
        return blob

    def _taken(self) -> StoreError:
        return StoreError(
            f"{self._url}: somebody else has written or removed it since it was to be published; "
            "see what stands there, remove it, and push the job again"
        )

    def _read(self) -> Any:
        blob = self._bucket.blob(self._name)
        blob.reload(timeout=ATTEMPT, retry=retry(PATIENCE))
        return blob


class _Chunks(io.RawIOBase):
    """A file that gives the bytes of a generator, once."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""
        self._position = 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        got = [self._rest]
        length = len(self._rest)
        while (size < 0 or length < size) and (chunk := next(self._chunks, b"")):
            got.append(chunk)
            length += len(chunk)
        data = b"".join(got)
        data, self._rest = (data, b"") if size < 0 else (data[:size], data[size:])
        self._position += len(data)
        return data
