"""The ERB that a sidekiq.yml usually holds: values from the environment. Anything else is a mistake, never run.

Understood: `ENV["X"]`, `ENV.fetch("X")`, `ENV.fetch("X", 5)`, `ENV.fetch("X") { 5 }`, `ENV["X"] || 5`; each may be in
parentheses and end in `.to_i`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_TAG: Final = re.compile(r"<%(?P<kind>[=#%-]?)(?P<code>.*?)-?%>", re.DOTALL)
_NAME: Final = r"""(?:"(\w+)"|'(\w+)')"""
_LITERAL: Final = r"""(-?\d[\d_]*(?:\.\d+)?|"[^"\\#]*"|'[^'\\]*'|true|false|nil)"""
_INDEX: Final = re.compile(rf"ENV\[\s*{_NAME}\s*\](\.to_i)?")
_INDEX_OR: Final = re.compile(rf"ENV\[\s*{_NAME}\s*\]\s*(?:\|\||or)\s*{_LITERAL}")
_FETCH: Final = re.compile(rf"ENV\.fetch\(\s*{_NAME}\s*(?:,\s*{_LITERAL}\s*)?\)(?:\s*\{{\s*{_LITERAL}\s*\}})?(\.to_i)?")
_PARENTHESES: Final = re.compile(r"\((?P<inner>[^()]*(?:\([^()]*\)[^()]*)?)\)(?P<to_i>\.to_i)?")
_WAY_OUT: Final = (
    'write ENV["X"], ENV.fetch("X", 5) or ENV["X"] || 5, or give pyqik a file of its own with -C pyqik.toml'
)


class ErbMistake(ValueError):
    """This expression has no value here; the text says why and what to write."""


def rendered(text: str, environ: Mapping[str, str], file: str) -> tuple[str, list[str]]:
    """The text with each tag replaced by its value, and a mistake, with file and line, for each that has none."""
    mistakes: list[str] = []

    def replace(tag: re.Match[str]) -> str:
        if tag["kind"] == "#" or _in_yaml_comment(text, tag.start()):
            return ""
        line = text.count("\n", 0, tag.start()) + 1
        try:
            return _value_of_tag(tag, environ)
        except ErbMistake as mistake:
            mistakes.append(f"{file}:{line}: {mistake}")
            return ""

    return _TAG.sub(replace, text), mistakes


def _in_yaml_comment(text: str, position: int) -> bool:
    line_start = text.rfind("\n", 0, position) + 1
    return text[line_start:position].lstrip().startswith("#")


def _value_of_tag(tag: re.Match[str], environ: Mapping[str, str]) -> str:
    if tag["kind"] != "=":
        raise ErbMistake(f"pyqik does not run Ruby, so not {tag[0]}; {_WAY_OUT}")
    code = tag["code"].strip()
    value = _value(code, environ)
    return "" if value is None else value


def _value(code: str, environ: Mapping[str, str]) -> str | None:
    if found := _PARENTHESES.fullmatch(code):
        value = _value(found["inner"].strip(), environ)
        return _to_i(value) if found["to_i"] else value
    if found := _INDEX.fullmatch(code):
        double, single, to_i = found.groups()
        value = environ.get(double or single)
        return _to_i(value) if to_i else value
    if found := _INDEX_OR.fullmatch(code):
        double, single, default = found.groups()
        value = environ.get(double or single)
        return _literal(default) if value is None else value
    if found := _FETCH.fullmatch(code):
        return _fetched(found, environ)
    raise ErbMistake(f"pyqik does not run Ruby, so not <%= {code} %>; {_WAY_OUT}")


def _fetched(found: re.Match[str], environ: Mapping[str, str]) -> str | None:
    double, single, default, block, to_i = found.groups()
    name = double or single
    fallback = default or block
    if name not in environ and fallback is None:
        raise ErbMistake(f'ENV.fetch("{name}"): {name} is not set; set it or write ENV.fetch("{name}", 5)')
    value = environ[name] if name in environ else _literal(fallback)
    return _to_i(value) if to_i else value


def _literal(ruby: str) -> str | None:
    if ruby == "nil":
        return None
    return ruby[1:-1] if ruby[0] in "\"'" else ruby.replace("_", "")


def _to_i(value: str | None) -> str:
    digits = re.match(r"\s*([+-]?\d+)", value or "")
    return digits[1] if digits else "0"
