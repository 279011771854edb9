"""Server middleware that is ready to be used: it keeps database connections fit from one job to the next.

    pyqik.configure(pyqik.Config(server_middleware=[django_connections]))

A job thread runs one job after the other, and whatever a job leaves in its connection (a server that went away, an open
transaction) would meet the next one. Neither Django nor SQLAlchemy is imported unless its middleware runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import structlog

from pyqik.core.functions import runs_when_called
from pyqik.jobs.middleware import ServerMiddleware
from pyqik.wire.payload import Payload

log = structlog.get_logger("pyqik")

__all__ = ["django_connections", "sqlalchemy_sessions"]


def django_connections(payload: Payload) -> Iterator[None]:
    """Treat each job like a request: Django's connections are looked after before it and after it.

    Those are closed that have failed, are older than CONN_MAX_AGE, or in which a transaction was left open. An
    `async def` job has connections of its own, as a request under ASGI has; they are closed at its end, by the thread
    that used them.
    """
    with _connections_of_task() if _in_event_loop() else _connections_of_thread():
        yield


@contextmanager
def _connections_of_thread() -> Iterator[None]:
    from django.db import connections, reset_queries

    # A test that runs jobs within a transaction of its own: it is the test's to end.
    borrowed = {each.alias for each in connections.all(initialized_only=True) if each.in_atomic_block}

    def look_after() -> None:
        for each in connections.all(initialized_only=True):
            if each.alias not in borrowed:
                _close_if_unfit(connections, each)

    if not borrowed:
        reset_queries()
    look_after()
    try:
        yield
    finally:
        look_after()


def _close_if_unfit(connections: Any, connection: Any) -> None:
    try:
        connection.close_if_unusable_or_obsolete()
        if not connection.in_atomic_block:
            return
        # The job was interrupted on its way out of `atomic`. Closing leaves this object in its transaction, and the
        # next job would hear of it.
        connection.close()
    except Exception:
        log.warning("a connection could not be closed; the next job opens another", exc_info=True)
    # A new object is made when somebody asks for it.
    del connections[connection.alias]


@contextmanager
def _connections_of_task() -> Iterator[None]:
    from asgiref.sync import SyncToAsync, ThreadSensitiveContext
    from django.db import connections

    # Entering and leaving it as usual is awaited, which middleware cannot do; this is what it does.
    context = ThreadSensitiveContext()
    token = SyncToAsync.thread_sensitive_context.set(context)
    try:
        yield
    finally:
        SyncToAsync.thread_sensitive_context.reset(token)
        executor = SyncToAsync.context_to_thread_executor.pop(context, None)
        if executor is not None:
            executor.submit(connections.close_all)
            executor.shutdown(wait=False)


class SessionRegistry(Protocol):
    """What `sqlalchemy_sessions` needs: a `scoped_session`, or Flask-SQLAlchemy's `db.session`, has it."""

    def remove(self) -> Any:
        """Close the session of this thread, if there is one; its transaction is rolled back."""
        ...


def sqlalchemy_sessions(registry: SessionRegistry) -> ServerMiddleware:
    """Middleware that gives each job a new session: `server_middleware=[sqlalchemy_sessions(Session)]`.

    `registry` is a `scoped_session`. What a job has not committed is rolled back, however it ends. An `async def` job
    shares its thread with others: it opens a session of its own, `async with AsyncSession(engine) as session`.

    Raises: TypeError for an `async_scoped_session`, whose `remove` is to be awaited, which middleware cannot do.
    """
    if not callable(getattr(registry, "remove", None)):
        raise TypeError(f"{registry!r} has no remove(); give sqlalchemy_sessions a scoped_session")
    if not runs_when_called(registry.remove):
        raise TypeError(
            f"{type(registry).__name__} is for async jobs, which open their own session instead: "
            "async with AsyncSession(engine) as session"
        )

    def session_of_job(payload: Payload) -> Iterator[None]:
        if _in_event_loop():
            yield
            return
        _forget_session(registry)
        try:
            yield
        finally:
            _forget_session(registry)

    return session_of_job


def _forget_session(registry: SessionRegistry) -> None:
    forgotten = False
    try:
        registry.remove()
        forgotten = True
    except Exception:
        log.warning("a session could not be closed; the next job gets another", exc_info=True)
    finally:
        # Its connection is broken, or the job is interrupted just here: the next one must not meet what is left.
        if not forgotten and (inner := getattr(registry, "registry", None)) is not None:
            inner.clear()


def _in_event_loop() -> bool:
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        return True
    return False
