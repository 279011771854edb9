"""The fake itself: what a test talks to, beside the client that it gives the URL to."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from tests.support.cloud_storage import batch
from tests.support.cloud_storage.api import Api, Call, Reply, Request
from tests.support.cloud_storage.behaviour import Behaviour
from tests.support.cloud_storage.errors import ApiError, Broken, Unexpected
from tests.support.cloud_storage.faults import Fault, Operation
from tests.support.cloud_storage.http import Answer, Line, Server
from tests.support.cloud_storage.objects import Buckets, Conditions, Received, StoredObject
from tests.support.cloud_storage.uploads import flipped

_NO_FAULT: Final = Fault()


class CloudStorage(Behaviour):
    """See `cloud_storage`."""

    def __init__(self) -> None:
        super().__init__()
        #: Requests that the fake does not know, and its own failures.
        self.unexpected: list[str] = []
        self._buckets = Buckets(self)
        self._line = Line(self)
        self._operations: list[Operation] = []
        self._stalls: list[threading.Event] = []
        self._lock = threading.Lock()
        self._server = Server(self._line, self._answer, self.unexpected.append)
        self.url: Final = f"http://127.0.0.1:{self._server.server_port}"
        self._api = Api(self._buckets, self, self.url)
        self._server.start()

    @property
    def operations(self) -> list[Operation]:
        """All until now, with those that were answered with an error."""
        with self._lock:
            return list(self._operations)

    @property
    def bytes_in(self) -> int:
        """Bytes of the bodies of requests."""
        return self._line.bytes_in

    @property
    def bytes_out(self) -> int:
        """Bytes of the bodies of answers."""
        return self._line.bytes_out

    def add_bucket(self, bucket: str) -> None:
        """Make an empty one, if it is not there."""
        self._buckets.add(bucket)

    def objects(self, bucket: str) -> dict[str, bytes]:
        """The bytes of all that stands there, joined."""
        return {name: stored.data for name, stored in sorted(self._buckets.objects(bucket).items())}

    def object(self, bucket: str, name: str) -> StoredObject:
        """Raises: KeyError if there is none."""
        return self._buckets.objects(bucket)[name]

    def put(
        self,
        bucket: str,
        name: str,
        data: bytes,
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
        age: float = 0.0,
    ) -> StoredObject:
        """Behind the client's back, as if it had been written `age` seconds ago."""
        received = Received()
        received.add(data)
        settings = {"contentType": content_type, "metadata": dict(metadata or {})}
        return self._buckets.place(bucket, name, received.draft(settings, {}), age)

    def remove(self, bucket: str, name: str) -> None:
        """Behind the client's back. Raises: KeyError if there is none."""
        self._buckets.remove(bucket, self.object(bucket, name).name, Conditions())

    def close(self) -> None:
        """Let go of all who wait, and end all connections and threads."""
        self._line.closing.set()
        with self._lock:
            for stall in self._stalls:
                stall.set()
        self._server.end()

    def _answer(self, request: Request) -> Answer:
        if request.method == "POST" and request.path == ["batch", "storage", "v1"]:
            try:
                requests = batch.requests_of(request)
            except (ApiError, Unexpected) as error:
                return Answer(self._refused(request, error))
            answers = [self._answer_one(each) for each in requests]
            cuts = [answer.cut_after for answer in answers if answer.cut_after is not None]
            return Answer(batch.reply_of([answer.reply for answer in answers]), min(cuts, default=None))
        return self._answer_one(request)

    def _answer_one(self, request: Request) -> Answer:
        try:
            call = self._api.call(request)
            fault = self._fault_of(call)
            return Answer(self._reply(request, call, fault), fault.cut_after)
        except Broken:
            raise
        except Exception as error:
            return Answer(self._refused(request, error))

    def _fault_of(self, call: Call) -> Fault:
        with self._lock:
            operation = Operation(call.verb, call.bucket, call.name, len(self._operations) + 1, call.step)
            self._operations.append(operation)
        return self.fault(operation) or _NO_FAULT

    def _reply(self, request: Request, call: Call, fault: Fault) -> Reply:
        if not fault.after:
            self._strike(fault)
        if fault.flip and (call.verb, call.step) not in (("put", ""), ("put", "chunk"), ("download", "")):
            raise Unexpected(f"a fault that flips a bit where there is none: {call.verb} {call.step}")
        if self.token is not None and request.headers.get("authorization") != f"Bearer {self.token}":
            raise ApiError(401, f"Anonymous caller does not have access to {call.bucket}/{call.name}.")
        request.is_flipped = fault.flip
        try:
            reply = call.act()
        except ApiError as error:
            reply = _error(error)
        if fault.after:
            self._strike(fault)
        if fault.flip and call.verb == "download":
            return Reply(reply.status, (flipped(b"".join(reply.body)),), reply.headers)
        return reply

    def _strike(self, fault: Fault) -> None:
        """Wait, and raise what is to happen, if it is now."""
        if fault.stall is not None:
            with self._lock:
                self._stalls.append(fault.stall)
                if self._line.closing.is_set():
                    raise Broken
            fault.stall.wait()
            self._line.wait(0)
        if fault.broken:
            raise Broken
        if fault.status is not None:
            raise ApiError(fault.status, f"A fault that the test asked for: {fault.status}.")

    def _refused(self, request: Request, error: Exception) -> Reply:
        if isinstance(error, ApiError):
            return _error(error)
        what = str(error) if isinstance(error, Unexpected) else "".join(traceback.format_exception(error))
        message = f"{request.method} {request.target}: {what}"
        self.unexpected.append(message)
        return _error(ApiError(501, f"The fake does not know this request: {message}"))


def _error(error: ApiError) -> Reply:
    if error.status == 304:
        return Reply(304)
    return Reply(error.status, (error.body,), {"Content-Type": "application/json; charset=UTF-8"})


@contextmanager
def cloud_storage(*buckets: str) -> Iterator[CloudStorage]:
    """A fake of Google Cloud Storage with these buckets, empty; nothing is left of it afterwards."""
    server = CloudStorage()
    try:
        for bucket in buckets:
            server.add_bucket(bucket)
        yield server
    finally:
        server.close()
