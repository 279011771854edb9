"""Payloads that differ in jid and args only: everything else is checked and written once. For bulk pushes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from pyqik.wire.payload import Payload, check_json, encode

_encode = msgspec.json.Encoder().encode

#: Types whose every value JSON holds exactly.
_EXACT: Final = frozenset({int, bool, type(None)})
#: Containers inside each other that the quick look follows.
_QUICK_DEPTH: Final = 8


class Stencil:
    """The text of `fields`, into which jids and args are put. Raises: InvalidJob, as `encode` does."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._head = encode(Payload(dict(fields))).removesuffix(b"}") + b',"jid":"'

    def payload(self, jid: str, args: list[Any]) -> bytes:
        """The payload of one job; `jid` is hexadecimal, so it needs no escaping. Raises: InvalidJob for its args."""
        # The full check, which can name the place, costs more than all the rest of a payload.
        if not _is_plain(args, _QUICK_DEPTH):
            check_json(args, "args")
        return b'%b%b","args":%b}' % (self._head, jid.encode(), _encode(args))


def _is_plain(values: Iterable[Any], depth: int) -> bool:
    """Whether they are ids, flags, ASCII text, and lists and hashes of these, as most arguments are."""
    for value in values:
        kind = type(value)
        if kind in _EXACT or (kind is str and value.isascii()):
            continue
        if depth == 0:
            return False
        if kind is dict:
            if not all(type(key) is str and key.isascii() for key in value) or not _is_plain(value.values(), depth - 1):
                return False
        elif kind is not list or not _is_plain(value, depth - 1):
            return False
    return True
