"""Where the default clients of a process push to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
import redis as redis_py

import pyqik
from pyqik.jobs import process
from pyqik.jobs.process import default_async_client, default_client


def push() -> None:
    """Push through the default client."""
    default_client().push("Foo")


def elsewhere(redis_url: str) -> str:
    """Another database of the same server."""
    return redis_url.removesuffix("/0") + "/1"


@pytest.fixture
def second(redis_url: str) -> Iterator[redis_py.Redis]:
    """A client of that other database."""
    client = redis_py.Redis.from_url(elsewhere(redis_url))
    yield client
    client.close()


def test_it_pushes_to_what_was_configured(redis: redis_py.Redis, redis_url: str) -> None:
    pyqik.configure(pyqik.Config(redis=redis_url))

    push()

    assert redis.llen("queue:default") == 1


def test_without_configuration_it_reads_redis_url(
    redis: redis_py.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)

    push()

    assert redis.llen("queue:default") == 1


def test_redis_provider_names_the_variable(
    redis: redis_py.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", elsewhere(redis_url))
    monkeypatch.setenv("REDIS_PROVIDER", "MY_REDIS")
    monkeypatch.setenv("MY_REDIS", redis_url)

    push()

    assert redis.llen("queue:default") == 1


def test_a_provider_that_is_not_set_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_PROVIDER", "NOWHERE")

    with pytest.raises(pyqik.ConfigError, match="REDIS_PROVIDER names NOWHERE"):
        default_client()


def test_web_process_and_worker_agree_that_the_environment_is_stronger_than_code(
    second: redis_py.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", elsewhere(redis_url))
    pyqik.configure(pyqik.Config(redis=redis_url))

    push()

    assert second.llen("queue:default") == 1


def test_what_the_worker_has_worked_out_is_final(
    redis: redis_py.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", elsewhere(redis_url))
    process.use(pyqik.Config(redis=redis_url))

    push()

    assert redis.llen("queue:default") == 1


def test_configured_middleware_is_used(redis: redis_py.Redis, redis_url: str) -> None:
    def elsewhere(payload: pyqik.Payload) -> Iterator[None]:
        payload["queue"] = "elsewhere"
        yield

    pyqik.configure(pyqik.Config(redis=redis_url, client_middleware=[elsewhere]))

    push()

    assert redis.llen("queue:elsewhere") == 1


def test_a_new_configuration_replaces_the_client(redis: redis_py.Redis, second: redis_py.Redis, redis_url: str) -> None:
    pyqik.configure(pyqik.Config(redis=redis_url))
    push()
    pyqik.configure(pyqik.Config(redis=elsewhere(redis_url)))

    push()

    assert (redis.llen("queue:default"), second.llen("queue:default")) == (1, 1)


def test_all_threads_share_one_client(redis_url: str) -> None:
    pyqik.configure(pyqik.Config(redis=redis_url))
    start = threading.Barrier(8)
    clients: list[pyqik.Client] = []

    def ask() -> None:
        start.wait()
        clients.append(default_client())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(clients) == 8
    assert len(set(map(id, clients))) == 1


def test_all_coroutines_of_a_loop_share_one_client(redis_url: str) -> None:
    pyqik.configure(pyqik.Config(redis=redis_url))

    async def ask() -> list[pyqik.AsyncClient]:
        return await asyncio.gather(*[default_async_client() for _ in range(8)])

    clients = asyncio.run(ask())

    assert len(set(map(id, clients))) == 1
