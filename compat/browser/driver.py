"""A headless Chromium that a test drives: opens pages of Sidekiq's Web UI, clicks what an operator would click."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from selenium.common.exceptions import NoAlertPresentException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.expected_conditions import staleness_of
from selenium.webdriver.support.ui import WebDriverWait

#: Nothing may go out: Chromium would otherwise look for updates and call home.
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1400,1000",
)
#: Seconds that a page may take to change after a click.
PATIENCE = 15.0


class BrowserUnavailable(Exception):
    """There is no Chromium and it cannot be installed; the text says why."""


class Browser:
    """One browser with a profile of its own. Raises: BrowserUnavailable."""

    def __init__(self) -> None:
        installed = subprocess.run([Path(__file__).parent / "install"], capture_output=True, text=True, check=False)
        if installed.returncode != 0:
            raise BrowserUnavailable(installed.stderr)
        self._profile = tempfile.TemporaryDirectory(prefix="pyqik-chromium-", ignore_cleanup_errors=True)
        options = ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for flag in (*FLAGS, f"--user-data-dir={self._profile.name}"):
            options.add_argument(flag)
        self._driver = Chrome(options, ChromeService(str(shutil.which("chromedriver"))))

    def open(self, url: str) -> None:
        """Load a page."""
        self._driver.get(url)

    def forget_cookies(self) -> None:
        """Start a new session; cookies do not tell the ports of 127.0.0.1 apart."""
        self._driver.delete_all_cookies()

    def text(self) -> str:
        """What the page shows."""
        return self._driver.find_element(By.TAG_NAME, "body").text

    def find(self, css: str) -> WebElement:
        """The first element that matches. Raises: NoSuchElementException."""
        return self._driver.find_element(By.CSS_SELECTOR, css)

    def tick(self, css: str) -> None:
        """Tick a checkbox."""
        self.find(css).click()

    def press(self, css: str) -> None:
        """Click a button, say yes if the page asks, and wait for the page that follows."""
        page = self.find("html")
        button = self.find(css)
        # The bar at the foot of the page covers what lies below it.
        self._driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()
        WebDriverWait(self._driver, PATIENCE).until(lambda _: self._confirmed_and_left(page))

    def _confirmed_and_left(self, page: WebElement) -> bool:
        # Debian leaves the script out of its package that asks "Are you sure?"; upstream's page asks.
        with suppress(NoAlertPresentException):
            self._driver.switch_to.alert.accept()
        return bool(staleness_of(page)(self._driver))

    def close(self) -> None:
        """End the browser."""
        self._driver.quit()
        self._profile.cleanup()

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
