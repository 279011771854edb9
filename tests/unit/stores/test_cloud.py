"""The store in Cloud Storage, and publishing there, with faults at every step."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pyqik.core.errors import StoreError
from pyqik.stores import cloud as cloud_module
from pyqik.stores import cloud_target
from pyqik.stores.checksums import crc32c
from pyqik.stores.cloud import CloudStore
from pyqik.stores.cloud_target import CloudTarget
from pyqik.stores.store import JOINED, Mismatch, Missing, Part, Refused
from pyqik.stores.targets import Finished
from tests.support.cloud_storage import CloudStorage, Fault, always, first, once

#: Google's client leaves connections that broke to whoever collects the garbage.
pytestmark = pytest.mark.filterwarnings("ignore:.*unclosed.*:ResourceWarning")

DATA = b"some bytes"
NAME = "scratch/jid/a/1"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits long here before it tries again."""
    patient = cloud_module.retry

    def impatient(patience: Any) -> Any:
        return patient(patience).with_delay(initial=0.01, maximum=0.02)

    monkeypatch.setattr(cloud_module, "retry", impatient)
    monkeypatch.setattr(cloud_target, "retry", impatient)
    monkeypatch.setattr(cloud_module, "PATIENCE", 10.0)


def put(store: CloudStore, name: str = "jid/a/1", data: bytes = DATA, patience: float = 10.0) -> Part:
    return store.put(name, lambda: iter([data]), len(data), crc32c(data), lambda: patience)


def got(store: CloudStore, part: Part) -> bytes:
    found: list[bytes] = []
    store.get(part, found.append)
    return b"".join(found)


def finished(data: bytes, parts: list[Part] | None = None, **kwargs: Any) -> Finished:
    def reads() -> Iterator[bytes]:
        for start in range(0, len(data), 1000):
            yield data[start : start + 1000]

    return Finished(reads, len(data), crc32c(data), parts=parts or [], **kwargs)


PASSING = [
    *(Fault(status=status) for status in (408, 429, 500, 502, 503, 504)),
    Fault(status=503, after=True),
    Fault(broken=True),
    Fault(broken=True, after=True),
]


@pytest.mark.parametrize("fault", PASSING, ids=str)
def test_what_passes_is_tried_again_and_a_lost_answer_is_found(
    server: CloudStorage, cloud: CloudStore, fault: Fault
) -> None:
    server.fault = first(2, "put", fault)
    part = put(cloud)
    assert server.objects("parts") == {NAME: DATA}
    assert part.generation == server.object("parts", NAME).generation

    server.fault = first(2, "download", fault)
    assert got(cloud, part) == DATA

    server.fault = first(2, "compose", fault)
    whole = cloud.join("jid/a/2", [part, part], lambda: 10.0)
    assert got(cloud, whole) == DATA * 2

    server.fault = first(2, "list", fault)
    assert len(list(cloud.find(""))) == 2

    server.fault = first(2, "delete", fault)
    cloud.remove(["jid/a/1", "jid/a/2"])
    assert server.objects("parts") == {}


@pytest.mark.parametrize(
    ("verb", "call"),
    [
        ("put", lambda store, part: put(store, "jid/b")),
        ("compose", lambda store, part: store.join("jid/b", [part], lambda: 0.2)),
        ("download", got),
        ("list", lambda store, part: list(store.find(""))),
        ("delete", lambda store, part: store.remove([part.name])),
    ],
)
def test_a_store_that_is_down_is_an_error_that_names_it(
    server: CloudStorage, cloud: CloudStore, monkeypatch: pytest.MonkeyPatch, verb: Any, call: Callable[..., object]
) -> None:
    part = put(cloud)
    monkeypatch.setattr(cloud_module, "PATIENCE", 0.2)
    monkeypatch.setattr("tests.unit.stores.test_cloud.put", lambda store, name: put_for(store, name, 0.2))
    server.fault = always(verb, Fault(status=503))
    with pytest.raises(StoreError, match=r"gs://parts: .*503"):
        call(cloud, part)


def put_for(store: CloudStore, name: str, patience: float) -> Part:
    return store.put(name, lambda: iter([DATA]), len(DATA), crc32c(DATA), lambda: patience)


