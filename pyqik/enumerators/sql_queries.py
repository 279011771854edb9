"""The statements that read a query by key, a batch at a time: made of its text, or with SQLAlchemy of a Select."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import ge, gt, le, lt
from typing import Any, Final, TypeAlias

from pyqik.enumerators.databases import Answer, Dialect, Link, is_from
from pyqik.enumerators.sql_text import statement

#: One of the operators that SQLAlchemy makes into clauses.
Compare: TypeAlias = Callable[[Any, Any], Any]

#: What the parameters with the cursor begin with.
_OURS: Final = "pyqik_"
# SQLite calls the second column `id` of an inner query "id:1".
_SECOND: Final = re.compile(r"(.+):\d+")


class Query(ABC):
    """A query that is read by its key. A cursor is a tuple with a value for each column of that."""

    @abstractmethod
    def columns(self, link: Link) -> Sequence[str]:
        """The names of its columns. Raises: ValueError if one is there twice."""

    @abstractmethod
    def use_key(self, key: Sequence[str]) -> None:
        """Say which columns are the key, named as `columns` does."""

    @abstractmethod
    def nulls(self, link: Link) -> Answer:
        """The key of a row in which a part of it is NULL, if there is one."""

    @abstractmethod
    def page(self, link: Link, cursor: tuple[Any, ...] | None, limit: int) -> Answer:
        """The first rows by key, from `cursor` on."""

    @abstractmethod
    def before(self, link: Link, cursor: tuple[Any, ...]) -> Answer:
        """The key of the last row that comes before `cursor`."""


def query_of(query: Any, params: Mapping[str, Any], dialect: Dialect) -> Query:
    """What the author of a job wrote, for connections of this dialect. Raises: TypeError, ValueError."""
    if isinstance(query, str):
        return _Text(query, params, dialect)
    if is_from("sqlalchemy", query):
        from sqlalchemy.sql.selectable import SelectBase

        if isinstance(query, SelectBase):
            return _Select(query, params)
    raise TypeError(f"the query is of type {type(query).__qualname__}; write its text, or a Select of SQLAlchemy")


class _Text(Query):
    def __init__(self, text: str, params: Mapping[str, Any], dialect: Dialect) -> None:
        text = text.strip().rstrip("; \t\r\n")
        if not text:
            raise ValueError("the query is empty; write a SELECT")
        used = statement(text, dialect.wording).names
        for name in used:
            if name not in params:
                raise ValueError(f"the query has the parameter :{name}, and params has no {name!r}")
        _check_params(params, used)
        self._params = params
        self._quote = dialect.quote
        self._key: list[str] = []
        # On lines of its own, as it may end in a comment.
        self._from = f"FROM (\n{text}\n) AS pyqik_rows"

    def columns(self, link: Link) -> Sequence[str]:
        names = link.run(f"SELECT * {self._from} WHERE 1 = 0", self._params).names
        firsts = [found[1] for name in names if (found := _SECOND.fullmatch(name)) and found[1] in names]
        _check_names([*names, *firsts])
        return names

    def use_key(self, key: Sequence[str]) -> None:
        self._key = [self._quote(name) for name in key]

    def nulls(self, link: Link) -> Answer:
        tests = " OR ".join(f"{column} IS NULL" for column in self._key)
        return link.run(f"SELECT {', '.join(self._key)} {self._from} WHERE {tests} LIMIT 1", self._params)

    def page(self, link: Link, cursor: tuple[Any, ...] | None, limit: int) -> Answer:
        order = f"ORDER BY {', '.join(self._key)} LIMIT {limit:d}"
        if cursor is None:
            return link.run(f"SELECT * {self._from} {order}", self._params)
        where, values = self._compared(cursor, ">", ">=")
        return link.run(f"SELECT * {self._from} WHERE {where} {order}", values)

    def before(self, link: Link, cursor: tuple[Any, ...]) -> Answer:
        where, values = self._compared(cursor, "<", "<")
        order = ", ".join(f"{column} DESC" for column in self._key)
        return link.run(f"SELECT {', '.join(self._key)} {self._from} WHERE {where} ORDER BY {order} LIMIT 1", values)

    def _compared(self, cursor: tuple[Any, ...], first: str, last: str) -> tuple[str, Mapping[str, Any]]:
        names = [f"{_OURS}{number}" for number in range(len(cursor))]
        parts = [(column, f":{name}") for column, name in zip(self._key, names, strict=True)]
        return _compared(parts, first, last), {**self._params, **dict(zip(names, cursor, strict=True))}


def _compared(parts: Sequence[tuple[str, str]], first: str, last: str) -> str:
    """`a >= x AND (a > x OR (a = x AND b >= y))`: the first comparison alone is enough for an index."""
    column, value = parts[0]
    if len(parts) == 1:
        return f"{column} {last} {value}"
    rest = _compared(parts[1:], first, last)
    return f"{column} {first}= {value} AND ({column} {first} {value} OR ({column} = {value} AND {rest}))"


class _Select(Query):
    def __init__(self, select: Any, params: Mapping[str, Any]) -> None:
        from sqlalchemy.sql.elements import BindParameter
        from sqlalchemy.sql.visitors import iterate

        _check_params(params, {each.key for each in iterate(select) if isinstance(each, BindParameter)})
        self._params = params
        self._names = [getattr(column, "name", None) for column in select.selected_columns]
        self._rows = select.subquery("pyqik_rows")
        self._key: list[Any] = []

    def columns(self, link: Link) -> Sequence[str]:
        _check_names(name for name in self._names if name is not None)
        return list(self._rows.c.keys())

    def use_key(self, key: Sequence[str]) -> None:
        self._key = [self._rows.c[name] for name in key]

    def nulls(self, link: Link) -> Answer:
        from sqlalchemy import or_, select

        tests = or_(*(column.is_(None) for column in self._key))
        return link.run_select(select(*self._key).where(tests).limit(1), self._params)

    def page(self, link: Link, cursor: tuple[Any, ...] | None, limit: int) -> Answer:
        from sqlalchemy import select

        rows = select(self._rows).order_by(*self._key).limit(limit)
        if cursor is not None:
            rows = rows.where(_clause(list(zip(self._key, cursor, strict=True)), gt, ge, ge))
        return link.run_select(rows, self._params)

    def before(self, link: Link, cursor: tuple[Any, ...]) -> Answer:
        from sqlalchemy import select

        clause = _clause(list(zip(self._key, cursor, strict=True)), lt, le, lt)
        order = [column.desc() for column in self._key]
        return link.run_select(select(*self._key).where(clause).order_by(*order).limit(1), self._params)


def _clause(parts: Sequence[tuple[Any, Any]], beyond: Compare, from_here: Compare, last: Compare) -> Any:
    """The same as `_compared`."""
    from sqlalchemy import and_, or_

    column, value = parts[0]
    if len(parts) == 1:
        return last(column, value)
    rest = and_(column == value, _clause(parts[1:], beyond, from_here, last))
    return and_(from_here(column, value), or_(beyond(column, value), rest))


def _check_params(params: Mapping[str, Any], used: Collection[str]) -> None:
    """What the query does not use is a mistake as well: a filter that was meant to be there."""
    for name in params:
        if name not in used:
            raise ValueError(f"params has {name!r}, and the query has no parameter :{name}")
        if name.startswith(_OURS):
            raise ValueError(f"params has {name!r}; names that begin with {_OURS} are taken, choose another one")


def _check_names(names: Iterable[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"the query has two columns {twice[0]!r}; name one of them otherwise: {twice[0]} AS ...")
