"""A store in Google Cloud Storage, with Google's own client. Needs `pyqik[gcs]`; it takes a second to import, so only
those do who have a `gs://` address.
"""

from __future__ import annotations

import base64
import http.client
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from typing import Any, Final

import requests
import urllib3
from google.api_core import exceptions as api_errors
from google.api_core.retry import Retry
from google.auth import exceptions as auth_errors
from google.cloud import storage  # type: ignore[attr-defined, import-untyped, unused-ignore]
from google.cloud.storage.exceptions import (  # type: ignore[import-untyped, unused-ignore]
    DataCorruption,
    InvalidResponse,
)

from pyqik.core.errors import StoreError
from pyqik.stores.checksums import crc32c, joined
from pyqik.stores.parallel import each_of
from pyqik.stores.store import Mismatch, Missing, Occupied, Part, Patience, Reads, Refused, Stored, Writes

#: Seconds to connect, and in which an answer must go on, before the attempt counts as failed.
ATTEMPT: Final = (5.0, 20.0)
#: Seconds for which it is tried to read, to list and to remove.
PATIENCE: Final = 60.0
#: Bytes that are read by one request, and requests at once.
RANGE: Final = 8 * 1024 * 1024
READERS: Final = 4
#: Objects that are removed at once.
REMOVERS: Final = 8

#: Answers that may be another one the next time.
_PASSING: Final = frozenset({408, 429, 500, 502, 503, 504})
_REFUSED: Final = frozenset({401, 403})


@cache
def _service_of(process: int) -> Any:
    # Without a project: nothing that is done here needs to know one, and not all credentials do.
    return storage.Client(project=None)


def default_service() -> Any:
    """Google's client, with the credentials of the surroundings; one for each process, as connections do not survive a
    fork. Raises: what that raises without credentials.
    """
    return _service_of(os.getpid())


class Bucket:
    """One bucket. What Google's client raises is raised as StoreError. Thread-safe."""

    def __init__(self, name: str, service: Callable[[], Any] = default_service) -> None:
        self.name: Final = name
        self._service = service

    @property
    def service(self) -> Any:
        """Google's."""
        return self._service()

    def blob(self, name: str, generation: int | None = None) -> Any:
        """An object, which need not exist."""
        return self.service.bucket(self.name).blob(name, generation=generation)

    @contextmanager
    def named(self, what: str) -> Iterator[None]:
        """What fails here is said to be this."""
        try:
            yield
        except _ERRORS as error:
            address = f"gs://{self.name}"
            reason = _reason(error, self.name)
            if _is_refused(error):
                raise Refused(f"{address}: {what}: {reason}") from error
            raise StoreError(f"{address}: {what}: {reason}") from error


