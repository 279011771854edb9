"""A fake of Cloud Storage, and Google's own client for it."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pyqik.stores.cloud import CloudStore
from tests.support.cloud_storage import CloudStorage, cloud_storage

#: Connects to one server; made anew for each call, as a client without connections would be.
Service = Callable[[], Any]


@pytest.fixture
def server() -> Iterator[CloudStorage]:
    """With two buckets. It has met nothing that the real one would not know."""
    with cloud_storage("parts", "exports") as server:
        yield server
        assert server.unexpected == []


@pytest.fixture
def service(server: CloudStorage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """Google's client."""
    # A thread of its own that asks for the bucket, for the sake of tracing.
    monkeypatch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage  # type: ignore[attr-defined, import-untyped, unused-ignore]

    client = storage.Client("test", AnonymousCredentials(), client_options={"api_endpoint": server.url})
    yield lambda: client
    client.close()
    with warnings.catch_warnings():
        # A connection that broke is left by it to whoever collects the garbage.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def cloud(service: Service) -> CloudStore:
    """A store in one of the buckets."""
    return CloudStore("gs://parts/scratch", service)
