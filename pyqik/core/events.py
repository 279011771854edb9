"""What happens inside a process, for whoever wants to listen: metrics, error reporters, tests.

An event is a name and keyword fields. Subscribers run in the thread that emits and must be quick; an error in one is
logged and harms nobody else. The table below is the contract: emitting or subscribing to another name is an error.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

Subscriber = Callable[..., None]

#: name → the fields that come with it. `unit` is a `pyqik.wire.broker.UnitOfWork`, `error` a BaseException or None,
#: `reason` a `pyqik.core.errors.Reason`, `outcome` a `pyqik.worker.engine.outcome.Outcome`, `elapsed` seconds,
#: `identity` a process as the Web UI names it, `job` the class and the jid of an async job, or None.
EVENTS: Final[dict[str, tuple[str, ...]]] = {
    # This process was taken for dead, wrongly; and: this process took over the jobs of a dead one.
    "process.superseded": ("identity",),
    "process.rescued": ("identity", "count"),
    "fetch.taken": ("count",),
    "fetch.idle": (),
    "fetch.paused": ("queues",),
    "job.started": ("unit",),
    "job.done": ("unit", "elapsed"),
    "job.failed": ("unit", "error", "outcome", "elapsed"),
    "job.died": ("unit", "error"),
    "job.discarded": ("unit", "error"),
    "job.interrupted": ("unit", "reason"),
    "job.settled": ("units",),
    "payload.invalid": ("raw", "error"),
    "redis.lost": ("error",),
    "redis.restored": ("downtime",),
    "loop.blocked": ("job", "seconds"),
    "schedule.promoted": ("count",),
}

log = logging.getLogger("pyqik.events")


class Events:
    """A process's bus. Subscribing is thread-safe; emitting without subscribers costs one dictionary lookup."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: By event; empty as long as nobody listens to anything, so that the hottest places need not even emit.
        self.subscribers: dict[str, tuple[Subscriber, ...]] = {}

    def subscribe(self, name: str, subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber(**fields)` at each event called `name`; returns a function that ends it.

        Raises: KeyError for a name that is not in `EVENTS`.
        """
        if name not in EVENTS:
            raise KeyError(f"there is no event {name!r}; the events are: {', '.join(sorted(EVENTS))}")
        with self._lock:
            self.subscribers[name] = (*self.subscribers.get(name, ()), subscriber)
        return lambda: self._unsubscribe(name, subscriber)

    def on(self, name: str) -> Callable[[Subscriber], Subscriber]:
        """Subscribe as a decorator: `@pyqik.events.on("job.failed")`."""

        def register(subscriber: Subscriber) -> Subscriber:
            self.subscribe(name, subscriber)
            return subscriber

        return register

    def emit(self, name: str, **fields: object) -> None:
        """Tell every subscriber of `name`. Never raises."""
        subscribers = self.subscribers.get(name)
        if subscribers is None:
            return
        for subscriber in subscribers:
            try:
                subscriber(**fields)
            except Exception:
                log.exception("a subscriber of %s raised", name)

    def _unsubscribe(self, name: str, subscriber: Subscriber) -> None:
        with self._lock:
            rest = tuple(s for s in self.subscribers.get(name, ()) if s is not subscriber)
            if rest:
                self.subscribers[name] = rest
            else:
                self.subscribers.pop(name, None)


#: The bus of this process.
events: Final = Events()
