"""A strict fake of Google Cloud Storage, over HTTP, for Google's own client.

    with cloud_storage("bucket") as server:
        client = storage.Client("test", AnonymousCredentials(), client_options={"api_endpoint": server.url})

What it does not know it answers with 501, and remembers in `server.unexpected`.
"""

from tests.support.cloud_storage.faults import (
    Fault,
    FaultFunction,
    Operation,
    Step,
    Verb,
    always,
    any_of,
    first,
    once,
)
from tests.support.cloud_storage.objects import StoredObject
from tests.support.cloud_storage.server import CloudStorage, cloud_storage

__all__ = [
    "CloudStorage",
    "Fault",
    "FaultFunction",
    "Operation",
    "Step",
    "StoredObject",
    "Verb",
    "always",
    "any_of",
    "cloud_storage",
    "first",
    "once",
]