def test_nobody_tries_any_longer_than_somebody_waits(server: CloudStorage, cloud: CloudStore) -> None:
    waits = [60.0]

    def fault(operation: object) -> Fault:
        waits[0] = 0.0
        return Fault(status=503)

    server.fault = fault
    with pytest.raises(StoreError):
        cloud.put("jid/a/1", lambda: iter([DATA]), len(DATA), crc32c(DATA), lambda: waits[0])
    assert [each.verb for each in server.operations if each.verb != "bucket"] == ["put"]


@pytest.mark.parametrize(("status", "way"), [(401, "GOOGLE_APPLICATION_CREDENTIALS"), (403, "Object User on parts")])
def test_what_is_refused_is_refused_at_once_and_says_what_to_do(
    server: CloudStorage, cloud: CloudStore, status: int, way: str
) -> None:
    server.fault = always(None, Fault(status=status))
    for call in (lambda: put(cloud), cloud.check, lambda: cloud.remove(["a"])):
        with pytest.raises(Refused, match=way):
            call()
    assert sorted(each.verb for each in server.operations if each.verb != "bucket") == ["delete", "put", "put"]


def test_who_may_not_look_at_the_bucket_may_use_what_is_in_it(server: CloudStorage, cloud: CloudStore) -> None:
    server.fault = always("bucket", Fault(status=403))
    cloud.check()
    assert got(cloud, put(cloud)) == DATA


def test_without_credentials_the_way_to_them_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from google.auth.exceptions import DefaultCredentialsError

    def service() -> Any:
        raise DefaultCredentialsError("there are none")

    with pytest.raises(Refused, match=r"no credentials: there are none; set GOOGLE_APPLICATION_CREDENTIALS"):
        CloudStore("gs://parts", service).check()


def test_a_bucket_that_is_not_there_is_named(service: Any) -> None:
    with pytest.raises(Refused, match=r"gs://nowhere: there is no such bucket"):
        CloudStore("gs://nowhere", service).check()


def test_bytes_that_were_changed_on_the_way_are_refused(server: CloudStorage, cloud: CloudStore) -> None:
    server.fault = once("put", Fault(flip=True))
    with pytest.raises(StoreError):
        put(cloud)
    assert server.objects("parts") == {}


def test_a_download_that_breaks_goes_on(server: CloudStorage, cloud: CloudStore) -> None:
    data = bytes(range(256)) * 1000
    part = put(cloud, data=data)
    server.fault = first(2, "download", Fault(cut_after=100_000))
    assert got(cloud, part) == data


def test_a_large_part_is_read_in_ranges_in_their_order(
    server: CloudStorage, cloud: CloudStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud_module, "RANGE", 1000)
    data = bytes(range(250)) * 50
    part = put(cloud, data=data)
    assert got(cloud, part) == data
    assert len([each for each in server.operations if each.verb == "download"]) == 13


def test_a_part_that_was_written_again_behind_our_back_is_missing(server: CloudStorage, cloud: CloudStore) -> None:
    part = put(cloud)
    server.put("parts", NAME, b"others")
    with pytest.raises(Missing):
        got(cloud, part)
    with pytest.raises(StoreError):
        cloud.join("jid/b", [part], lambda: 10.0)


def test_names_are_below_the_prefix_and_given_without_it(server: CloudStorage, service: Any) -> None:
    store, bare = CloudStore("gs://parts/a/b/", service), CloudStore("gs://parts", service)
    assert (store.name, bare.name) == ("gs://parts/a/b", "gs://parts")
    put(store, "jid/x")
    put(bare, "jid/y")
    assert set(server.objects("parts")) == {"a/b/jid/x", "jid/y"}
    assert [each.name for each in store.find("jid/")] == ["jid/x"]
    assert [each.name for each in bare.find("jid/")] == ["jid/y"]


def test_a_list_of_several_pages_is_read_to_its_end(server: CloudStorage, cloud: CloudStore) -> None:
    server.page_size = 2
    for number in range(5):
        put(cloud, f"jid/{number}")
    assert [each.name for each in cloud.find("jid/")] == [f"jid/{number}" for number in range(5)]


# Publishing.


