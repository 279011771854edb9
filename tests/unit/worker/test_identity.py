"""How a process is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyqik.core.config import Config
from pyqik.worker import identity


def test_the_tag_is_the_directory_of_the_start_although_a_deploy_removes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = tmp_path / "release-7"
    release.mkdir()
    monkeypatch.chdir(release)
    identity._directory.cache_clear()

    before = identity.process_info(Config(), "host:1:abc", 1, 5.0).tag
    release.rmdir()
    after = identity.process_info(Config(), "host:1:abc", 1, 5.0).tag
    identity._directory.cache_clear()
    never = identity.process_info(Config(), "host:1:abc", 1, 5.0).tag
    identity._directory.cache_clear()

    assert (before, after, never) == ("release-7", "release-7", "")
