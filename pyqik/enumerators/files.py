"""Files that are read from front to back: a path, `gs://bucket/object`, or a file-like. gzip is decompressed.

They give bytes, and say what tells whether a file is still the same one. Lines and rows are no business of this module.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import stat
import tempfile
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias

from pyqik.core.errors import PyqikError, SourceChanged

#: As many bytes from the beginning of a file are looked at before anything else is done with it.
HEAD_SIZE: Final = 64 * 1024
#: As many bytes are asked for at once.
CHUNK_SIZE: Final = 64 * 1024
#: As many bytes of an object of Cloud Storage are fetched by one request.
OBJECT_CHUNK_SIZE: Final = 1024 * 1024

# No text in an encoding that is in use begins like this: the name of the file does not matter.
_GZIP: Final = b"\x1f\x8b\x08"
_GONE_OR_OVERWRITTEN: Final = (404, 412)


class Readable(Protocol):
    """A file-like: binary, or text. (None is what a raw file gives that does not wait, which is refused.)"""

    def read(self, size: int, /) -> bytes | str | None: ...


File: TypeAlias = str | os.PathLike[str] | Readable


class Stream:
    """The bytes of one opened file, decompressed. It only goes forward; whoever opens one closes it."""

    def __init__(
        self,
        name: str,
        file: Any,
        identity: dict[str, int],
        *,
        seek: Callable[[int], object] | None = None,
        owned: contextlib.ExitStack | None = None,
    ) -> None:
        self.name = name
        #: What is known without reading: numbers that tell this file from another one.
        self.identity = identity
        self._owned = owned or contextlib.ExitStack()
        self._bytes = _Bytes(name, file)
        self._read: Callable[[int], bytes] = self._bytes.read
        self._seek = seek
        self.position = 0
        try:
            if self._bytes.put_back(_filled(self._read, len(_GZIP))) == _GZIP:
                # Whether or not the file can be sought in, going forward means to decompress all that comes before.
                self._seek = None
                self._read = self._owned.enter_context(gzip.GzipFile(fileobj=self._bytes, mode="rb")).read
            if self._bytes.is_text:
                self._seek = None
            #: Its first bytes.
            self.head = self.read_fully(HEAD_SIZE)
        except BaseException as error:
            self.close()
            error.add_note(f"while reading the beginning of {name}")
            raise

    @property
    def is_text(self) -> bool:
        """Whether the file gave text, which is UTF-8 here."""
        return self._bytes.is_text

    def read(self, size: int) -> bytes:
        """Some bytes, up to `size`; none at the end."""
        data = self._read(size)
        self.position += len(data)
        return data

    def read_fully(self, size: int) -> bytes:
        """`size` bytes; fewer only at the end."""
        data = _filled(self._read, size)
        self.position += len(data)
        return data

    def forward(self, offset: int) -> None:
        """Go on at `offset`, which is not before `position`; at the end, if it is beyond."""
        # Beyond the end of a file the operating system may refuse to go.
        if self._seek is not None and offset <= self.identity.get("size", offset):
            self._seek(offset)
            self.position = offset
        else:
            while self.position < offset and self.read(min(CHUNK_SIZE, offset - self.position)):
                pass

    def close(self) -> None:
        """Close what was opened here; what was given open stays so."""
        self._owned.close()


class Input(Protocol):
    """A file that can be opened; `encoding` and `errors` are its own ones, if it has them."""

    name: str
    encoding: str | None
    errors: str

    def open(self) -> Stream: ...


def input_of(file: File) -> Input:
    """What `file` stands for. Raises: ValueError for an address without a bucket or an object; TypeError."""
    if isinstance(file, (str, os.PathLike)):
        path = os.fspath(file)
        if isinstance(path, str):
            return StoredObject(path) if path.startswith("gs://") else LocalFile(path)
    elif hasattr(file, "read"):
        return FileLike(file)
    raise TypeError(
        f"the file is of type {type(file).__name__}; write a path, gs://bucket/object, or what has a `read` method "
        "(for bytes that are in memory: io.BytesIO(...))"
    )


class LocalFile:
    """A file of this machine, opened anew each time."""

    encoding: str | None = None
    errors = "strict"

    def __init__(self, path: str) -> None:
        self.name = path

    def open(self) -> Stream:
        """Open it. Raises: OSError."""
        owned = contextlib.ExitStack()
        file = owned.enter_context(open(self.name, "rb"))  # noqa: SIM115 - the stream closes it
        return Stream(self.name, file, _size(file), seek=file.seek if file.seekable() else None, owned=owned)


class StoredObject:
    """An object of Google Cloud Storage, read by ranges of one generation of it."""

    encoding: str | None = None
    errors = "strict"

    def __init__(self, address: str) -> None:
        self.name = address
        self._bucket, _, self._object = address.removeprefix("gs://").partition("/")
        if not self._bucket or not self._object:
            raise ValueError(f"{address!r} names no object; write gs://bucket/object")

    def open(self) -> Stream:
        """Open its present generation. Raises: ImportError, FileNotFoundError, what the library raises."""
        owned = contextlib.ExitStack()
        service = owned.enter_context(contextlib.closing(self._service()))
        try:
            blob = service.bucket(self._bucket).get_blob(self._object)
            if blob is None:
                raise FileNotFoundError(f"there is no object {self.name}")
            # Raw: of an object that is stored compressed, ranges exist of its compressed bytes only.
            options = {"if_generation_match": blob.generation, "raw_download": True}
            file = owned.enter_context(blob.open("rb", chunk_size=OBJECT_CHUNK_SIZE, **options))
        except BaseException:
            owned.close()
            raise
        identity = {"size": int(blob.size), "generation": int(blob.generation)}
        return Stream(self.name, _OneGeneration(self.name, file), identity, seek=file.seek, owned=owned)

    def _service(self) -> Any:
        try:
            # Not at the top: it is an extra, and takes a second to import.
            from google.cloud import storage  # type: ignore[attr-defined, import-not-found, import-untyped, unused-ignore]
        except ImportError as error:
            raise ImportError(
                f'{self.name}: reading it needs google-cloud-storage; run: pip install "pyqik[gcs]"'
            ) from error
        return storage.Client()


class FileLike:
    """What was given open. It begins where it stands now, is not closed, and is read by one reader at a time."""

    def __init__(self, file: Any) -> None:
        name = getattr(file, "name", None)
        self.name = name if isinstance(name, str) else f"<{type(file).__name__}>"
        # Kept, as a text file closes its buffer when nobody refers to it any more.
        self._given = file
        self._file, self.encoding, self.errors = _binary(file, self.name)
        self._seekable = _can_seek(self._file)
        self._base: int = self._file.tell() if self._seekable else 0
        self._readers = 0

    def open(self) -> Stream:
        """Read from where it stood. Raises: io.UnsupportedOperation the second time, if it cannot be sought in."""
        if self._seekable:
            self._file.seek(self._base)
        elif self._readers:
            raise io.UnsupportedOperation(
                f"{self.name} has been read already and cannot be sought in; give a path, a file that can, or a new one"
            )
        self._readers += 1
        mine = self._readers

        def check() -> None:
            if mine != self._readers:
                raise io.UnsupportedOperation(
                    f"{self.name} was opened again while it was still read; give each reader a file of its own"
                )

        def seek(offset: int) -> None:
            check()
            self._file.seek(self._base + offset)

        file = _Checked(self._file, check)
        return Stream(self.name, file, _size(self._file), seek=seek if self._seekable else None)


class _Bytes:
    """The `read` of a file, giving bytes whatever that gives; and what was put back."""

    def __init__(self, name: str, file: Any) -> None:
        self._name = name
        self._file = file
        self._first = b""
        self.is_text = False

    def put_back(self, data: bytes) -> bytes:
        self._first = data
        return data

    def read(self, size: int) -> bytes:
        if self._first:
            data, self._first = self._first[:size], self._first[size:]
            return data
        read = self._file.read(size)
        if isinstance(read, bytes):
            return read
        if isinstance(read, str):
            self.is_text = True
            # A lone surrogate is then refused where its row is read, which can be named.
            return read.encode("utf-8", "surrogatepass")
        if isinstance(read, (bytearray, memoryview)):
            return bytes(read)
        raise TypeError(f"{self._name}: its `read` gave {type(read).__name__}; it must give bytes or text at once")

    def seek(self, offset: int) -> int:
        # `GzipFile` wants it, to go back, which nothing here does.
        raise io.UnsupportedOperation(f"{self._name} is only read forward")


class _Checked:
    def __init__(self, file: Any, check: Callable[[], None]) -> None:
        self._file = file
        self._check = check

    def read(self, size: int) -> Any:
        self._check()
        return self._file.read(size)


class _OneGeneration:
    def __init__(self, name: str, file: Any) -> None:
        self._name = name
        self._file = file

    def read(self, size: int) -> Any:
        try:
            return self._file.read(size)
        except Exception as error:
            if getattr(error, "code", None) in _GONE_OR_OVERWRITTEN:
                raise SourceChanged(
                    f"{self._name} was overwritten or deleted while it was read; put what it was back, or push a new "
                    "job for what it is now"
                ) from error
            raise


def _filled(read: Callable[[int], bytes], size: int) -> bytes:
    pieces = []
    while size > 0 and (data := read(size)):
        pieces.append(data)
        size -= len(data)
    return b"".join(pieces)


def _binary(file: Any, name: str) -> tuple[Any, str | None, str]:
    """The bytes of a file-like, and what its text is encoded in; None if it is not known to be text."""
    if isinstance(file, io.StringIO):
        return io.BytesIO(file.getvalue()[file.tell() :].encode("utf-8", "surrogatepass")), "utf-8", "strict"
    buffer: Any = getattr(file, "buffer", None)
    encoding = getattr(file, "encoding", None)
    if not hasattr(buffer, "read") or not isinstance(encoding, str):
        return file, None, "strict"
    if file.seekable():
        # The text may have read ahead of what it has given: its buffer is brought back to there.
        way_out = "give a path, or a file that was just opened"
        try:
            position = file.tell()
            file.seek(position)
        except OSError as error:
            raise PyqikError(f"{name}: where it stands cannot be known ({error}); {way_out}") from error
        if buffer.tell() != position:
            raise PyqikError(f"{name}: it stands in the middle of what is decoded together; {way_out}")
    return buffer, encoding, getattr(file, "errors", None) or "strict"


def _can_seek(file: Any) -> bool:
    try:
        if not file.seekable():
            return False
        file.tell()
    except (AttributeError, OSError):
        return False
    return True


def _size(file: Any) -> dict[str, int]:
    """The size of a file, where it is known without reading."""
    if isinstance(file, (io.BytesIO, tempfile.SpooledTemporaryFile)):
        # Asked for its descriptor, the latter would write itself to the disk.
        position = file.tell()
        size = file.seek(0, os.SEEK_END)
        file.seek(position)
        return {"size": size}
    try:
        status = os.fstat(file.fileno())
    except (AttributeError, OSError, TypeError):
        return {}
    return {"size": status.st_size} if stat.S_ISREG(status.st_mode) else {}
