"""Real Sidekiq of one version around one Redis: what a test tells Ruby to do, and what Ruby says it sees."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import redis

from compat.console import Console
from compat.evidence import registered
from compat.processes import RunningProgram
from compat.servers import start_redis_server
from compat.trees import RUBY, program, tree
from compat.web_ui import WebUI
from tests.support.wait import wait_until


class RealSidekiq:
    """Started lazily and kept for all tests of a run: a Redis, a Ruby console, a Web UI. `emptied` before each test."""

    def __init__(self, version: str) -> None:
        self.version = version
        self._parts = ExitStack()
        server, self.redis_url = start_redis_server(tree(version))
        self._parts.callback(server.close)
        self.redis: redis.Redis = redis.Redis.from_url(self.redis_url)
        self._parts.callback(self.redis.close)
        self._console: Console | None = None
        self._web: WebUI | None = None
        self._workers: list[RunningProgram] = []

    @property
    def console(self) -> Console:
        """The Ruby process behind `push`, `read` and `act`."""
        if self._console is None:
            self._console = self._parts.enter_context(Console(self.version, self.redis_url))
        return self._console

    def push(self, how: str = "push", **arguments: object) -> Any:
        """One push through Sidekiq's client: its jid, or jids. See compat/ruby/push.rb for the ways."""
        return self.push_all([{"how": how, **arguments}])[0]

    def push_all(self, pushes: Sequence[dict[str, object]]) -> list[Any]:
        """Several pushes in one go."""
        jids: list[Any] = self.console.ask("push", pushes)
        return jids

    def push_job(self, job_class: str, *args: object, **fields: object) -> str:
        """`Sidekiq::Client.push` of a class that Ruby knows by name only; to the queue "python" unless told."""
        item = {"queue": "python", "class": job_class, "args": args, **fields}
        return str(self.push("push", item=item))

    def read(self, of: str, name: str | None = None, **request: object) -> Any:
        """What Sidekiq's own API says. See compat/ruby/read.rb for what there is."""
        return self.console.ask("read", {"of": of, "name": name, **request})

    def act(self, to: str, **request: object) -> None:
        """What an operator does through Sidekiq's own API. See compat/ruby/act.rb."""
        self.console.ask("act", {"to": to, **request})

    def web(self) -> WebUI:
        """The Web UI."""
        if self._web is None:
            self._web = WebUI(self.version, self.redis_url)
            self._parts.callback(self._web.close)
        return self._web

    def start_worker(self, queue: str = "ruby", concurrency: int = 2, timeout: int = 5) -> RunningProgram:
        """A sidekiq process that has registered itself in Redis; killed at the end of the test if it still runs."""
        flags = ("-r", str(RUBY / "app.rb"), "-C", str(RUBY / "sidekiq.yml"), "-e", "production")
        limits = ("-c", str(concurrency), "-t", str(timeout), "-q", queue)
        command = program(self.version, "sidekiq", *flags, *limits)
        worker = RunningProgram("sidekiq", command, {"REDIS_URL": self.redis_url}, RUBY)
        self._workers.append(worker)
        wait_until(lambda: self.identity(worker) or worker.returncode is not None, 20, "sidekiq in `processes`")
        assert worker.returncode is None, f"sidekiq ended:\n{worker.log()[-3000:]}"
        return worker

    def identity(self, worker: RunningProgram) -> str | None:
        """`host:pid:random` of a process that has registered itself."""
        return next((found for found in registered(self.redis) if found.split(":")[-2] == str(worker.pid)), None)

    def forget(self) -> None:
        """End the workers of a test and empty Redis for the next."""
        while self._workers:
            self._workers.pop().close()
        self.redis.flushall()

    def close(self) -> None:
        """End everything."""
        self.forget()
        self._parts.close()
