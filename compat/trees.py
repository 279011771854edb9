"""Where real Sidekiq comes from: one unpacked Debian tree for each version, fetched once and kept between runs.

What runs out of a tree is `servers`, `console`, `processes` and `web_ui`.
"""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

RUBY = Path(__file__).parent / "ruby"

#: A release of each major version that is in use, by the name of its tree.
VERSIONS = ("6.4", "7.3", "8.1")


class TreeUnavailable(Exception):
    """The Debian packages of a version could not be had; the text says what was tried."""


def tree(version: str) -> Path:
    """The directory with Sidekiq `version`, fetched now if it is not there yet.

    Raises: TreeUnavailable.
    """
    directory = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyqik" / "trees" / version
    if not (directory / ".done").exists():
        mistake = _fetch(version)
        if mistake:
            raise TreeUnavailable(f"Sidekiq {version} is not in {directory}, nor could it be fetched:\n{mistake}")
    return directory


def program(version: str, name: str, *arguments: str) -> list[str]:
    """The command that runs the program `name` of a tree: `ruby`, `sidekiq`, `puma`, `redis-server`."""
    return [str(RUBY / "run"), str(tree(version)), name, *arguments]


@functools.cache  # a mirror that cannot be reached is asked once, not by every test
def _fetch(version: str) -> str:
    """Fetch a tree; what went wrong, empty if nothing did."""
    fetched = subprocess.run([RUBY / "fetch-trees", version], capture_output=True, text=True, check=False)
    return "" if fetched.returncode == 0 else fetched.stderr or f"exit status {fetched.returncode}"
