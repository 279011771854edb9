"""What follows when the supervisor was killed: the jobs of its children go back, and they leave the list of processes.

The guardian turns into this (`python -m pyqik.worker.processes.aftermath`) once the children have ended. On its
standard input are the settings and the children. It does not try for long: should Redis be away, others do it when the
leases end.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Sequence
from typing import Final

import redis
import structlog
from redis.exceptions import RedisError

from pyqik.core.config import Config
from pyqik.wire import presence
from pyqik.wire.broker import recover
from pyqik.wire.connection import open_redis
from pyqik.worker import logs
from pyqik.worker.upkeep.recovery import AGAIN, RETRY

log = structlog.get_logger("pyqik")

#: Seconds after which it gives up on Redis.
PATIENCE: Final = 10.0


def settings_line(config: Config, custody: str) -> str:
    """What `main` needs of the configuration, and the supervisor's custody, as one line."""
    logging = {"log_level": config.log_level, "log_format": config.log_format}
    return json.dumps({"redis": config.redis, "custody": custody, **logging})


def main() -> int:
    """Give everything back; the exit status: 1 if Redis was away."""
    settings, *lines = sys.stdin.read().split("\n")
    known = json.loads(settings)
    logs.configure(known["log_level"], known["log_format"])
    children = [line.split(" ", 1) for line in lines]
    killed = [identity for how, identity in children if how == "killed"]
    identities = [identity for _, identity in children]
    log.error("the supervisor was killed; giving back what its children held", identities=identities, killed=killed)
    with open_redis(known["redis"]) as client:
        left = give_back(client, [*identities, known["custody"]], time.monotonic() + PATIENCE)
    if left:
        log.error("not everything could be given back; others do it when the leases end", identities=left)
    return 1 if left else 0


def give_back(client: redis.Redis, identities: Sequence[str], deadline: float) -> list[str]:
    """Give back what these held, and unregister them; those for whom that could not be done before `deadline`."""
    left = list(identities)
    pause = threading.Event()
    while True:
        try:
            for identity in list(left):
                count = recover(client, identity)
                log.info("gave back the jobs of an ended process", identity=identity, count=count)
                # As in `upkeep.recovery`: a blocking move may land a job until Redis notices that nobody is there.
                pause.wait(AGAIN[0])
                recover(client, identity)
                presence.leave(client, identity)
                left.remove(identity)
            return []
        except RedisError as error:
            if time.monotonic() >= deadline:
                return left
            log.error("could not give back the jobs of an ended process yet", error=str(error))
            pause.wait(RETRY)


if __name__ == "__main__":
    sys.exit(main())
