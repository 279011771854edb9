"""SQL text with parameters written as `:name`, in the words of each driver. It only looks for where text is quoted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

#: How each paramstyle of DB-API writes the parameter that has this name and this number, which counts from 1.
PARAMSTYLES: Final[Mapping[str, Callable[[str, int], str]]] = {
    "qmark": lambda name, number: "?",
    "format": lambda name, number: "%s",
    "numeric": lambda name, number: f":{number}",
    "numeric_dollar": lambda name, number: f"${number}",
    "named": lambda name, number: f":{name}",
    "pyformat": lambda name, number: f"%({name})s",
}
_BY_NAME: Final = ("named", "pyformat")
_WITH_PERCENT: Final = ("format", "pyformat")
_QUOTES: Final = ("'", '"', "e'", "E'", "--", "$$")

# What is not closed reaches to the end, so that nothing in it is taken for a parameter; the database will complain.
_STANDARD: Final = re.compile(
    r"""
      '[^']*(?:''[^']*)*(?:'|\Z)
    | "[^"]*(?:""[^"]*)*(?:"|\Z)
    | `[^`]*(?:`|\Z)
    | (?<!\w)[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z)
    | (?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z)
    | --[^\n]*
    | (?P<comment>/\*)
    | ::
    | (?<!\w):(?P<name>[^\W\d]\w*)
    """,
    re.VERBOSE | re.DOTALL,
)
_MYSQL: Final = re.compile(
    r"""
      '(?:[^'\\]|\\.|'')*(?:'|\Z)
    | "(?:[^"\\]|\\.|"")*(?:"|\Z)
    | `[^`]*(?:`|\Z)
    | \#[^\n]*
    | --(?=\s|\Z)[^\n]*
    | (?P<comment>/\*)
    | ::
    | (?<!\w):(?P<name>[^\W\d]\w*)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")


@dataclass(frozen=True, slots=True)
class Wording:
    """What a driver wants: its paramstyle, whether MySQL's rules of quoting hold, and where `%` is to be doubled."""

    paramstyle: str
    mysql: bool = False
    #: "" for what is not quoted, "quoted" for what is.
    doubled: frozenset[str] = frozenset({"", "quoted"})


@dataclass(frozen=True, slots=True)
class Statement:
    """What a driver is given: its text, and which parameters it has, in their order."""

    text: str
    names: tuple[str, ...]
    by_name: bool

    def values(self, params: Mapping[str, Any]) -> Any:
        """The values of its parameters out of `params`, in the form that goes with the text."""
        if self.by_name:
            return {name: params[name] for name in self.names}
        return tuple(params[name] for name in self.names)


@lru_cache(maxsize=256)
def statement(sql: str, wording: Wording) -> Statement:
    """`sql` in the words of a driver."""
    pieces = list(_pieces(sql, wording.mysql))
    names = tuple(text for kind, text in pieces if kind == "name")
    if not names:
        # Called without parameters a driver takes the text as it is, each `%` of it included.
        return Statement(sql, (), False)
    write = PARAMSTYLES[wording.paramstyle]
    doubled = wording.doubled if wording.paramstyle in _WITH_PERCENT else ()
    written, number = [], 0
    for kind, text in pieces:
        if kind == "name":
            number += 1
            written.append(write(text, number))
        else:
            written.append(text.replace("%", "%%") if kind in doubled else text)
    return Statement("".join(written), names, wording.paramstyle in _BY_NAME)


def _pieces(sql: str, mysql: bool) -> Iterator[tuple[str, str]]:
    """All of the text in pieces, each with its kind: "name" for that of a parameter, "quoted", or "" for the rest."""
    pattern = _MYSQL if mysql else _STANDARD
    begin = position = 0
    while (found := pattern.search(sql, position)) is not None:
        position = found.end()
        if found["comment"]:
            position = _end_of_comment(sql, position, nested=not mysql)
        elif found["name"] or found[0].startswith(_QUOTES):
            yield "", sql[begin : found.start()]
            yield ("name", found["name"]) if found["name"] else ("quoted", found[0])
            begin = position
    yield "", sql[begin:]


def _end_of_comment(sql: str, position: int, *, nested: bool) -> int:
    depth = 1
    for edge in _COMMENT_EDGE.finditer(sql, position):
        depth += -1 if edge[0] == "*/" else nested
        if depth == 0:
            return edge.end()
    return len(sql)
