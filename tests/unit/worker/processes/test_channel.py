"""Messages between supervisor and child arrive whole, in order, however the bytes are cut."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import msgpack
import pytest

from pyqik.worker.processes import channel as channel_module
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


def test_a_reader_who_is_too_busy_does_not_block_the_sender(
    ends: tuple[Channel, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_module, "SEND_TIMEOUT", 0.01)
    ours, theirs = Channel.pair()

    sent = ours.send("report", running=["x" * 10_000_000])

    assert (sent, ours.closed, ours.rest()) == (False, True, [])
    theirs.close()


def test_a_closed_end_sends_nothing(ends: tuple[Channel, socket.socket]) -> None:
    ours, _ = ends
    ours.close()

    assert ours.send("quiet") is False
