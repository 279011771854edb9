"""A store in a directory that the workers share: NFS, EFS, or the disk of the one machine that there is."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Final

from pyqik.core.errors import StoreError
from pyqik.stores.checksums import crc32c, joined
from pyqik.stores.store import Mismatch, Missing, Occupied, Part, Patience, Reads, Stored, Writes

#: Bytes that are read at once.
CHUNK: Final = 1024 * 1024
#: See `Store.longest_join`: small parts are gathered, and those that are full are not copied.
LONGEST_JOIN: Final = 4 * 1024 * 1024

#: Ends the name of a file that is not whole yet.
_UNFINISHED: Final = ".part"


class DirectoryStore:
    """See the module's docstring. The directory is made when it is first written to."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = Path(root).absolute()

    @property
    def name(self) -> str:
        """Its path."""
        return str(self._root)

    @property
    def longest_join(self) -> int:
        """See `Store.longest_join`."""
        return LONGEST_JOIN

    def put(self, name: str, reads: Reads, size: int, crc: int, patience: Patience) -> Part:
        """See `Store.put`. It is written beside its place, and then moved there in one instant."""
        path = self._path(name)
        beside = path.with_name(f".{path.name}-{secrets.token_hex(4)}{_UNFINISHED}")
        with self._named(f"{name} cannot be written"):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                _write(beside, reads(), size, crc, self.name)
                try:
                    # Unlike `rename` it leaves alone what stands there.
                    os.link(beside, path)
                except FileExistsError:
                    if _sums(path) != (size, crc):
                        raise Occupied(f"{self.name}: {name} is there already, with other bytes") from None
            finally:
                with suppress(FileNotFoundError):
                    beside.unlink()
        return Part(name, size, crc)

    def join(self, name: str, parts: Sequence[Part], patience: Patience) -> Part:
        """See `Store.join`."""
        size, crc = joined((part.size, part.crc) for part in parts)
        return self.put(name, lambda: chain.from_iterable(map(self._read, parts)), size, crc, patience)

    def get(self, part: Part, writes: Writes) -> None:
        """See `Store.get`."""
        for data in self._read(part):
            writes(data)

    def _read(self, part: Part) -> Iterator[bytes]:
        with self._named(f"{part.name} cannot be read"):
            try:
                with open(self._path(part.name), "rb") as file:
                    while data := file.read(CHUNK):
                        yield data
            except FileNotFoundError:
                raise Missing(f"{self.name}: {part.name} is gone; push the job again to begin anew") from None

    def remove(self, names: Iterable[str]) -> None:
        """See `Store.remove`; directories that have become empty go, too."""
        with self._named("parts cannot be removed"):
            for name in names:
                path = self._path(name)
                with suppress(FileNotFoundError):
                    path.unlink()
                for parent in path.parents:
                    if parent == self._root:
                        break
                    try:
                        parent.rmdir()
                    except OSError:  # It is not empty, or somebody else has removed it.
                        break

    def find(self, prefix: str) -> Iterator[Stored]:
        """See `Store.find`. What is not whole yet is found, too."""
        now = time.time()
        with self._named("cannot be listed"):
            for directory, _, files in os.walk(self._path(prefix) if prefix.endswith("/") else self._root):
                for file in files:
                    path = Path(directory, file)
                    name = path.relative_to(self._root).as_posix()
                    if name.startswith(prefix):
                        with suppress(FileNotFoundError):
                            status = path.stat()
                            yield Stored(name, status.st_size, now - status.st_mtime)

    def check(self) -> None:
        """See `Store.check`."""
        name = f".check-{secrets.token_hex(4)}"
        self.put(name, lambda: iter([b"pyqik"]), 5, crc32c(b"pyqik"), lambda: 10.0)
        self.remove([name])

    def _path(self, name: str) -> Path:
        """Below the directory, whatever the name is."""
        if any(part in ("", ".", "..") for part in name.removesuffix("/").split("/")):
            raise StoreError(f"{self.name}: {name!r} is no name of a part")
        return self._root / name

    @contextmanager
    def _named(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"{self.name}: {what}: {error.strerror or error}") from error


def _write(path: Path, data: Iterable[bytes], size: int, crc: int, store: str) -> None:
    written = found = 0
    with open(path, "xb") as file:
        for chunk in data:
            file.write(chunk)
            written, found = written + len(chunk), crc32c(chunk, found)
        file.flush()
        os.fsync(file.fileno())
    if (written, found) != (size, crc):
        raise Mismatch(f"{store}: the bytes of {path.name} are not those that were written")


def _sums(path: Path) -> tuple[int, int]:
    size = crc = 0
    with open(path, "rb") as file:
        while data := file.read(CHUNK):
            size, crc = size + len(data), crc32c(data, crc)
    return size, crc