def test_parts_become_an_object_without_being_fetched(server: CloudStorage, cloud: CloudStore, service: Any) -> None:
    parts = [put(cloud, f"jid/a/{number}", bytes([number]) * 1000) for number in range(JOINED)]
    data = b"".join(bytes([number]) * 1000 for number in range(JOINED))
    received = server.bytes_in
    for bucket in ("parts", "exports"):
        target = CloudTarget(f"gs://{bucket}/out/a.csv", cloud, service)
        assert target.takes_parts
        whole = finished(data, parts, content_type="text/csv", metadata={"shop": "7"})
        published = target.write(whole, 0)
        found = server.object(bucket, "out/a.csv")
        assert (found.data, found.content_type, found.metadata) == (data, "text/csv", {"shop": "7"})
        assert published == (found.generation, len(data), crc32c(data))
        assert target.generation() == found.generation
    assert server.bytes_in - received < 20_000
    assert server.bytes_out < 40_000


def test_a_large_object_is_copied_in_several_requests(server: CloudStorage, cloud: CloudStore, service: Any) -> None:
    server.rewrite_chunk = 4
    CloudTarget("gs://exports/a", cloud, service).write(finished(DATA, [put(cloud)]), 0)
    assert server.objects("exports") == {"a": DATA}
    assert len([each for each in server.operations if each.verb == "copy"]) == 3


@pytest.mark.parametrize("size", [0, 10, 9 * 1024 * 1024])
def test_what_is_not_in_cloud_storage_is_uploaded(server: CloudStorage, service: Any, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    target = CloudTarget("gs://exports/a.csv", None, service)
    assert not target.takes_parts
    target.write(finished(data, content_type="text/csv", metadata={"a": "b"}), 0)
    found = server.object("exports", "a.csv")
    assert (found.data, found.content_type, found.metadata) == (data, "text/csv", {"a": "b"})


@pytest.mark.parametrize("bucket", ["parts", "exports"])
@pytest.mark.parametrize("fault", PASSING, ids=str)
def test_publishing_comes_through_what_passes(
    server: CloudStorage, cloud: CloudStore, service: Any, fault: Fault, bucket: str
) -> None:
    parts = [put(cloud, f"jid/a/{number}") for number in range(2)]
    target = CloudTarget(f"gs://{bucket}/a", cloud, service)
    server.put(bucket, "a", b"the last one")
    server.fault = first(2, "copy" if bucket == "exports" else "compose", fault)
    published = target.write(finished(DATA * 2, parts), target.generation())
    assert server.objects(bucket)["a"] == DATA * 2
    assert published.generation == server.object(bucket, "a").generation


@pytest.mark.parametrize("bucket", ["parts", "exports"])
def test_somebody_elses_object_is_left_alone(
    server: CloudStorage, cloud: CloudStore, service: Any, bucket: str
) -> None:
    parts = [put(cloud, f"jid/a/{number}") for number in range(2)]
    target = CloudTarget(f"gs://{bucket}/a", cloud, service)
    server.put(bucket, "a", b"theirs")
    with pytest.raises(StoreError, match="somebody else"):
        target.write(finished(DATA * 2, parts), 0)
    with pytest.raises(StoreError, match="somebody else"):
        target.write(finished(DATA * 2, parts), 12345)
    assert server.objects(bucket)["a"] == b"theirs"
    server.put(bucket, "a", DATA * 2)
    ours = target.write(finished(DATA * 2, parts), 0)
    assert ours.generation == server.object(bucket, "a").generation


def test_what_is_not_what_was_written_is_not_left_there(server: CloudStorage, cloud: CloudStore, service: Any) -> None:
    target = CloudTarget("gs://parts/a", cloud, service)
    with pytest.raises(Mismatch, match="was removed again"):
        target.write(finished(b"others", [put(cloud)]), 0)
    assert set(server.objects("parts")) == {NAME}


@pytest.mark.parametrize("url", ["gs://", "gs://bucket", "gs://bucket/", "gs:///name"])
def test_an_address_that_names_no_object_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="gs://bucket/object"):
        CloudTarget(url, None)


def test_many_threads_may_use_one_store(server: CloudStorage, cloud: CloudStore) -> None:
    failed: list[BaseException] = []

    def use(number: int) -> None:
        try:
            data = bytes([number]) * 5000
            part = put(cloud, f"jid/{number}", data)
            assert got(cloud, part) == data
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failed == []
    assert len(server.objects("parts")) == 16
