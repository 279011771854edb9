"""The jobs that this process can run, by the exact class name that stands in payloads.

Declaring a job registers it; nothing is ever imported or looked up by a name that came from Redis.
"""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from pyqik.core.errors import InvalidJob, JobNotRegistered
from pyqik.jobs.definition import JobDefinition

#: Names that an error lists at most.
SHOWN_NAMES: Final = 20


class Registry:
    """Definitions by name. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._definitions: dict[str, JobDefinition] = {}
        self._has_async = self._has_plain = False

    def register(self, definition: JobDefinition) -> None:
        """Add `definition`. The same origin again (a reloaded module) replaces the older one.

        Raises: InvalidJob when other code has the name already.
        """
        with self._lock:
            older = self._definitions.get(definition.name)
            if older is not None and older.origin != definition.origin:
                raise InvalidJob(
                    f"two jobs are called {definition.name!r}: {older.origin} and {definition.origin}; "
                    f"give one of them another name"
                )
            self._replace({**self._definitions, definition.name: definition})

    def get(self, name: str) -> JobDefinition:
        """The job called `name`; Sidekiq 6's leading `::` does not count.

        Raises: JobNotRegistered.
        """
        definition = self._definitions.get(name) or self._definitions.get(name.removeprefix("::"))
        if definition is None:
            raise JobNotRegistered(self._unknown(name))
        return definition

    @property
    def has_async(self) -> bool:
        """Whether any job is an `async def`."""
        return self._has_async

    @property
    def has_plain(self) -> bool:
        """Whether any job is a plain function."""
        return self._has_plain

    def names(self) -> list[str]:
        """Every registered name, in alphabetical order."""
        return sorted(self._definitions)

    @contextmanager
    def restored(self, keep: Callable[[JobDefinition], bool] = lambda definition: True) -> Iterator[None]:
        """Within the block there are only the jobs that `keep` picks; afterwards all is as it was before. For tests."""
        with self._lock:
            before = self._definitions
            self._replace({name: definition for name, definition in before.items() if keep(definition)})
        try:
            yield
        finally:
            with self._lock:
                self._replace(before)

    def _replace(self, definitions: dict[str, JobDefinition]) -> None:
        # A dictionary that is in use is never changed, so that readers need no lock.
        self._definitions = definitions
        self._has_async = any(definition.is_async for definition in definitions.values())
        self._has_plain = not all(definition.is_async for definition in definitions.values())

    def _unknown(self, name: str) -> str:
        names = self.names()
        similar = difflib.get_close_matches(name, names, n=1)
        hint = f" (did you mean {similar[0]!r}?)" if similar else ""
        shown = ", ".join(names[:SHOWN_NAMES]) + (
            f" and {len(names) - SHOWN_NAMES} more" if names[SHOWN_NAMES:] else ""
        )
        return (
            f"no imported module registers the job {name!r}{hint}; import the module that does, with -r. "
            f"Registered: {shown or 'none'}"
        )


#: The registry of this process.
registry: Final = Registry()
