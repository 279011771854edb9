"""Payloads that differ in jid and args only: everything else is checked and written once. For bulk pushes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pyqik.wire.payload import Payload, check_json, encode

_encode = msgspec.json.Encoder().encode

#: Types whose every value JSON holds exactly.
_EXACT: Final = frozenset({int, bool, type(None)})


class Stencil:
    """The text of `fields`, into which jids and args are put. Raises: InvalidJob, as `encode` does."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._head = encode(Payload(dict(fields))).removesuffix(b"}") + b',"jid":"'

    def payload(self, jid: str, args: list[Any]) -> bytes:
        """The payload of one job; `jid` is hexadecimal, so it needs no escaping. Raises: InvalidJob for its args."""
        for value in args:
            # Ids, flags and plain text are most arguments; the full check costs more than all the rest of a payload.
            if type(value) not in _EXACT and not (type(value) is str and value.isascii()):
                check_json(args, "args")
                break
        return b'%b%b","args":%b}' % (self._head, jid.encode(), _encode(args))
