"""What Redis knows of the files of jobs, for whoever clears away what is left of them in the store."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from typing import cast

import redis
from redis.exceptions import RedisError

from pyqik.wire import keys


class KnownJobs:
    """The long jobs of one database. All methods raise redis.RedisError."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def may_sweep(self, interval: float) -> bool:
        """Whether nobody has been told so in the last `interval` seconds."""
        return bool(self._client.set(keys.SWEEP, "1", nx=True, ex=int(interval)))

    def owner(self) -> str:
        """The id of this database: other ones have other jobs. It is drawn when it is first asked for."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.set(keys.FILES, secrets.token_hex(16), nx=True)
            pipe.get(keys.FILES)
            return cast(bytes, pipe.execute()[1]).decode("utf-8", "replace")

    def live(self, jids: Collection[str], owner: str) -> set[str]:
        """Those of which there is a state, so that they go on with their files. One round trip.

        Raises: redis.RedisError, too, if this is no longer the database `owner`: one that was emptied knows no job.
        """
        with self._client.pipeline(transaction=True) as pipe:
            pipe.get(keys.FILES)
            for jid in jids:
                pipe.exists(keys.iteration(jid))
            found, *exist = pipe.execute()
        if found != owner.encode():
            raise RedisError(f"{keys.FILES} is no longer what it was: the database was emptied, or is another one")
        return {jid for jid, there in zip(jids, exist, strict=True) if there}
