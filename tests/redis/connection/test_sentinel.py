"""Sentinel: a real sentinel, a master and a replica, and what happens when they change places."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis as redis_py

import pyqik
from pyqik.core.config import Config
from pyqik.wire.connection import close_async_redis, open_async_redis, open_redis
from pyqik.worker.launcher import Launcher
from tests.support.redis_server import RedisServer, free_port, server_binary
from tests.support.wait import wait_until


@dataclass
class Fleet:
    """A master called `jobs`, its replica, and one sentinel that watches them."""

    master: RedisServer
    replica: RedisServer
    sentinel: redis_py.Redis
    url: str

    def fail_over(self) -> None:
        """Let the sentinel make the replica the master."""
        wait_until(lambda: self.sentinel.sentinel_slaves("jobs"), message="the sentinel knows the replica")
        wait_until(self._failover_accepted, message="the failover to begin")
        wait_until(lambda: self._master_port() == self.replica.port, timeout=30, message="the replica to be master")

    def _failover_accepted(self) -> bool:
        try:
            return bool(self.sentinel.execute_command("SENTINEL", "FAILOVER", "jobs"))
        except redis_py.ResponseError:
            return False  # NOGOODSLAVE until the replica has been looked at.

    def _master_port(self) -> int:
        return int(self.sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "jobs")[1])


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    port = free_port()
    with RedisServer() as master, RedisServer("--replicaof", f"127.0.0.1 {master.port}") as replica:
        configuration = tmp_path / "sentinel.conf"
        configuration.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor jobs 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds jobs 2000\nsentinel failover-timeout jobs 10000\n"
        )
        process = subprocess.Popen(
            [server_binary(), str(configuration), "--sentinel"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        client = redis_py.Redis(port=port)
        try:
            wait_until(lambda: answers(client), message="the sentinel")
            yield Fleet(master, replica, client, f"redis+sentinel://127.0.0.1:{port}/jobs/0")
        finally:
            client.close()
            process.terminate()
            process.wait()


def answers(client: redis_py.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis_py.ConnectionError:
        return False


def test_the_master_is_asked_for_by_name(fleet: Fleet) -> None:
    with open_redis(fleet.url) as client:
        info = client.info("server")

    assert info["tcp_port"] == fleet.master.port


def test_asyncio_finds_it_too(fleet: Fleet) -> None:
    async def port() -> int:
        client = open_async_redis(fleet.url)
        try:
            return int((await client.info("server"))["tcp_port"])
        finally:
            await close_async_redis(client)

    assert asyncio.run(port()) == fleet.master.port


def test_work_goes_on_after_a_failover(fleet: Fleet) -> None:
    ran: list[int] = []

    @pyqik.job("Failover", queue="python")
    def note(number: int) -> None:
        ran.append(number)

    with Launcher(Config(redis=fleet.url, queues=["python"], concurrency=2, port=0)), pyqik.Client(fleet.url) as client:
        client.push("Failover", 1, queue="python")
        wait_until(lambda: ran == [1], message="the job before the failover")

        fleet.fail_over()
        client.push("Failover", 2, queue="python")

        wait_until(lambda: 2 in ran, timeout=40, message="the job after the failover")
    with redis_py.Redis(port=fleet.replica.port) as new_master:
        assert new_master.llen("queue:python") == 0
