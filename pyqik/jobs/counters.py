"""Numbers that survive with the cursor of a long job."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

Number = int | float


class Counters(MutableMapping[str, Any]):
    """Numbers by name, int or float as they were set; 0 before that. They are written in one command with the cursor.

    An item that fails or is interrupted is done again, so what it had counted by then is not kept. `current` says the
    number of the current item.
    """

    def __init__(self, current: Callable[[], int]) -> None:
        self._current = current
        self._values: dict[str, Number] = {}
        #: What they were before the current item changed one, and the number of that item.
        self._before: dict[str, Number] = {}
        self._item = -1

    def load(self, values: Mapping[str, Number]) -> None:
        """Begin with what an earlier run left."""
        self._values = dict(values)

    def commit(self) -> None:
        """What they are now is kept, whatever becomes of the current item."""
        self._item = -1

    def committed(self, item: int) -> dict[str, Number]:
        """What is kept if the item numbered `item` is done again."""
        return dict(self._before if self._item == item else self._values)

    def __getitem__(self, name: str) -> Any:
        return self._values.get(name, 0)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __setitem__(self, name: str, value: Any) -> None:
        if type(name) is not str or not (type(value) is int or (type(value) is float and math.isfinite(value))):
            raise TypeError(f"counters[{name!r}] is {value!r}; write a text as the name, and a finite number")
        self._touch()
        self._values[name] = value

    def __delitem__(self, name: str) -> None:
        self._touch()
        del self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<counters {self._values}>"

    def _touch(self) -> None:
        item = self._current()
        if item != self._item:
            self._before, self._item = dict(self._values), item
