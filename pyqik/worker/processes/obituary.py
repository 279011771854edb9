"""Tells the author's code of a job that the supervisor has put into the dead set, as it crashed its process too often.

The supervisor runs no code of the author's, so a child does it: it reads the entry and calls the death handlers.
"""

from __future__ import annotations

import structlog
from redis.exceptions import RedisError

from pyqik.core.errors import InvalidPayload, PoisonPill
from pyqik.core.events import events
from pyqik.wire.broker import UnitOfWork
from pyqik.wire.connection import open_redis
from pyqik.wire.custody import dead_entries_at
from pyqik.wire.payload import decode
from pyqik.worker.engine.handlers import Handlers
from pyqik.worker.upkeep.suspects import Death

log = structlog.get_logger("pyqik")


def tell_of_death(death: Death, redis: str, handlers: Handlers) -> None:
    """Call whoever hears of any job that dies. `redis` is the URL; the entry is read, as it may be large."""
    with open_redis(redis) as client:
        try:
            entries = dead_entries_at(client, death.died_at)
        except RedisError as error:
            log.error("the death of a job could not be told", jid=death.jid, error=str(error))
            return
    for raw in entries:
        if death.digest_of(raw) == death.digest:
            pill = PoisonPill(death.reason)
            events.emit("job.died", unit=UnitOfWork(b"", death.queue, raw), error=pill)
            try:
                handlers.died(decode(raw), pill)
            except InvalidPayload:
                pass  # No job: there is nothing to tell the handlers of.
