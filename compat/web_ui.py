"""Sidekiq::Web (compat/ruby/config.ru, served by puma): its pages, and the forms that its buttons send."""

from __future__ import annotations

import http.cookiejar
import re
import secrets
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from http.client import HTTPMessage
from typing import IO

from compat.processes import RunningProgram
from compat.trees import RUBY, program


@dataclass(frozen=True)
class Page:
    """An answer of the Web UI."""

    status: int
    html: str


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A button's own answer is of interest, not the page that it leads to."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


class WebUI:
    """A running Web UI. Holds a session, as one browser would."""

    def __init__(self, version: str, redis_url: str) -> None:
        environment = {"REDIS_URL": redis_url, "SESSION_SECRET": secrets.token_hex(64)}
        bind = ("-b", "tcp://127.0.0.1:0", "-t", "1:4", "-e", "production")
        self._puma = RunningProgram("puma", program(version, "puma", *bind, str(RUBY / "config.ru")), environment)
        #: Address without a slash at the end.
        self.url = self._puma.wait_for_line(r"Listening on (http://127\.0\.0\.1:\d+)")[1]
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._browser = urllib.request.build_opener(cookies, _NoRedirect)

    def get(self, path: str) -> Page:
        """The page at `path`, whatever its status."""
        return self._open(urllib.request.Request(self.url + path))

    def press(self, path: str, **fields: str) -> Page:
        """Send the form that a button sends. `key` is written `key[]`, as the lists of entries have it.

        7.3 wants the token of a page of the same session, 8.1 a header that browsers send.
        """
        token = re.search(r"""name=["']authenticity_token["'] value=["']([^"']+)["']""", self.get("/busy").html)
        form = {("key[]" if name == "key" else name): value for name, value in fields.items()}
        form["authenticity_token"] = token[1] if token else ""
        return self._open(
            urllib.request.Request(
                self.url + path,
                data=urllib.parse.urlencode(form).encode(),
                headers={"Sec-Fetch-Site": "same-origin"},
            )
        )

    def log(self) -> str:
        """What puma wrote: the Ruby error behind a status 500."""
        return self._puma.log()

    def close(self) -> None:
        """End the server."""
        self._puma.close()

    def _open(self, request: urllib.request.Request) -> Page:
        try:
            with self._browser.open(request, timeout=20) as answer:
                return Page(answer.status, answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Page(error.code, error.read().decode(errors="replace"))
