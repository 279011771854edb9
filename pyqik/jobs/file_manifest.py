"""What the state of a job says of its files: the parts of each, in their order, and where it was published."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyqik.core.errors import InvalidCursor
from pyqik.stores.store import Part
from pyqik.stores.targets import Published


@dataclass(slots=True)
class Entry:
    """What the state says of a file: the parts of what counts of it, and where it was published."""

    parts: list[Part] = field(default_factory=list)
    published: dict[str, Published] = field(default_factory=dict)
    #: Address → the generation that stood there before it was published for the first time.
    intended: dict[str, int] = field(default_factory=dict)


def manifest_text(entries: Mapping[str, Entry]) -> bytes:
    """What is written of them; nothing if there are none."""
    plain = {
        name: {
            "parts": entry.parts,
            **({"published": entry.published} if entry.published else {}),
            **({"intended": entry.intended} if entry.intended else {}),
        }
        for name, entry in entries.items()
    }
    return json.dumps(plain, separators=(",", ":")).encode() if plain else b""


def read_manifest(text: bytes | None, prefix: str) -> dict[str, Entry]:
    """What `manifest_text` has written, by the job whose parts begin with `prefix`. Raises: InvalidCursor."""
    try:
        plain: dict[str, Any] = json.loads(text or b"{}")
        return {
            name: Entry(
                [_checked(Part(*part), prefix) for part in each["parts"]],
                {url: Published(*published) for url, published in each.get("published", {}).items()},
                {url: int(generation) for url, generation in each.get("intended", {}).items()},
            )
            for name, each in plain.items()
        }
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise InvalidCursor(f"what is kept of the job's files cannot be read: {error}") from None


def _checked(part: Part, prefix: str) -> Part:
    """A part that is one of this job's: anybody who writes to Redis could name another file."""
    numbers = (part.size, part.crc, part.generation)
    if any(type(each) is not int or each < 0 for each in numbers) or not part.name.startswith(prefix):
        raise ValueError(f"{part!r} is no part of this job's files")
    if any(each in ("", ".", "..") for each in part.name.split("/")):
        raise ValueError(f"{part!r} has no proper name")
    return part
