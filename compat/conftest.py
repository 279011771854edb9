"""Fixtures of the tests against real Sidekiq: one Redis, Ruby on one side of it and pyqik on the other.

`python -m pytest compat -n 4` runs them all; they wait more than they compute, so take two processes for each core.
What they need is fetched once: `compat/ruby/fetch-trees` (three releases of Sidekiq with their Ruby and Redis, about
410 MB below ~/.cache) and `compat/browser/install` (Chromium, as root). Without them the tests are skipped on a
developer's machine, and fail where CI=true.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from compat.browser.driver import Browser, BrowserUnavailable
from compat.pyqik_process import PyqikWorker
from compat.real_sidekiq import RealSidekiq
from compat.trees import VERSIONS, TreeUnavailable

#: Seconds for one test: the first that needs a tree or the browser waits for its download.
TIMEOUT = 400


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of this directory their own time limit."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(TIMEOUT))


@pytest.fixture(scope="session")
def installations() -> Iterator[dict[str, RealSidekiq]]:
    """The versions of Sidekiq that are in use, by name; `sidekiq` adds to them."""
    started: dict[str, RealSidekiq] = {}
    yield started
    for installation in started.values():
        installation.close()


@pytest.fixture(params=VERSIONS)
def sidekiq(request: pytest.FixtureRequest, installations: dict[str, RealSidekiq]) -> Iterator[RealSidekiq]:
    """Real Sidekiq around an empty Redis, once for each version. What the test starts of it ends with the test."""
    version: str = request.param
    if version not in installations:
        try:
            installations[version] = RealSidekiq(version)
        except TreeUnavailable as error:
            _unavailable(str(error))
    installation = installations[version]
    installation.forget()
    yield installation
    installation.forget()


#: For a test in which Ruby only carries the question: the version does not matter, and one start of it is enough.
any_version = pytest.mark.parametrize("sidekiq", ["8.1"], indirect=True)
#: For tests of Web UI pages and buttons: the versions whose Web UI is current.
web_versions = pytest.mark.parametrize("sidekiq", ["7.3", "8.1"], indirect=True)

#: Starts a worker: `pyqik_worker(queue="python", timeout=5, options=("-c", "5"))`.
StartPyqik = Callable[..., PyqikWorker]


@pytest.fixture
def pyqik_worker(sidekiq: RealSidekiq) -> Iterator[StartPyqik]:
    """Starts real `pyqik work` processes with the jobs of compat/jobs.py; each must end well after a TERM."""
    started: list[PyqikWorker] = []

    def start(queue: str = "python", timeout: int = 5, options: tuple[str, ...] = ()) -> PyqikWorker:
        worker = PyqikWorker(sidekiq.redis, sidekiq.redis_url, queue, timeout, options)
        started.append(worker)
        return worker

    yield start
    try:
        for worker in started:
            worker.stop()
    finally:
        for worker in started:
            worker.program.close()


@pytest.fixture(scope="session")
def _browser() -> Iterator[Browser]:
    try:
        browser = Browser()
    except BrowserUnavailable as error:
        _unavailable(str(error))
    with browser:
        yield browser


@pytest.fixture
def chromium(_browser: Browser) -> Browser:
    """A headless Chromium with a new session."""
    _browser.forget_cookies()
    return _browser


def _unavailable(reason: str) -> NoReturn:
    """A developer's machine may lack a part; CI may not."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have everything: {reason}", pytrace=False)
    pytest.skip(reason)
