"""What processes and jobs of either language leave in Redis when they run, as a test reads it."""

from __future__ import annotations

import json
from typing import Any

import redis

from tests.support.wait import wait_until


def registered(client: redis.Redis) -> set[str]:
    """The identities of all processes, `host:pid:random`, that the Web UI lists."""
    members = client.smembers("processes")
    return {member.decode() if isinstance(member, bytes) else member for member in members}


def runs_of(client: redis.Redis, job_class: str) -> list[dict[str, Any]]:
    """Each run of the class so far, in order, as {"jid", "args"}."""
    return [json.loads(run) for run in client.lrange(f"ran:{job_class}", 0, -1)]


def wait_for_runs(client: redis.Redis, job_class: str, count: int = 1, timeout: float = 20) -> list[dict[str, Any]]:
    """The runs of the class as soon as there are `count`."""

    def enough() -> list[dict[str, Any]] | None:
        runs = runs_of(client, job_class)
        return runs if len(runs) >= count else None

    runs = wait_until(enough, timeout, f"{count} runs of {job_class}")
    assert runs is not None
    return runs
