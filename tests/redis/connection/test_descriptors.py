"""A process that has no file descriptor left: that Redis cannot be reached is an outage like any other."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio, resource, sys
import redis
from pyqik.wire.connection import close_async_redis, open_async_redis, open_redis

async def ping(client):
    try:
        await client.ping()
    finally:
        await close_async_redis(client)

with asyncio.Runner() as runner:
    # What Python reads but once is read, and what the loop needs is open.
    runner.run(ping(open_async_redis(sys.argv[1])))
    with open_redis(sys.argv[1]) as earlier:
        earlier.ping()
    client, asynchronous = open_redis(sys.argv[1]), open_async_redis(sys.argv[1])
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    for attempt in (client.ping, lambda: runner.run(ping(asynchronous))):
        try:
            attempt()
        except redis.ConnectionError:
            print("outage")
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    print(client.ping())
    client.close()
"""


def test_without_a_free_descriptor_redis_cannot_be_reached_and_later_it_can(redis_url: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, redis_url], capture_output=True, text=True, check=False, timeout=30
    )

    assert (ended.stdout.split(), ended.stderr) == (["outage", "outage", "True"], "")
