"""The state of one long job in memory, read and written as `iteration.lua` and `settle.lua` do in Redis."""

from __future__ import annotations

from collections.abc import Mapping

from pyqik.testing.kept_files import KeptFiles
from pyqik.wire.state_requests import HashWrite, Open, Question, Read, StateReply, Writes


class StateHash:
    """The hash `it-<jid>`; without fields it is not there. `beside` are the hashes beside it, by key. `owner` names the
    run that asks.
    """

    def __init__(self, fields: Mapping[bytes, bytes], beside: Mapping[str, Mapping[bytes, bytes]] = {}) -> None:
        self.fields = dict(fields)
        self.beside = {key: dict(each) for key, each in beside.items()}
        #: What the job has stored of its files, and published.
        self.storage = KeptFiles()

    def copy(self) -> StateHash:
        """One that may go another way."""
        copied = StateHash(self.fields, self.beside)
        copied.storage = self.storage.copy()
        return copied

    def answer(self, owner: bytes, question: Question) -> StateReply:
        """What Redis would answer."""
        if isinstance(question, Open):
            return self._open(owner)
        if self.fields.get(b"owner") != owner:
            return StateReply.read([b"lost"])
        if isinstance(question, Read):
            return StateReply("ok", dict(self.beside.get(question.key, {})))
        self._write(question.writes)
        return StateReply.read([b"ok", self.fields.get(b"cancelled", b"")])

    def settle(self, owner: bytes, writes: Writes) -> None:
        """What the end of a run makes of it; nothing if it says nothing of it."""
        if writes and self.fields.get(b"owner") == owner:
            self._write(writes)
            self.fields.pop(b"owner", None)

    def cancel(self, now: float) -> None:
        """What `Client.cancel` does."""
        self._set_missing({b"cancelled": b"%d" % now, b"ex": b"0", b"c": b"null", b"rt": b"0"})

    def text(self) -> dict[str, str]:
        """The fields as text."""
        return {name.decode(): value.decode("utf-8", "replace") for name, value in self.fields.items()}

    def _open(self, owner: bytes) -> StateReply:
        self._set_missing({b"ex": b"0", b"c": b"null", b"rt": b"0"})
        self.fields[b"owner"] = owner
        return StateReply.read([b"ok", [part for pair in self.fields.items() for part in pair]])

    def _write(self, writes: Writes) -> None:
        state, *others = writes
        _write_hash(self.fields, state)
        for write in others:
            _write_hash(self.beside.setdefault(write.key, {}), write)
        self.beside = {key: fields for key, fields in self.beside.items() if fields}

    def _set_missing(self, fields: Mapping[bytes, bytes]) -> None:
        for name, value in fields.items():
            self.fields.setdefault(name, value)


def _write_hash(hash_: dict[bytes, bytes], write: HashWrite) -> None:
    if not write.kept:
        hash_.clear()
    for name, value in write.fields:
        if value:
            hash_[name.encode()] = value
        else:
            hash_.pop(name.encode(), None)
