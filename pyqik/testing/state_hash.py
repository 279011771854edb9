"""The state of one long job in memory, read and written as `iteration.lua` and `settle.lua` do in Redis."""

from __future__ import annotations

from collections.abc import Mapping

from pyqik.wire.iteration import Fields, StateEnd, StateReply


class StateHash:
    """The hash `it-<jid>`; without fields it is not there. `owner` names the run that asks."""

    def __init__(self, fields: Mapping[bytes, bytes]) -> None:
        self.fields = dict(fields)

    def open(self, owner: bytes) -> StateReply:
        """All of the state, which is the owner's from now on."""
        self._set_missing({b"ex": b"0", b"c": b"null", b"rt": b"0"})
        self.fields[b"owner"] = owner
        return StateReply.read([b"ok", [part for pair in self.fields.items() for part in pair]])

    def save(self, owner: bytes, fields: Fields) -> StateReply:
        """Write these fields, unless another run has opened it since."""
        if self.fields.get(b"owner") != owner:
            return StateReply.read([b"lost"])
        write_fields(self.fields, fields)
        return StateReply.read([b"ok", self.fields.get(b"cancelled", b"")])

    def settle(self, owner: bytes, end: StateEnd | None) -> None:
        """What the end of a run makes of it; None if nothing is said of it."""
        if end is None or self.fields.get(b"owner") != owner:
            return
        if end.fields is None:
            self.fields.clear()
            return
        write_fields(self.fields, end.fields)
        self.fields.pop(b"owner", None)

    def cancel(self, now: float) -> None:
        """What `Client.cancel` does."""
        self._set_missing({b"cancelled": b"%d" % now, b"ex": b"0", b"c": b"null", b"rt": b"0"})

    def text(self) -> dict[str, str]:
        """The fields as text."""
        return {name.decode(): value.decode("utf-8", "replace") for name, value in self.fields.items()}

    def _set_missing(self, fields: Mapping[bytes, bytes]) -> None:
        for name, value in fields.items():
            self.fields.setdefault(name, value)


def write_fields(state: dict[bytes, bytes], fields: Fields) -> None:
    """Write `fields` into a hash; an empty value removes the field."""
    for name, value in fields:
        if value:
            state[name.encode()] = value
        else:
            state.pop(name.encode(), None)