class CloudStore:
    """See the module's docstring. `address` is "gs://bucket" or "gs://bucket/prefix"."""

    def __init__(self, address: str, service: Callable[[], Any] = default_service) -> None:
        bucket, _, prefix = address.removeprefix("gs://").strip("/").partition("/")
        self.bucket: Final = Bucket(bucket, service)
        self._prefix = f"{prefix}/" if prefix else ""

    @property
    def name(self) -> str:
        """Its address."""
        return f"gs://{self.bucket.name}/{self._prefix}".rstrip("/")

    @property
    def longest_join(self) -> int:
        """See `Store.longest_join`: the bytes stay where they are, however many they are."""
        return sys.maxsize

    def blob(self, part: Part) -> Any:
        """The object of a part."""
        return self.bucket.blob(self._prefix + part.name)

    def put(self, name: str, reads: Reads, size: int, crc: int, patience: Patience) -> Part:
        """See `Store.put`. The bytes are in memory while they are sent."""
        data = b"".join(reads())
        if (len(data), crc32c(data)) != (size, crc):
            raise Mismatch(f"{self.name}: the bytes of {name} are not those that were written")
        options = {"content_type": "application/octet-stream", "if_generation_match": 0, "checksum": "crc32c"}

        def write(blob: Any) -> None:
            blob.upload_from_string(data, **options, timeout=ATTEMPT, retry=retry(patience))

        return self._create(name, size, crc, write, patience)

    def join(self, name: str, parts: Sequence[Part], patience: Patience) -> Part:
        """See `Store.join`. Cloud Storage does it: no byte goes over the wire."""
        size, crc = joined((part.size, part.crc) for part in parts)

        def write(blob: Any) -> None:
            self.compose(blob, parts, 0, patience)

        return self._create(name, size, crc, write, patience)

    def compose(self, blob: Any, parts: Sequence[Part], expected: int, patience: Patience) -> None:
        """Make `blob`, of this bucket, of these parts, if it is of the generation `expected`. Raises: as the client."""
        blob.compose(
            [self.blob(part) for part in parts],
            if_generation_match=expected,
            if_source_generation_match=[part.generation for part in parts],
            timeout=ATTEMPT,
            retry=retry(patience),
        )

    def _create(self, name: str, size: int, crc: int, write: Callable[[Any], None], patience: Patience) -> Part:
        with self.bucket.named(f"{name} cannot be written"):
            blob = self.bucket.blob(self._prefix + name)
            try:
                write(blob)
            except api_errors.PreconditionFailed:
                # Perhaps it was ours, and the answer was lost.
                blob.reload(timeout=ATTEMPT, retry=retry(patience))
                if sums_of(blob) != (size, crc):
                    raise Occupied(f"{self.name}: {name} is there already, with other bytes") from None
            except api_errors.NotFound as error:
                raise _missing(self.name, name, error) from error
            if sums_of(blob) != (size, crc):
                raise Mismatch(f"{self.name}: {name} is not what was sent; the job is retried")
            return Part(name, size, crc, int(blob.generation))

    def get(self, part: Part, writes: Writes) -> None:
        """See `Store.get`. It is read in ranges, a few at a time."""
        with self.bucket.named(f"{part.name} cannot be read"):
            try:
                for data in each_of(partial(self._range, part), range(0, part.size, RANGE), READERS):
                    writes(data)
            except api_errors.NotFound as error:
                raise _missing(self.name, part.name, error) from error

    def _range(self, part: Part, start: int) -> bytes:
        end = min(start + RANGE, part.size)
        blob = self.bucket.blob(self._prefix + part.name, part.generation)
        # The checksum is that of the whole; whoever asks for the part takes it.
        data: bytes = blob.download_as_bytes(
            start=start, end=end - 1, raw_download=True, checksum=None, timeout=ATTEMPT, retry=retry(PATIENCE)
        )
        return data

    def remove(self, names: Iterable[str]) -> None:
        """See `Store.remove`."""
        with self.bucket.named("parts cannot be removed"):
            for _ in each_of(self._remove, names, REMOVERS):
                pass

    def _remove(self, name: str) -> None:
        with suppress(api_errors.NotFound):
            self.bucket.blob(self._prefix + name).delete(timeout=ATTEMPT, retry=retry(PATIENCE))

    def find(self, prefix: str) -> Iterator[Stored]:
        """See `Store.find`. In the order of the names."""
        with self.bucket.named("cannot be listed"):
            now = time.time()
            found = self.bucket.service.list_blobs(
                self.bucket.name,
                prefix=self._prefix + prefix,
                fields="items(name,size,updated),nextPageToken",
                timeout=ATTEMPT,
                retry=retry(PATIENCE),
            )
            for blob in found:
                yield Stored(blob.name.removeprefix(self._prefix), int(blob.size), now - blob.updated.timestamp())

    def check(self) -> None:
        """See `Store.check`."""
        data = b"pyqik"
        part = self.put(f".check-{secrets.token_hex(4)}", lambda: iter([data]), len(data), crc32c(data), lambda: 10.0)
        self.get(part, lambda data: None)
        self.remove([part.name])


def sums_of(blob: Any) -> tuple[int, int]:
    """Size and CRC32C of an object, as Cloud Storage has them."""
    return int(blob.size or 0), int.from_bytes(base64.b64decode(blob.crc32c or ""), "big")


def retry(patience: Patience | float) -> Any:
    """Google's policy, for so many seconds, or until nobody waits any longer."""
    left = patience if callable(patience) else lambda: patience

    def is_worthwhile(error: BaseException) -> bool:
        return _is_passing(error) and left() > 0

    return Retry(predicate=is_worthwhile, initial=0.2, maximum=8.0, timeout=max(left(), 0.1))


#: What it raises when a connection breaks; what is read raw breaks as urllib3 and Python's own client have it.
_BROKEN: Final = (
    ConnectionError,
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
)
#: What Google's client raises.
_ERRORS: Final = (
    api_errors.GoogleAPIError,
    auth_errors.GoogleAuthError,
    requests.RequestException,
    DataCorruption,
    InvalidResponse,
    OSError,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
)


def _status(error: BaseException | None) -> int:
    """The status of an answer, 0 if there was none."""
    if isinstance(error, InvalidResponse):
        return int(error.response.status_code)
    return int(getattr(error, "code", 0) or 0) if isinstance(error, api_errors.GoogleAPICallError) else 0


def _is_passing(error: BaseException) -> bool:
    if isinstance(error, auth_errors.TransportError) and error.args and isinstance(error.args[0], BaseException):
        return _is_passing(error.args[0])
    return _status(error) in _PASSING or isinstance(error, _BROKEN)


def _is_refused(error: BaseException) -> bool:
    """Whether it will be so the next time, too, until somebody changes it."""
    if isinstance(error, auth_errors.TransportError):
        return False
    return _status(error) in _REFUSED or isinstance(error, auth_errors.GoogleAuthError)


def _reason(error: BaseException, bucket: str) -> str:
    cause = error.cause if isinstance(error, api_errors.RetryError) and error.cause is not None else error
    text = str(cause).replace("\n", " ")[:300]
    if isinstance(cause, auth_errors.GoogleAuthError):
        return f"no credentials: {text}; set GOOGLE_APPLICATION_CREDENTIALS, or run as a service account"
    if _status(cause) in _REFUSED:
        return f"refused: {text}; give its service account the role Storage Object User on {bucket}"
    return text or type(cause).__name__


def _missing(address: str, name: str, error: api_errors.NotFound) -> StoreError:
    if "bucket" in str(error) and "does not exist" in str(error):
        return Refused(f"{address}: there is no such bucket; make it, or name another one")
    return Missing(f"{address}: {name} is gone; push the job again to begin anew")
