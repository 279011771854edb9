"""A store of files of jobs in which things may have been for long."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pyqik.stores.checksums import crc32c
from pyqik.stores.directory import DirectoryStore
from pyqik.stores.memory import MemoryStore
from pyqik.stores.store import Store
from pyqik.worker.upkeep.sweep import ABANDONED, MARK
from tests.support.cloud_storage import CloudStorage, cloud_storage

DATA = b"some bytes"
#: Seconds after which a sweep takes an object for left behind.
OLD = ABANDONED + 60


def part(jid: str, number: int = 1, file: str = "a.csv") -> str:
    """A name as a run gives it."""
    return f"{jid}/{file}/0123456789ab-{number:06}"


class Shelf:
    """A store, and a way to put things into it that were written long ago."""

    def __init__(self, store: Store, make_old: Callable[[str, float], None]) -> None:
        self.store = store
        self.make_old = make_old

    def put(self, *names: str, age: float = OLD) -> None:
        """Put objects there that were written so many seconds ago."""
        for name in names:
            self.store.put(name, lambda: iter([DATA]), len(DATA), crc32c(DATA), lambda: 10.0)
            self.make_old(name, age)

    @property
    def names(self) -> set[str]:
        """What stands there, but for the mark."""
        return {found.name for found in self.store.find("")} - {MARK}


def in_memory(path: Path) -> Shelf:
    store = MemoryStore()

    def make_old(name: str, age: float) -> None:
        found = store._objects[name]
        store._objects[name] = found._replace(written_at=found.written_at - age)

    return Shelf(store, make_old)


def in_a_directory(path: Path) -> Shelf:
    def make_old(name: str, age: float) -> None:
        written = (path / name).stat().st_mtime - age
        os.utime(path / name, (written, written))

    return Shelf(DirectoryStore(path), make_old)


@contextmanager
def in_the_cloud() -> Iterator[tuple[Shelf, CloudStorage]]:
    """In a fake of Cloud Storage, below a prefix."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage  # type: ignore[attr-defined, import-untyped, unused-ignore]

    from pyqik.stores.cloud import CloudStore

    with cloud_storage("parts") as server, pytest.MonkeyPatch.context() as patch:
        # A thread of its own that asks for the bucket, for the sake of tracing.
        patch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
        anybody: Any = AnonymousCredentials
        client = storage.Client("test", anybody(), client_options={"api_endpoint": server.url})

        def make_old(name: str, age: float) -> None:
            server.put("parts", f"scratch/{name}", server.object("parts", f"scratch/{name}").data, age=age)

        yield Shelf(CloudStore("gs://parts/scratch", lambda: client), make_old), server
        client.close()
        assert server.unexpected == []
