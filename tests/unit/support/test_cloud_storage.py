"""The fake of Cloud Storage, tried with Google's own client: each of its rules, and each of its faults."""

from __future__ import annotations

import base64
import io
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import md5
from typing import Any

import pytest

from pyqik.stores.checksums import crc32c
from tests.support.cloud_storage import CloudStorage, Fault, Operation, always, any_of, cloud_storage, first, once
from tests.support.wait import wait_until

storage = pytest.importorskip("google.cloud.storage")
errors = pytest.importorskip("google.api_core.exceptions")
auth_errors = pytest.importorskip("google.auth.exceptions")
credentials = pytest.importorskip("google.auth.credentials")
oauth2 = pytest.importorskip("google.oauth2.credentials")
media_errors = pytest.importorskip("google.cloud.storage.exceptions")
requests = pytest.importorskip("requests")
retries = pytest.importorskip("google.api_core.retry")

MEBI = 1024 * 1024
GRAIN = 256 * 1024
#: More than the client sends in one request.
LARGE = os.urandom(9 * MEBI)
JSON = "application/json"


@pytest.fixture(autouse=True)
def no_questions_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client asks for each bucket in a thread of its own, for its traces, even if nobody traces."""
    monkeypatch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")


@pytest.fixture
def server() -> Iterator[CloudStorage]:
    with cloud_storage("one", "two") as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_unexpected(request: pytest.FixtureRequest, server: CloudStorage) -> Iterator[None]:
    """But what a test expects, and clears."""
    yield
    assert server.unexpected == []


def client_of(server: CloudStorage, token: str | None = None) -> Any:
    who = oauth2.Credentials(token) if token else credentials.AnonymousCredentials()
    return storage.Client(project="test", credentials=who, client_options={"api_endpoint": server.url})


@pytest.fixture
def client(server: CloudStorage) -> Iterator[Any]:
    client = client_of(server)
    yield client
    client.close()


@pytest.fixture
def bucket(client: Any) -> Any:
    return client.bucket("one")


@pytest.fixture
def http(server: CloudStorage) -> Iterator[Callable[..., Any]]:
    """What the client does not send: `http(method, path, ...)`, as `requests` has it."""
    with requests.Session() as session:
        yield lambda method, path, **more: session.request(method, server.url + path, **more)


def sum_of(data: bytes) -> str:
    return base64.b64encode(crc32c(data).to_bytes(4, "big")).decode()


def patient(predicate: Callable[[BaseException], bool] = lambda error: True) -> Any:
    """Tries again at once, for ten seconds."""
    return retries.Retry(predicate=predicate, initial=0.001, maximum=0.001, timeout=10)


def put(bucket: Any, name: str, data: bytes = b"some bytes", **options: Any) -> Any:
    blob = bucket.blob(name)
    blob.upload_from_string(data, **{"checksum": "crc32c", "retry": None, **options})
    return blob


def send(bucket: Any, name: str, data: bytes = LARGE, chunk: int = 4 * MEBI, **options: Any) -> Any:
    """By a session."""
    blob = bucket.blob(name, chunk_size=chunk)
    blob.upload_from_file(io.BytesIO(data), size=len(data), **{"checksum": "crc32c", "retry": None, **options})
    return blob


def refusal(status: int) -> Any:
    """The client's exception for an answer that is an error."""
    return pytest.raises(errors.exception_class_for_http_status(status))


