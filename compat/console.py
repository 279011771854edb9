"""A long-lived Ruby that pushes, reads and acts through Sidekiq's own client and API (compat/ruby/console.rb)."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from compat.trees import RUBY, program


class RubyError(Exception):
    """Sidekiq raised; the text has Ruby's class, words and the first lines of the backtrace."""


class Console:
    """One Ruby process of `version` against the Redis at `redis_url`; it ends when its standard input is closed."""

    def __init__(self, version: str, redis_url: str) -> None:
        self._log = tempfile.NamedTemporaryFile(prefix="pyqik-console-", suffix=".log")  # noqa: SIM115 # closed in close()
        self._ruby = subprocess.Popen(
            program(version, "ruby", str(RUBY / "console.rb")),
            env={**os.environ, "REDIS_URL": redis_url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        #: The full version, such as "7.3.2".
        self.sidekiq_version: str = self._answer()["sidekiq"]

    def ask(self, command: str, arguments: object) -> Any:
        """What Ruby answers. Raises: RubyError."""
        assert self._ruby.stdin is not None
        self._ruby.stdin.write(json.dumps({"command": command, "arguments": arguments}) + "\n")
        self._ruby.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._ruby.stdout is not None
        line = self._ruby.stdout.readline()
        if not line:
            raise RubyError(f"the console ended: {Path(self._log.name).read_text(errors='replace')[-3000:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise RubyError("\n  ".join([answer["error"], *answer["backtrace"]]))
        return answer["value"]

    def close(self) -> None:
        """End the process."""
        assert self._ruby.stdin is not None
        assert self._ruby.stdout is not None
        self._ruby.stdin.close()
        self._ruby.wait(10)
        self._ruby.stdout.close()
        self._log.close()

    def __enter__(self) -> Console:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
