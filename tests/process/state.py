"""What process tests put into Redis, and what they read of its whole state afterwards."""

from __future__ import annotations

import json
from typing import Any

import redis as redis_py

#: Where a payload may be: the key, for an in-flight record without its token.
Places = dict[bytes, list[str]]


def payload(job_class: str, *args: object, jid: str, queue: str = "default", **fields: object) -> bytes:
    """A payload as Ruby might have written it: with spaces, a field that nobody knows, and digits to be kept."""
    known = {"class": job_class, "args": args, "jid": jid, "queue": queue, "retry": True, "created_at": 1.10, **fields}
    return b'{"odd" : 1.10, "big":1180591620717411303424,' + json.dumps(known).encode()[1:]


def jids(count: int, prefix: str = "a") -> list[str]:
    """`count` different jids whose order is that of their numbers."""
    return [f"{prefix}{number:023x}" for number in range(count)]


def push(client: redis_py.Redis, *payloads: bytes, queue: str = "default") -> None:
    """Push `payloads`, the first to be taken first."""
    client.sadd("queues", queue)
    client.lpush(f"queue:{queue}", *payloads)


def next_in_queue(client: redis_py.Redis, queue: str = "default") -> list[bytes]:
    """What waits in a queue, the first to be taken first."""
    waiting: list[bytes] = client.execute_command("LRANGE", f"queue:{queue}", 0, -1)
    return waiting[::-1]


def in_custody(client: redis_py.Redis) -> list[bytes]:
    """What waits to run alone, the first to be taken first."""
    names: list[bytes] = client.execute_command("KEYS", "pyqik:landing:*:solo:*")
    return [raw for name in sorted(names) for raw in reversed(client.execute_command("LRANGE", name, 0, -1))]


def dead(client: redis_py.Redis) -> list[dict[str, Any]]:
    """The entries of the dead set."""
    entries: list[bytes] = client.execute_command("ZRANGE", "dead", 0, -1)
    return [json.loads(entry) for entry in entries]


def everything(client: redis_py.Redis) -> dict[str, Any]:
    """Every key of the database with its value; without those that go while it reads."""
    names: list[bytes] = client.execute_command("KEYS", "*")
    values = {key.decode("utf-8", "replace"): _value(client, key) for key in sorted(names)}
    return {name: value for name, value in values.items() if value is not None}


def places(client: redis_py.Redis) -> Places:
    """Every payload of the whole database, and each place where it stands."""
    found: Places = {}
    for key, value in everything(client).items():
        for raw in _payloads(key, value):
            found.setdefault(raw, []).append(key)
    return found


def traces(client: redis_py.Redis) -> dict[str, Any]:
    """What a process that lives has in Redis, and one that has ended must not: registration, lease, work, jobs."""
    return {key: value for key, value in everything(client).items() if _is_trace(key, value)}


def count_processed(client: redis_py.Redis) -> int:
    """Sidekiq's counter of executed jobs."""
    return int(client.get("stat:processed") or 0)


def _is_trace(key: str, value: Any) -> bool:
    if key.startswith("pyqik:in-flight:"):
        return any(b":" in field for field in value)
    return key in ("processes", "pyqik:leases") or key.endswith((":work", ":workers", "-signals")) or "landing" in key


def _payloads(key: str, value: Any) -> list[bytes]:
    if key.startswith("pyqik:in-flight:"):
        return [record.split(b"\n", 1)[1] for field, record in value.items() if b":" in field]
    if isinstance(value, list) and not key.endswith("-signals"):
        return value
    return []


def _value(client: redis_py.Redis, key: bytes) -> Any:
    match client.type(key):
        case b"string":
            return client.get(key)
        case b"list":
            return client.lrange(key, 0, -1)
        case b"set":
            return client.smembers(key)
        case b"hash":
            return client.hgetall(key)
        case b"zset":
            members: list[bytes] = client.execute_command("ZRANGE", key, 0, -1)
            return set(members) if key == b"pyqik:leases" else members
    return None
