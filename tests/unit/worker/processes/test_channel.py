"""Messages between supervisor and child arrive whole, in order, however the bytes are cut."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import msgpack
import pytest

from pyqik.worker.processes.channel import Channel


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = Channel.pair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_a_message_arrives_with_its_fields(ends: tuple[Channel, socket.socket]) -> None:
    ours, theirs = ends

    Channel(theirs).send("report", running=[["t1", b"1:1", 5]], quiet=False)

    assert ours.receive() == [{"kind": "report", "running": [["t1", b"1:1", 5]], "quiet": False}]


def test_several_messages_in_one_read_are_kept_apart(ends: tuple[Channel, socket.socket]) -> None:
    ours, theirs = ends

    theirs.sendall(msgpack.packb({"kind": "quiet"}) + msgpack.packb({"kind": "stop", "timeout": 1.5}))

    assert ours.receive() == [{"kind": "quiet"}, {"kind": "stop", "timeout": 1.5}]


def test_a_message_cut_at_any_byte_is_put_together(ends: tuple[Channel, socket.socket]) -> None:
    ours, theirs = ends
    packed = msgpack.packb({"kind": "report", "executions": [1, 2, {"Foo::Bar": [3]}]})
    received = []

    for byte in packed:
        theirs.sendall(bytes([byte]))
        received.append(ours.receive())

    assert received[:-1] == [[]] * (len(packed) - 1)
    assert received[-1] == [{"kind": "report", "executions": [1, 2, {"Foo::Bar": [3]}]}]


def test_what_was_sent_before_the_end_is_received_and_then_it_is_closed(ends: tuple[Channel, socket.socket]) -> None:
    ours, theirs = ends
    Channel(theirs).send("bye")
    theirs.close()

    messages = ours.receive()
    assert (messages, ours.closed) == ([{"kind": "bye"}], False)

    messages = ours.receive()
    assert (messages, ours.closed) == ([], True)


def test_sending_to_nobody_is_told_and_not_raised(ends: tuple[Channel, socket.socket]) -> None:
    ours, theirs = ends
    theirs.close()

    assert ours.send("quiet") is False


def test_what_a_busy_reader_has_not_read_goes_with_later_messages(ends: tuple[Channel, socket.socket]) -> None:
    ours, theirs = ends
    reader = Channel(theirs)
    large = "x" * 10_000_000

    sent = ours.send("report", running=[large]), ours.flush()
    messages = reader.receive()
    while not messages:
        ours.flush()
        messages = reader.receive()

    assert sent == (True, False)
    assert messages == [{"kind": "report", "running": [large]}]
    assert ours.flush()


def test_a_message_for_a_reader_who_has_read_nothing_for_long_is_dropped_whole(
    ends: tuple[Channel, socket.socket],
) -> None:
    ours, theirs = ends
    reader = Channel(theirs)
    ours.send("first", running=["x" * 10_000_000])

    dropped = ours.send("second")

    received = reader.receive()
    while not ours.flush() or not received:
        received += reader.receive()
    assert ours.send("third")
    while len(received) < 2:
        received += reader.receive()
    assert (dropped, [message["kind"] for message in received]) == (False, ["first", "third"])


def test_a_last_message_has_a_while_to_be_sent(ends: tuple[Channel, socket.socket]) -> None:
    ours, theirs = ends
    ours.send("report", running=["x" * 10_000_000])
    reader = Channel(theirs)
    received: list[object] = []

    def read() -> None:
        while not received:
            received.extend(reader.receive())

    thread = threading.Thread(target=read)
    thread.start()
    flushed = ours.flush(30.0)
    thread.join()

    assert (flushed, len(received)) == (True, 1)


def test_a_closed_end_sends_nothing(ends: tuple[Channel, socket.socket]) -> None:
    ours, _ = ends
    ours.close()

    assert ours.send("quiet") is False