class TestObjects:
    def test_what_was_put_is_there_with_all_that_is_said_of_it(self, server: CloudStorage, bucket: Any) -> None:
        blob = bucket.blob("a name/with everything?#%")
        blob.metadata = {"who": "me"}
        blob.upload_from_string(b"bytes", content_type="text/csv", checksum="crc32c")

        found = bucket.get_blob(blob.name)

        assert (found.size, found.crc32c, found.content_type) == (5, sum_of(b"bytes"), "text/csv")
        assert found.md5_hash == base64.b64encode(md5(b"bytes").digest()).decode()
        assert (found.metadata, found.component_count, found.metageneration) == ({"who": "me"}, None, 1)
        assert found.generation == blob.generation == server.object("one", blob.name).generation
        assert found.id == f"one/{blob.name}/{blob.generation}"
        assert abs(found.updated.timestamp() - time.time()) < 60
        assert found.time_created == found.updated
        assert found.download_as_bytes() == b"bytes"
        assert server.objects("one") == {blob.name: b"bytes"}

    def test_generations_grow(self, server: CloudStorage, bucket: Any) -> None:
        generations = [put(bucket, name).generation for name in ("a", "b", "a")]
        generations.append(server.put("two", "a", b"").generation)

        assert sorted(set(generations)) == generations

    def test_an_empty_object_is_one(self, bucket: Any) -> None:
        blob = put(bucket, "empty", b"")

        assert (blob.size, blob.crc32c, blob.download_as_bytes()) == (0, "AAAAAA==", b"")

    def test_what_is_not_there_is_not_found(self, client: Any, bucket: Any) -> None:
        nowhere = client.bucket("three")

        assert bucket.get_blob("a") is None
        for act in (bucket.blob("a").download_as_bytes, bucket.blob("a").delete, bucket.blob("a").reload):
            with pytest.raises(errors.NotFound, match="404"):
                act()
        for act in (lambda: put(nowhere, "a"), lambda: list(nowhere.list_blobs()), nowhere.reload):
            with pytest.raises(errors.NotFound, match="bucket does not exist"):
                act()

    def test_a_bucket_says_who_it_is(self, client: Any, bucket: Any) -> None:
        assert client.get_bucket("one").name == "one"
        assert bucket.exists()
        assert not client.bucket("three").exists()

    def test_an_object_that_is_removed_is_gone(self, server: CloudStorage, bucket: Any) -> None:
        blob = put(bucket, "a")
        server.put("one", "b", b"")

        blob.delete()
        server.remove("one", "b")

        assert server.objects("one") == {}
        with pytest.raises(KeyError):
            server.object("one", "a")

    def test_things_change_behind_the_clients_back(self, server: CloudStorage, bucket: Any) -> None:
        server.put("one", "a", b"other", content_type="text/plain", metadata={"x": "y"}, age=3600)

        found = bucket.get_blob("a")

        assert (found.download_as_bytes(), found.content_type, found.metadata) == (b"other", "text/plain", {"x": "y"})
        assert 3500 < time.time() - found.updated.timestamp() < 3700

    @pytest.mark.parametrize("name", [".", "..", "a\nb", "ü" * 600])
    def test_not_every_name_is_one(self, bucket: Any, name: str) -> None:
        with refusal(400):
            put(bucket, name)

    def test_the_client_finds_it_in_its_environment(
        self, server: CloudStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        client = storage.Client()

        put(client.bucket("one"), "a")
        send(client.bucket("one"), "b")
        data = client.bucket("one").blob("b").download_as_bytes()
        client.close()

        assert data == LARGE
        assert list(server.objects("one")) == ["a", "b"]


class TestPreconditions:
    def test_a_write_that_must_be_the_first(self, server: CloudStorage, bucket: Any) -> None:
        put(bucket, "a", b"1", if_generation_match=0)

        with pytest.raises(errors.PreconditionFailed, match="did not hold"):
            put(bucket, "a", b"2", if_generation_match=0)
        assert server.objects("one") == {"a": b"1"}

    @pytest.mark.parametrize("write", [put, send])
    def test_a_write_in_place_of_a_certain_generation(self, bucket: Any, write: Callable[..., Any]) -> None:
        old = put(bucket, "a")
        new = write(bucket, "a", if_generation_match=old.generation)

        for options in (
            {"if_generation_match": old.generation},
            {"if_generation_not_match": new.generation},
            {"if_metageneration_match": 2},
        ):
            with refusal(412):
                write(bucket, "a", **options)
        with refusal(412):
            write(bucket, "b", if_generation_match=new.generation)
        with refusal(412):
            write(bucket, "b", if_generation_not_match=0)
        write(bucket, "a", if_generation_not_match=old.generation, if_metageneration_match=1)

    def test_a_session_is_refused_at_its_start_and_at_its_end(self, server: CloudStorage, bucket: Any) -> None:
        def meanwhile(operation: Operation) -> None:
            if operation.step == "chunk" and "a" not in server.objects("one"):
                server.put("one", "a", b"faster")

        server.fault = meanwhile
        with refusal(412):
            send(bucket, "a", if_generation_match=0)
        steps = [operation.step for operation in server.operations]
        with refusal(412):
            send(bucket, "a", if_generation_match=0)

        assert steps == ["start", "chunk", "chunk", "chunk"]
        assert [operation.step for operation in server.operations[4:]] == ["start"]
        assert server.objects("one") == {"a": b"faster"}

    def test_reads(self, bucket: Any) -> None:
        blob = put(bucket, "a")
        other = blob.generation + 1

        for act in (bucket.blob("a").reload, bucket.blob("a").download_as_bytes):
            act(if_generation_match=blob.generation)
            act(if_generation_not_match=other)
            act(if_metageneration_match=1)
            act(if_metageneration_not_match=2)
            for options in ({"if_generation_match": other}, {"if_metageneration_match": 2}):
                with refusal(412):
                    act(**options)
            for options in ({"if_generation_not_match": blob.generation}, {"if_metageneration_not_match": 1}):
                with pytest.raises(errors.NotModified):
                    act(**options)

    def test_removals(self, server: CloudStorage, bucket: Any) -> None:
        blob = put(bucket, "a")

        for options in ({"if_generation_match": 1}, {"if_generation_not_match": blob.generation}):
            with refusal(412):
                bucket.blob("a").delete(**options)
        bucket.blob("a").delete(if_generation_match=blob.generation)

        assert server.objects("one") == {}

    def test_another_generation_than_asked_for_is_not_found(self, server: CloudStorage, bucket: Any) -> None:
        old = put(bucket, "a")
        server.put("one", "a", b"new")

        for act in (old.reload, old.delete, bucket.blob("a", generation=old.generation).download_as_bytes):
            with refusal(404):
                act()
        current = bucket.blob("a", generation=server.object("one", "a").generation)
        assert current.download_as_bytes() == b"new"

    def test_what_is_no_number_is_refused(self, server: CloudStorage, http: Callable[..., Any]) -> None:
        server.put("one", "a", b"")

        assert http("GET", "/storage/v1/b/one/o/a?ifGenerationMatch=x").status_code == 400


class TestUploads:
    @pytest.mark.parametrize("checksum", ["md5", "crc32c", None])
    @pytest.mark.parametrize("write", [put, send])
    def test_the_clients_checksums_are_taken(self, bucket: Any, write: Any, checksum: str | None) -> None:
        assert write(bucket, "a", LARGE, checksum=checksum).crc32c == sum_of(LARGE)

    @pytest.mark.parametrize("checksum", ["md5", "crc32c"])
    @pytest.mark.parametrize("write", [put, send])
    def test_bytes_that_are_not_those_of_the_checksum_are_refused(
        self, server: CloudStorage, bucket: Any, write: Any, checksum: str
    ) -> None:
        server.fault = any_of(once("put", Fault(flip=True), ""), once("put", Fault(flip=True), "chunk"))

        with pytest.raises(errors.BadRequest, match="doesn't match"):
            write(bucket, "a", LARGE, checksum=checksum)
        assert server.objects("one") == {}

    def test_without_a_checksum_nobody_notices(self, server: CloudStorage, bucket: Any) -> None:
        server.fault = once("put", Fault(flip=True))

        put(bucket, "a", b"aaa", checksum=None)

        assert server.objects("one") == {"a": b"a`a"}

    @pytest.mark.parametrize("size", [0, 1, GRAIN - 1, GRAIN, GRAIN + 1, 3 * GRAIN])
    def test_a_stream_of_unknown_length(self, server: CloudStorage, bucket: Any, size: int) -> None:
        blob = bucket.blob("a", chunk_size=GRAIN)

        blob.upload_from_file(io.BytesIO(LARGE[:size]), checksum="crc32c", if_generation_match=0)

        assert (blob.size, server.objects("one")) == (size, {"a": LARGE[:size]})

    def test_a_writer(self, server: CloudStorage, bucket: Any) -> None:
        with bucket.blob("a", chunk_size=GRAIN).open("wb", content_type="text/csv") as file:
            file.write(LARGE)

        assert server.object("one", "a").content_type == "text/csv"
        assert server.object("one", "a").data == LARGE

    def test_of_media_alone(self, server: CloudStorage, http: Callable[..., Any]) -> None:
        path = "/upload/storage/v1/b/one/o?uploadType=media&name=a"
        types = {"Content-Type": "text/csv"}

        right = http("POST", path, data=b"x", headers={"X-Goog-Hash": f"crc32c={sum_of(b'x')}", **types})
        wrong = http("POST", path, data=b"x", headers={"X-Goog-Hash": f"crc32c={sum_of(b'y')}", **types})

        assert (right.status_code, wrong.status_code) == (200, 400)
        assert server.object("one", "a").content_type == "text/csv"

    @pytest.mark.parametrize(
        ("kind", "body"),
        [
            ("multipart/related; boundary=b", b"--b\r\n\r\n{}\r\n--b\r\n\r\nx"),
            ("multipart/related; boundary=b", b"--b\r\n\r\n{\r\n--b\r\n\r\nx\r\n--b--"),
            ("multipart/related; boundary=b", b"--b\r\n\r\n[]\r\n--b\r\n\r\nx\r\n--b--"),
            ("multipart/related", b"--b\r\n\r\n{}\r\n--b\r\n\r\nx\r\n--b--"),
            (JSON, b"{}"),
        ],
    )
    def test_what_is_not_well_formed_is_refused(self, http: Callable[..., Any], kind: str, body: bytes) -> None:
        path = "/upload/storage/v1/b/one/o?uploadType=multipart&name=a"

        assert http("POST", path, data=body, headers={"Content-Type": kind}).status_code == 400

    def test_metadata_are_strings_and_names_agree(self, bucket: Any, http: Callable[..., Any]) -> None:
        path = "/upload/storage/v1/b/one/o?uploadType=resumable&name=a"

        assert http("POST", path, json={"metadata": {"a": 1}}).status_code == 400
        assert http("POST", path, json={"name": "b"}).status_code == 400
        assert http("POST", path, json={"name": "a"}).status_code == 200


class TestSessions:
    @pytest.fixture
    def session(self, http: Callable[..., Any]) -> Callable[..., Any]:
        """`session(bytes, Content-Range)` sends a chunk."""
        path = "/upload/storage/v1/b/one/o?uploadType=resumable&name=a&ifGenerationMatch=0"
        url = http("POST", path, json={"name": "a"}).headers["Location"]

        def chunk(data: bytes, place: str, **headers: str) -> Any:
            return requests.put(url, data, headers={"Content-Range": f"bytes {place}", **headers})

        chunk.url = url  # type: ignore[attr-defined]
        return chunk

    def test_chunk_after_chunk(self, server: CloudStorage, session: Callable[..., Any]) -> None:
        data = LARGE[: 2 * GRAIN + 5]

        assert "Range" not in session(b"", "*/*").headers
        more = session(data[:GRAIN], f"0-{GRAIN - 1}/*")
        assert (more.status_code, more.headers["Range"]) == (308, f"bytes=0-{GRAIN - 1}")
        assert session(data[GRAIN : 2 * GRAIN], f"{GRAIN}-{2 * GRAIN - 1}/*").status_code == 308
        asked = session(b"", f"*/{len(data)}")
        assert (asked.status_code, asked.headers["Range"]) == (308, f"bytes=0-{2 * GRAIN - 1}")
        last = session(
            data[-5:], f"{2 * GRAIN}-{len(data) - 1}/{len(data)}", **{"X-Goog-Hash": f"crc32c={sum_of(data)}"}
        )
        again = session(b"", "*/*")

        assert last.json() == again.json()
        assert (last.status_code, last.json()["size"]) == (200, str(len(data)))
        assert server.objects("one") == {"a": data}
        assert [operation.step for operation in server.operations] == [
            *("start", "query", "chunk", "chunk", "query", "chunk", "query")
        ]

    def test_bytes_that_are_there_already_are_left_out(self, server: CloudStorage, session: Callable[..., Any]) -> None:
        data = LARGE[: 2 * GRAIN]

        for _ in range(2):
            session(data[:GRAIN], f"0-{GRAIN - 1}/*")
        for _ in range(2):
            assert session(data, f"0-{2 * GRAIN - 1}/{2 * GRAIN}").status_code == 200

        assert server.objects("one") == {"a": data}

    def test_it_ends_where_its_length_is_said(self, server: CloudStorage, session: Callable[..., Any]) -> None:
        session(LARGE[:GRAIN], f"0-{GRAIN - 1}/*")

        assert session(b"", f"*/{GRAIN}").status_code == 200
        assert server.objects("one") == {"a": LARGE[:GRAIN]}

    @pytest.mark.parametrize(
        ("size", "place", "status"),
        [
            (5, "0-4/*", 400),
            (GRAIN + 1, f"0-{GRAIN}/{2 * GRAIN}", 400),
            (5, "0-5/*", 400),
            (5, "0-4/3", 400),
            (5, "*/5", 400),
            (5, "five", 400),
            (GRAIN, f"{GRAIN}-{2 * GRAIN - 1}/*", 503),
        ],
    )
    def test_chunks_that_do_not_fit(
        self, server: CloudStorage, session: Callable[..., Any], size: int, place: str, status: int
    ) -> None:
        assert session(LARGE[:size], place).status_code == status
        assert server.objects("one") == {}

    def test_the_length_is_that_of_the_beginning(self, http: Callable[..., Any]) -> None:
        path = "/upload/storage/v1/b/one/o?uploadType=resumable&name=a"
        url = http("POST", path, headers={"X-Upload-Content-Length": "7"}).headers["Location"]

        assert requests.put(url, b"12345", headers={"Content-Range": "bytes 0-4/5"}).status_code == 400
        assert requests.put(url, b"1234567").status_code == 200

    def test_one_that_is_cancelled_takes_nothing_more(self, session: Any) -> None:
        session(LARGE[:GRAIN], f"0-{GRAIN - 1}/*")

        assert requests.delete(session.url).status_code == 499
        assert session(LARGE[:5], f"{GRAIN}-{GRAIN + 4}/{GRAIN + 5}").status_code == 499

    def test_one_that_there_is_not(self, http: Callable[..., Any]) -> None:
        path = "/upload/storage/v1/b/one/o?uploadType=resumable&upload_id=x"

        assert http("PUT", path, data=b"x").status_code == 404


class TestDownloads:
    @pytest.mark.parametrize(
        ("start", "end", "found"),
        [(0, 0, b"0"), (2, 4, b"234"), (5, None, b"56789"), (8, 99, b"89"), (-3, None, b"789")],
    )
    def test_of_a_range(self, server: CloudStorage, bucket: Any, start: int, end: int | None, found: bytes) -> None:
        for piece in ("0123", "45", "6789"):
            server.put("one", piece, piece.encode())
        bucket.blob("a").compose([bucket.blob(piece) for piece in ("0123", "45", "6789")])

        assert bucket.blob("a").download_as_bytes(start=start, end=end, raw_download=True, checksum=None) == found
        assert bucket.blob("a").download_as_bytes(start=start, end=end) == found

    def test_of_a_range_that_there_is_not(self, server: CloudStorage, bucket: Any) -> None:
        server.put("one", "a", b"0123")
        server.put("one", "empty", b"")

        with refusal(416):
            bucket.blob("a").download_as_bytes(start=4)
        with refusal(416):
            bucket.blob("empty").download_as_bytes(start=0, end=5)

    def test_headers_say_what_it_is(self, server: CloudStorage, http: Callable[..., Any]) -> None:
        stored = server.put("one", "a/b", b"0123", content_type="text/csv")

        whole = http("GET", "/storage/v1/b/one/o/a%2Fb?alt=media")
        part = http("GET", "/download/storage/v1/b/one/o/a%2Fb?alt=media", headers={"Range": "bytes=1-2"})

        assert (whole.status_code, whole.content, whole.headers["Content-Type"]) == (200, b"0123", "text/csv")
        assert (part.status_code, part.content, part.headers["Content-Range"]) == (206, b"12", "bytes 1-2/4")
        for answer in (whole, part):
            assert answer.headers["X-Goog-Generation"] == str(stored.generation)
            assert answer.headers["X-Goog-Hash"].startswith(f"crc32c={sum_of(b'0123')},md5=")

    def test_a_reader(self, server: CloudStorage, bucket: Any) -> None:
        server.put("one", "a", LARGE)

        with bucket.blob("a").open("rb", chunk_size=4 * MEBI) as file:
            assert file.read() == LARGE


class TestCompositions:
    def test_bytes_and_sums_are_those_of_all_sources(self, server: CloudStorage, bucket: Any) -> None:
        sources = [put(bucket, str(number), LARGE[:number]) for number in range(32)]
        whole, twice = bucket.blob("whole"), bucket.blob("twice")
        whole.content_type, whole.metadata = "text/csv", {"a": "b"}

        whole.compose(sources, if_generation_match=0, if_source_generation_match=[each.generation for each in sources])
        twice.compose([whole, whole, sources[1]])

        data = b"".join(LARGE[:number] for number in range(32))
        assert (whole.size, whole.crc32c, whole.md5_hash) == (len(data), sum_of(data), None)
        assert (whole.content_type, whole.metadata, whole.component_count) == ("text/csv", {"a": "b"}, 32)
        assert (twice.crc32c, twice.component_count) == (sum_of(data + data + LARGE[:1]), 65)
        assert twice.download_as_bytes(checksum="crc32c") == data + data + LARGE[:1]
        stored = server.object("one", "whole")
        assert (stored.size, stored.crc, stored.components, stored.metadata) == (
            len(data),
            crc32c(data),
            32,
            {"a": "b"},
        )

    @pytest.mark.parametrize("count", [0, 33])
    def test_not_of_nothing_and_not_of_too_many(self, bucket: Any, count: int) -> None:
        source = put(bucket, "a")

        with refusal(400):
            bucket.blob("b").compose([source] * count)

    def test_preconditions_of_the_destination_and_of_the_sources(self, server: CloudStorage, bucket: Any) -> None:
        old, there = put(bucket, "a"), put(bucket, "there")
        server.put("one", "a", b"new")

        with refusal(412):
            bucket.blob("there").compose([there], if_generation_match=0)
        with refusal(404):
            bucket.blob("b").compose([old])
        with refusal(404):
            bucket.blob("b").compose([bucket.blob("nothing")])
        with refusal(412):
            bucket.blob("b").compose([bucket.blob("a")], if_source_generation_match=[old.generation])
        assert sorted(server.objects("one")) == ["a", "there"]
        there.compose([there, bucket.blob("a")], if_generation_match=there.generation)
        assert server.objects("one")["there"] == b"some bytesnew"


class TestCopies:
    def test_from_bucket_to_bucket(self, server: CloudStorage, client: Any, bucket: Any) -> None:
        source = put(bucket, "a", content_type="text/plain")
        other = client.bucket("two").blob("other")
        other.content_type, other.metadata = "text/csv", {"a": "b"}

        assert other.rewrite(source, if_generation_match=0, if_source_generation_match=source.generation) == (
            None,
            10,
            10,
        )

        assert (other.content_type, other.metadata, other.md5_hash) == ("text/csv", {"a": "b"}, source.md5_hash)
        assert (other.crc32c, other.bucket.name) == (source.crc32c, "two")
        assert other.generation > source.generation
        assert server.objects("two") == {"other": b"some bytes"}

    def test_settings_are_those_of_the_source_if_nothing_is_said(self, server: CloudStorage, client: Any) -> None:
        server.put("one", "a", b"x", content_type="text/csv", metadata={"a": "b"})
        same, other = client.bucket("two").blob("same"), client.bucket("two").blob("other")
        other.metadata = {"c": "d"}

        for blob in (same, other):
            blob.rewrite(client.bucket("one").blob("a"))

        assert (same.content_type, same.metadata) == ("text/csv", {"a": "b"})
        assert (other.content_type, other.metadata) == (None, {"c": "d"})

    def test_large_ones_take_several_requests(self, server: CloudStorage, client: Any, bucket: Any) -> None:
        server.rewrite_chunk = MEBI
        source = put(bucket, "a", LARGE[: 2 * MEBI + 1])
        blob = client.bucket("two").blob("b")
        done: list[int] = []
        token = None

        while not done or token is not None:
            token, rewritten, total = blob.rewrite(source, token=token, if_generation_match=0)
            done.append(rewritten)

        assert (done, total) == ([MEBI, 2 * MEBI, 2 * MEBI + 1], 2 * MEBI + 1)
        assert server.objects("two") == {"b": LARGE[: 2 * MEBI + 1]}

    def test_a_token_is_that_of_one_rewrite(self, server: CloudStorage, client: Any, bucket: Any) -> None:
        server.rewrite_chunk = 1
        source = put(bucket, "a")
        token, _, _ = client.bucket("two").blob("b").rewrite(source)

        with refusal(400):
            client.bucket("two").blob("c").rewrite(source, token=token)

    def test_preconditions_of_both(self, server: CloudStorage, client: Any, bucket: Any) -> None:
        old = put(bucket, "a")
        server.put("one", "a", b"new")
        server.put("two", "there", b"")
        there, new = client.bucket("two").blob("there"), client.bucket("two").blob("new")

        with refusal(412):
            there.rewrite(bucket.blob("a"), if_generation_match=0)
        with refusal(412):
            new.rewrite(bucket.blob("a"), if_source_generation_match=old.generation)
        with refusal(404):
            new.rewrite(old)
        with refusal(404):
            new.rewrite(bucket.blob("nothing"))
        assert server.objects("two") == {"there": b""}


class TestLists:
    def test_pages_in_the_order_of_the_names(self, server: CloudStorage, client: Any) -> None:
        server.page_size = 3
        names = [f"p/{number}" for number in range(10)]
        for name in [*reversed(names), "other", "q"]:
            server.put("one", name, name.encode())

        found = list(client.list_blobs("one", prefix="p/", fields="items(name,size,updated),nextPageToken"))

        assert [(blob.name, blob.size) for blob in found] == [(name, 3) for name in names]
        assert [operation.name for operation in server.operations] == ["p/"] * 4
        assert len(list(client.list_blobs("one", max_results=5))) == 5
        assert list(client.list_blobs("two")) == []

    def test_a_delimiter_makes_directories(self, server: CloudStorage, client: Any) -> None:
        server.page_size = 2
        for name in ("a/b/1", "a/b/2", "a/c", "a/d/1", "a/e", "b"):
            server.put("one", name, b"")

        found = client.list_blobs("one", prefix="a/", delimiter="/")

        assert [blob.name for blob in found] == ["a/c", "a/e"]
        assert found.prefixes == {"a/b/", "a/d/"}
        assert len(server.operations) == 2

    def test_from_a_name_to_another(self, server: CloudStorage, client: Any) -> None:
        for name in "abcd":
            server.put("one", name, b"")

        assert [blob.name for blob in client.list_blobs("one", start_offset="b", end_offset="d")] == ["b", "c"]


class TestBatches:
    def test_of_removals(self, server: CloudStorage, client: Any, bucket: Any) -> None:
        for name in "abcd":
            server.put("one", name, b"")

        with client.batch():
            bucket.delete_blobs([bucket.blob("a"), bucket.blob("b")])
        with pytest.raises(errors.NotFound), client.batch():
            bucket.delete_blobs([bucket.blob("a"), bucket.blob("c")])
        server.fault = once("delete", Fault(status=503))
        with pytest.raises(errors.ServiceUnavailable), client.batch():
            bucket.blob("d").delete()

        assert list(server.objects("one")) == ["d"]
        assert [operation.verb for operation in server.operations] == ["delete"] * 5

    def test_not_of_too_many(self, client: Any, bucket: Any) -> None:
        with refusal(400), client.batch():
            for number in range(101):
                bucket.blob(str(number)).delete()

    def test_of_anything_else_is_not_known(self, server: CloudStorage, client: Any, bucket: Any) -> None:
        with refusal(501), client.batch():
            bucket.blob("a").reload()
        assert "a batch with b'GET" in server.unexpected.pop()


class TestUnexpected:
    @pytest.mark.parametrize(
        ("act", "named"),
        [
            (lambda bucket: bucket.blob("a").patch(), "PATCH /storage/v1/b/one/o/a"),
            (lambda bucket: bucket.create(), "POST /storage/v1/b"),
            (lambda bucket: list(bucket.list_blobs(match_glob="*")), "matchGlob"),
            (lambda bucket: bucket.copy_blob(bucket.blob("a"), bucket), "copyTo"),
            (lambda bucket: put(bucket, "a", predefined_acl="private"), "predefinedAcl"),
        ],
    )
    def test_what_is_not_known_is_named(
        self, server: CloudStorage, bucket: Any, act: Callable[[Any], Any], named: str
    ) -> None:
        with pytest.raises(errors.MethodNotImplemented, match="does not know this request"):
            act(bucket)
        assert named in server.unexpected.pop()

    def test_fields_that_are_not_known_are_not_swallowed(self, server: CloudStorage, bucket: Any) -> None:
        blob = bucket.blob("a")
        blob.content_encoding = "gzip"

        with refusal(501):
            blob.upload_from_string(b"x", retry=None)
        assert "contentEncoding" in server.unexpected.pop()

    def test_other_methods_are_not_known(self, server: CloudStorage, http: Callable[..., Any]) -> None:
        assert [http(method, "/storage/v1/b/one").status_code for method in ("HEAD", "OPTIONS", "PUT")] == [501] * 3
        assert len(server.unexpected) == 3
        server.unexpected.clear()

    def test_a_fault_function_that_fails_is_not_overlooked(self, server: CloudStorage, bucket: Any) -> None:
        def fails(operation: Operation) -> None:
            raise LookupError("oops")

        server.fault = fails
        with refusal(501):
            put(bucket, "a")
        assert "LookupError: oops" in server.unexpected.pop()

    def test_a_bit_is_only_flipped_where_bytes_are(self, server: CloudStorage, bucket: Any) -> None:
        server.fault = once("list", Fault(flip=True))

        with refusal(501):
            list(bucket.list_blobs())
        assert "list" in server.unexpected.pop()


class TestFaults:
    @pytest.mark.parametrize("status", [403, 408, 412, 429, 500, 503])
    def test_an_error_instead_of_the_answer(self, server: CloudStorage, bucket: Any, status: int) -> None:
        server.fault = once("put", Fault(status=status))

        with refusal(status):
            put(bucket, "a")
        assert server.objects("one") == {}
        put(bucket, "a")
        assert server.objects("one") == {"a": b"some bytes"}

    def test_credentials_that_are_refused(self, server: CloudStorage, bucket: Any) -> None:
        server.fault = once("put", Fault(status=401))

        with pytest.raises(auth_errors.GoogleAuthError):
            put(bucket, "a")
        assert [operation.verb for operation in server.operations] == ["put"]

    @pytest.mark.parametrize("fault", [Fault(status=503), Fault(broken=True)])
    def test_what_failed_before_it_was_done_is_done_again(
        self, server: CloudStorage, bucket: Any, fault: Fault
    ) -> None:
        server.fault = first(2, "put", fault)

        put(bucket, "a", if_generation_match=0, retry=patient())

        assert len(server.operations) == 3

    @pytest.mark.parametrize("fault", [Fault(status=503, after=True), Fault(broken=True, after=True)])
    def test_an_answer_that_is_lost(self, server: CloudStorage, bucket: Any, fault: Fault) -> None:
        server.fault = once("put", fault)

        with refusal(412):
            put(bucket, "a", if_generation_match=0, retry=patient(lambda error: "412" not in str(error)))
        assert server.objects("one") == {"a": b"some bytes"}
        assert len(server.operations) == 2

    def test_a_connection_that_is_broken(self, server: CloudStorage, bucket: Any) -> None:
        server.fault = first(2, "delete", Fault(broken=True))
        blob = put(bucket, "a")

        for _ in range(2):
            with pytest.raises(requests.ConnectionError):
                blob.delete(retry=None)
        assert list(server.objects("one")) == ["a"]
        server.fault = once("delete", Fault(broken=True, after=True))
        with pytest.raises(requests.ConnectionError):
            blob.delete(retry=None)
        assert server.objects("one") == {}

    @pytest.mark.parametrize(
        "fault",
        [
            *(Fault(status=503), Fault(status=503, after=True)),
            *(Fault(broken=True), Fault(broken=True, after=True)),
        ],
    )
    def test_a_session_goes_on_after_them(self, server: CloudStorage, bucket: Any, fault: Fault) -> None:
        server.fault = any_of(once("put", fault, "start"), once("put", fault, "chunk"))

        send(bucket, "a", retry=patient())

        assert server.objects("one") == {"a": LARGE}
        assert [operation.step for operation in server.operations] == ["start"] * 2 + ["chunk"] * 4

    def test_the_answer_to_the_last_chunk_is_lost(self, server: CloudStorage, bucket: Any) -> None:
        server.fault = lambda operation: Fault(broken=True, after=True) if operation.number == 4 else None

        blob = send(bucket, "a", if_generation_match=0, retry=patient())

        assert blob.generation == server.object("one", "a").generation
        assert len(server.operations) == 5

    @pytest.mark.parametrize("verb", ["compose", "copy", "get", "list", "bucket"])
    def test_every_verb_can_fail(self, server: CloudStorage, client: Any, bucket: Any, verb: Any) -> None:
        blob = put(bucket, "a")
        acts: dict[str, Callable[[], Any]] = {
            "compose": lambda: bucket.blob("b").compose([blob], retry=None),
            "copy": lambda: client.bucket("two").blob("b").rewrite(blob, retry=None),
            "get": lambda: blob.reload(retry=None),
            "list": lambda: list(bucket.list_blobs(retry=None)),
            "bucket": lambda: bucket.reload(retry=None),
        }

        server.fault = once(verb, Fault(status=503, after=True))
        with refusal(503):
            acts[verb]()
        server.fault = once(verb, Fault(broken=True))
        with pytest.raises(requests.ConnectionError):
            acts[verb]()
        server.fault = once(verb, Fault(cut_after=5))
        with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
            acts[verb]()
        acts[verb]()
        assert {operation.verb for operation in server.operations[1:]} == {verb}

    def test_a_body_that_is_cut_off(self, server: CloudStorage, bucket: Any) -> None:
        server.put("one", "a", LARGE)
        server.fault = always("download", Fault(cut_after=1000))

        with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
            bucket.blob("a").download_as_bytes(retry=None)
        server.fault = once("download", Fault(cut_after=MEBI))
        assert bucket.blob("a").download_as_bytes(retry=patient()) == LARGE

    def test_a_bit_that_is_flipped_on_the_way_to_the_client(self, server: CloudStorage, bucket: Any) -> None:
        server.put("one", "a", LARGE)
        server.fault = first(2, "download", Fault(flip=True))

        with pytest.raises(media_errors.DataCorruption):
            bucket.blob("a").download_as_bytes(checksum="crc32c", retry=None)
        unseen = bucket.blob("a").download_as_bytes(start=0, end=9, checksum="crc32c", retry=None)

        assert [a ^ b for a, b in zip(unseen, LARGE, strict=False)] == [0, 0, 0, 0, 0, 1, 0, 0, 0, 0]

    @pytest.mark.parametrize("after", [False, True])
    def test_a_stall_ends_with_its_event(self, server: CloudStorage, bucket: Any, after: bool) -> None:
        event = threading.Event()
        server.fault = once("put", Fault(stall=event, after=after))

        with ThreadPoolExecutor(1) as threads:
            upload = threads.submit(put, bucket, "a")
            wait_until(lambda: server.objects("one") if after else server.operations)
            assert not upload.done()
            assert bool(server.objects("one")) == after
            event.set()
            upload.result(timeout=10)

    def test_what_stalled_is_done_after_its_client_has_gone(self, server: CloudStorage, bucket: Any) -> None:
        event = threading.Event()
        server.fault = once("put", Fault(stall=event))
        assert bucket.exists()

        with pytest.raises(requests.Timeout):
            put(bucket, "a", timeout=0.05)
        assert server.objects("one") == {}
        event.set()
        wait_until(lambda: server.objects("one"))

    def test_faults_are_counted_over_all_threads(self, server: CloudStorage, bucket: Any) -> None:
        server.fault = first(20, "get", Fault(status=500))
        server.put("one", "a", b"")

        def status(number: int) -> int:
            try:
                bucket.blob("a").reload(retry=None)
            except errors.InternalServerError:
                return 500
            return 200

        with ThreadPoolExecutor(8) as threads:
            found = sorted(threads.map(status, range(40)))

        assert found == [200] * 20 + [500] * 20
        assert sorted(operation.number for operation in server.operations) == list(range(1, 41))


class TestTheServer:
    def test_a_token_is_asked_for(self, server: CloudStorage, client: Any, http: Callable[..., Any]) -> None:
        server.token = "secret"
        friend, stranger = client_of(server, "secret"), client_of(server, "wrong")

        for nobody in (client, stranger):
            with pytest.raises(auth_errors.GoogleAuthError):
                put(nobody.bucket("one"), "a")
        blob = put(friend.bucket("one"), "a")
        with friend.batch():
            blob.delete()
        friend.close()
        stranger.close()

        assert [operation.verb for operation in server.operations] == ["put", "put", "put", "delete"]
        assert http("GET", "/storage/v1/b/one").json()["error"]["code"] == 401

    def test_one_write_a_second(self, server: CloudStorage, bucket: Any) -> None:
        now = 1000.0
        server.clock = lambda: now
        server.one_write_a_second = True
        blob = put(bucket, "a")
        put(bucket, "b")

        with pytest.raises(errors.TooManyRequests, match="rate limit"):
            put(bucket, "a")
        with refusal(429):
            blob.compose([blob], retry=None)
        with refusal(412):
            put(bucket, "a", if_generation_match=0)
        now += 1
        put(bucket, "a")

    def test_operations_and_bytes_are_counted(self, server: CloudStorage, bucket: Any) -> None:
        blob = put(bucket, "a", LARGE[:MEBI])
        received, sent = server.bytes_in, server.bytes_out
        blob.download_as_bytes()

        assert server.operations == [Operation("put", "one", "a", 1), Operation("download", "one", "a", 2)]
        assert MEBI < received < MEBI + 1000
        assert 500 < sent < 1500
        assert server.bytes_out == sent + MEBI

    def test_errors_are_googles(self, http: Callable[..., Any]) -> None:
        answer = http("GET", "/storage/v1/b/three").json()

        assert answer["error"]["code"] == 404
        assert answer["error"]["errors"][0]["reason"] == "notFound"
        assert json.dumps(answer["error"]["message"]) == '"The specified bucket does not exist."'

    def test_a_slow_connection(self, server: CloudStorage, bucket: Any) -> None:
        server.bandwidth = MEBI
        begun = time.monotonic()
        blob = put(bucket, "a", LARGE[: MEBI // 8])
        sent = time.monotonic()
        blob.download_as_bytes()

        assert sent - begun >= 0.12
        assert time.monotonic() - sent >= 0.12

    def test_a_distant_server(self, server: CloudStorage, bucket: Any) -> None:
        server.latency = 0.05
        begun = time.monotonic()
        put(bucket, "a")

        assert time.monotonic() - begun >= 0.05

    def test_connections_stay_open(self, client: Any, bucket: Any) -> None:
        def connections() -> list[threading.Thread]:
            return [thread for thread in threading.enumerate() if thread.name == "cloud-storage-connection"]

        for _ in range(5):
            put(bucket, "a").reload()
            bucket.blob("a").download_as_bytes()
            with refusal(404):
                bucket.blob("b").reload()

        assert len(connections()) == 1

    @pytest.mark.parametrize("slow", ["stall", "latency", "bandwidth"])
    def test_nothing_is_left_of_one_that_is_closed(self, slow: str) -> None:
        before = set(threading.enumerate())
        event = threading.Event()
        with ThreadPoolExecutor(1) as threads:
            with cloud_storage("one") as server:
                client = client_of(server)
                put(client.bucket("one"), "a")
                if slow == "stall":
                    server.fault = always(None, Fault(stall=event))
                else:
                    setattr(server, slow, 1000.0)
                waiting = threads.submit(put, client.bucket("one"), "b", LARGE)
                wait_until(lambda: len(server.operations) == 2 or server.bytes_in > 1000)
            with pytest.raises(requests.ConnectionError):
                waiting.result(timeout=10)
            with pytest.raises(requests.ConnectionError):
                put(client.bucket("one"), "c")
            client.close()

        assert event.is_set() == (slow == "stall")
        assert set(threading.enumerate()) <= before
