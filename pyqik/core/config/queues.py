"""Queue lists: names with weights, how they are written, what order they mean, and what is wrong with one.

Which queues a process serves is `Config.all_queues`; taking jobs from them is the fetcher's part.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal

QueueMode = Literal["strict", "random", "weighted"]

# Sidekiq's Web UI routes only these; it answers 404 for a queue of another name.
_SHOWN_BY_WEB_UI: Final = re.compile(r"[A-Za-z_:.\-0-9]+")


def queue_mode(weights: Mapping[str, int]) -> QueueMode:
    """How Sidekiq walks these queues: in order, shuffled evenly, or shuffled by weight (0 counts as 1 there)."""
    if all(weight == 0 for weight in weights.values()):
        return "strict"
    return "random" if all(weight == 1 for weight in weights.values()) else "weighted"


def weights_of(queues: Mapping[str, int] | Sequence[str]) -> Mapping[str, int]:
    """An immutable name → weight, in the given order; names without weights get 0 (strict order)."""
    if isinstance(queues, Mapping):
        return MappingProxyType(dict(queues))
    return MappingProxyType(dict.fromkeys(queues, 0))


def queue_with_weight(text: str) -> tuple[str, int]:
    """Read `critical` or `critical,3`, as flags and sidekiq.yml write a queue.

    Raises: ValueError, with the way out, if what follows the comma is not a weight.
    """
    name, comma, weight = (part.strip() for part in text.partition(","))
    if comma and not (weight.isascii() and weight.isdigit()):
        raise ValueError(
            f"queue {_quoted(text)}: after the comma comes a weight, as in critical,3; name each queue apart"
        )
    return name, int(weight or 0)


def queue_mistakes(queues: object) -> Iterator[str]:
    """Each mistake in what was given as `queues`: a mapping of weights or a list of names."""
    if isinstance(queues, Mapping):
        for name, weight in queues.items():
            yield from _name_mistakes(name)
            yield from _weight_mistakes(name, weight)
    elif isinstance(queues, Sequence) and not isinstance(queues, (str, bytes)):
        for name in queues:
            yield from _name_mistakes(name)
        yield from _twice(queues)
    else:
        yield f'queues is {_quoted(queues)}; write queues=["default"] or queues={{"critical": 3, "default": 1}}'
        return
    if not queues:
        yield 'queues is empty; name at least one, as in queues=["default"]'


def queue_warnings(queues: Mapping[str, int]) -> Iterator[str]:
    """Names that work in Redis but that Sidekiq's Web UI cannot show."""
    for name in queues:
        if not _SHOWN_BY_WEB_UI.fullmatch(name):
            yield (
                f"queue {_quoted(name)}: Sidekiq's Web UI answers 404 for it; "
                "use only letters, digits and _ : . - in the name"
            )


def _name_mistakes(name: object) -> Iterator[str]:
    if not isinstance(name, str):
        yield f'queue {_quoted(name)} is not a text; write it in quotes, as in "default"'
    elif not name.strip():
        yield f"queue {_quoted(name)} is empty; give it a name or leave it out"
    elif "," in name:
        stem, _, weight = name.partition(",")
        shown = int(weight) if weight.isascii() and weight.isdigit() else 2
        yield f"queue {_quoted(name)} has a comma; write queues={{{_quoted(stem)}: {shown}}} for a weight"
    elif not name.isprintable():
        yield f"queue {_quoted(name)} has a control character; write the name without it"


def _weight_mistakes(name: object, weight: object) -> Iterator[str]:
    if not isinstance(weight, int) or isinstance(weight, bool) or weight < 0:
        yield (f"queue {_quoted(name)} has the weight {_quoted(weight)}; write a whole number, 0 for strict order")


def _twice(queues: Sequence[object]) -> Iterator[str]:
    names = [name for name in queues if isinstance(name, str)]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            yield f"queue {_quoted(name)} is named twice; write queues={{{_quoted(name)}: 2}} to favour it"


def _quoted(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
