"""Every kind of connection that a Redis URL can name, against a real server."""

from __future__ import annotations

import asyncio
import select
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis as redis_py
import trustme

from pyqik import Client
from pyqik.wire.connection import Line, open_async_redis, open_redis
from tests.support.redis_server import RedisServer


class _TlsProxy(socketserver.ThreadingTCPServer):
    """Speaks TLS and passes everything on to a server without it; the tests' own server has none."""

    daemon_threads = False

    def __init__(self, target: int, certificate: trustme.LeafCert) -> None:
        super().__init__(("127.0.0.1", 0), _Pump)
        self.target = target
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(self.context)


class _Pump(socketserver.BaseRequestHandler):
    server: _TlsProxy

    def handle(self) -> None:
        try:
            client = self.server.context.wrap_socket(self.request, server_side=True)
        except OSError:
            return  # The client did not like the certificate.
        with client, socket.create_connection(("127.0.0.1", self.server.target)) as server:
            while True:
                ready = [client] if client.pending() else select.select([client, server], [], [])[0]
                source, sink = (client, server) if client in ready else (server, client)
                data = source.recv(65536)
                if not data:
                    return
                sink.sendall(data)


@contextmanager
def tls_in_front_of(port: int, certificate: trustme.LeafCert) -> Iterator[int]:
    """The port of a TLS proxy."""
    with _TlsProxy(port, certificate) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, name="tls-proxy")
        thread.start()
        try:
            yield proxy.server_address[1]
        finally:
            proxy.shutdown()
            thread.join()


@pytest.fixture
def authority(tmp_path: Path) -> tuple[trustme.CA, Path]:
    """A certificate authority, and the file that holds its certificate."""
    authority = trustme.CA()
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return authority, file


def test_tls_is_spoken_and_the_certificate_checked(
    redis_server: RedisServer, authority: tuple[trustme.CA, Path]
) -> None:
    ca, file = authority

    with (
        tls_in_front_of(redis_server.port, ca.issue_cert("127.0.0.1")) as port,
        open_redis(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={file}") as client,
    ):
        assert client.ping()


def test_a_certificate_of_somebody_else_is_refused(
    redis_server: RedisServer, authority: tuple[trustme.CA, Path]
) -> None:
    _, file = authority

    with (
        tls_in_front_of(redis_server.port, trustme.CA().issue_cert("127.0.0.1")) as port,
        open_redis(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={file}") as client,
        pytest.raises(redis_py.ConnectionError, match="certificate verify failed"),
    ):
        client.ping()


def test_the_engines_own_connection_speaks_tls_too(
    redis_server: RedisServer, authority: tuple[trustme.CA, Path]
) -> None:
    ca, file = authority
    with (
        tls_in_front_of(redis_server.port, ca.issue_cert("127.0.0.1")) as port,
        open_redis(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={file}") as client,
    ):
        line = Line(client)

        replies = line.call(("ECHO", "a" * 100_000), ("PING",))

        line.close()
        assert replies == [b"a" * 100_000, b"PONG"]


def test_a_unix_socket_and_a_database_number(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with (
        RedisServer("--unixsocket", str(path)) as server,
        Client(f"unix://{path}?db=3") as pusher,
        redis_py.Redis(port=server.port, db=3) as client,
    ):
        pusher.push("Somebody", 1, queue="python")

        assert client.llen("queue:python") == 1


@pytest.mark.parametrize("url", ["redis://{}@127.0.0.1:{}/0", "redis://{}@127.0.0.1:{}"], ids=["database", "plain"])
def test_an_acl_user_whose_password_has_odd_characters(redis_server: RedisServer, url: str) -> None:
    with redis_py.Redis(port=redis_server.port) as admin:
        admin.execute_command("ACL", "SETUSER", "py", "on", ">p@ss/w:rd", "~*", "+@all")
    with open_redis(url.format("py:p%40ss%2Fw%3Ard", redis_server.port)) as client:
        who = client.execute_command("ACL", "WHOAMI")

        assert who == b"py"


def test_a_wrong_password_is_an_error_that_does_not_show_it(redis_server: RedisServer) -> None:
    with (
        open_redis(f"redis://nobody:secret-7@127.0.0.1:{redis_server.port}/0") as client,
        pytest.raises(redis_py.AuthenticationError) as raised,
    ):
        client.ping()

    assert "secret-7" not in str(raised.value)


def test_asyncio_reaches_the_same_server(redis_server: RedisServer) -> None:
    async def ask() -> bool:
        async with open_async_redis(redis_server.url) as client:
            return bool(await client.ping())

    assert asyncio.run(ask())
