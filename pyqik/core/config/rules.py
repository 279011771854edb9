"""What each field of the configuration may hold: one rule a field, in the table at the end.

A rule finds every mistake in a value, brings a valid value into the form that is stored, and (for single values)
reads it from text. Where values come from is not its concern.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeGuard

from pyqik.core.config.queues import queue_mistakes, weights_of
from pyqik.core.config.redis_url import HIGHEST_PORT, redis_url_mistakes
from pyqik.core.functions import runs_when_called
from pyqik.core.job_options import is_plain, option_mistakes

#: Seconds; what is longer is more likely a point in time than a duration.
LONGEST: Final = 1_000_000_000

#: The capsule that `queues` and `concurrency` describe, as Sidekiq calls it.
DEFAULT_CAPSULE: Final = "default"

_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})
#: With or without a prefix; bucket names are in lower case: https://docs.cloud.google.com/storage/docs/buckets#naming
_BUCKET: Final = re.compile(r"gs://[a-z0-9][a-z0-9._-]+[a-z0-9](/[^/]+)*/?")
_MODULE: Final = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")


class Rule(Protocol):
    """What may stand in a field."""

    def mistakes(self, name: str, value: object) -> Iterator[str]:
        """Each mistake in `value`, naming the field, the value and the way out."""
        ...

    def stored(self, value: Any) -> object:  # Any: `mistakes` has looked at it
        """A value without mistakes in its immutable, one and only form."""
        ...


class ScalarRule(Rule, Protocol):
    """A rule for a field that a flag or an environment variable can hold as text."""

    def parse(self, text: str) -> object:
        """The value that `text` stands for; the text itself, for `mistakes` to name, if it stands for none."""
        ...


@dataclass(frozen=True, slots=True)
class Whole:
    """An integer between two bounds."""

    minimum: int
    maximum: int | None = None
    optional: bool = False

    def mistakes(self, name: str, value: object) -> Iterator[str]:
        if value is None and self.optional:
            return
        fits = (
            isinstance(value, int)
            and not isinstance(value, bool)
            and self.minimum <= value
            and (self.maximum is None or value <= self.maximum)
        )
        if not fits:
            bounds = f"of at least {self.minimum}"
            if self.maximum is not None:
                bounds = f"from {self.minimum} to {self.maximum}"
            yield f"{name} is {shown(value)}; write a whole number {bounds}"

    def stored(self, value: Any) -> object:
        return value

    def parse(self, text: str) -> object:
        try:
            return int(text)
        except ValueError:
            return text


@dataclass(frozen=True, slots=True)
class Seconds:
    """A number of seconds, above zero unless `zero` allows it."""

    zero: bool = False
    optional: bool = False

    def mistakes(self, name: str, value: object) -> Iterator[str]:
        if value is None and self.optional:
            return
        # Comparisons only: they are false for NaN and take an integer that is too large for a float.
        fits = _is_number(value) and 0 <= value <= LONGEST and (self.zero or value > 0)
        if not fits:
            bound = "0 or more" if self.zero else "more than 0"
            yield f"{name} is {shown(value)}; write seconds, {bound} and at most {LONGEST}, as in {name}=25"

    def stored(self, value: Any) -> object:
        return None if value is None else float(value)

    def parse(self, text: str) -> object:
        try:
            return float(text)
        except ValueError:
            return text


@dataclass(frozen=True, slots=True)
class Switch:
    """True or False."""

    def mistakes(self, name: str, value: object) -> Iterator[str]:
        if not isinstance(value, bool):
            yield f"{name} is {shown(value)}; write true or false"

    def stored(self, value: Any) -> object:
        return value

    def parse(self, text: str) -> object:
        word = text.strip().lower()
        return True if word in _TRUE else False if word in _FALSE else text


@dataclass(frozen=True, slots=True)
class Text:
    """A text without control characters."""

    def mistakes(self, name: str, value: object) -> Iterator[str]:
        if not isinstance(value, str):
            yield f"{name} is {shown(value)}; write a text in quotes"
        elif not value.isprintable():
            yield f"{name} is {shown(value)}, which has a control character; write it without"

    def stored(self, value: Any) -> object:
        return value

    def parse(self, text: str) -> object:
        return text


@dataclass(frozen=True, slots=True)
class FilesAddress(Text):
    """Where files are kept: a directory, or a bucket of Cloud Storage."""

    def mistakes(self, name: str, value: object) -> Iterator[str]:
        yield from Text.mistakes(self, name, value)
        if isinstance(value, str) and "://" in value and not _BUCKET.fullmatch(value):
            yield f'{name} is {shown(value)}; write a directory, or a bucket as in {name}="gs://bucket/prefix"'


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words, in any case; `aliases` are Ruby's words for the same."""

    words: tuple[str, ...]
    aliases: tuple[tuple[str, str], ...] = ()

    def mistakes(self, name: str, value: object) -> Iterator[str]:
        if not isinstance(value, str) or self.stored(value) not in self.words:
            yield f"{name} is {shown(value)}; write one of {', '.join(self.words)}"

    def stored(self, value: Any) -> object:
        word = value.lower()
        return dict(self.aliases).get(word, word)

    def parse(self, text: str) -> object:
        return text.strip()


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A Redis URL; never shown with its password."""

    def mistakes(self, name: str, value: object) -> Iterator[str]:
        if isinstance(value, str):
            yield from (f"{name} {mistake}" for mistake in redis_url_mistakes(value))
        else:
            yield f"{name} is a {type(value).__name__}; write a URL such as redis://localhost:6379/0"

    def stored(self, value: Any) -> object:
        return value

    def parse(self, text: str) -> object:
        return text


@dataclass(frozen=True, slots=True)
class Texts:
    """A list of texts that are not empty; of module names if `modules`."""

    modules: bool = False

    def mistakes(self, name: str, value: object) -> Iterator[str]:
        if not _is_list(value):
            example = "shop.jobs" if self.modules else "blue"
            yield f'{name} is {shown(value)}; write a list, as in {name}=["{example}"]'
            return
        for item in value:
            if not isinstance(item, str) or not item.strip() or not item.isprintable():
                yield f"{name} has {shown(item)}; write a text that is not empty"
            elif self.modules and not _MODULE.fullmatch(item):
                yield f"{name} has {shown(item)}, not a module; write {_module_name(item)} as in `import`"

    def stored(self, value: Any) -> object:
        return tuple(value)


@dataclass(frozen=True, slots=True)
class Queues:
    """Names, or names with weights."""

    def mistakes(self, name: str, value: object) -> Iterator[str]:
        yield from queue_mistakes(value)

    def stored(self, value: Any) -> object:
        return weights_of(value)


@dataclass(frozen=True, slots=True)
class Functions:
    """A list of callables, of plain functions if `plain`: calling any other one would run nothing of it."""

    plain: bool = False

    def mistakes(self, name: str, value: object) -> Iterator[str]:
        if not _is_list(value):
            yield f"{name} is {shown(value)}; write a list of functions"
            return
        yield from (f"{name} has {shown(item)}; write functions" for item in value if not callable(item))
        if self.plain:
            yield from (
                f"{name} has {shown(item)}, which is called and not awaited; write a plain function"
                for item in value
                if callable(item) and not runs_when_called(item)
            )

    def stored(self, value: Any) -> object:
        return tuple(value)


@dataclass(frozen=True, slots=True)
class JobOptions:
    """Options of jobs: names with values that JSON holds."""

    def mistakes(self, name: str, value: object) -> Iterator[str]:
        if not isinstance(value, Mapping) or not all(type(key) is str for key in value):
            yield f'{name} is {shown(value)}; write names with values, as in {name}={{"retry": 3}}'
            return
        yield from (f"{name}: {mistake}" for mistake in option_mistakes(value))
        yield from (
            f"{name}: {key} is {shown(item)}, which does not survive JSON unchanged; write numbers, texts, "
            f"true, false, lists and tables only"
            for key, item in value.items()
            if not is_plain(item)
        )

    def stored(self, value: Any) -> object:
        return MappingProxyType(deepcopy(dict(value)))


@dataclass(frozen=True, slots=True)
class Named:
    """A list of things with a `name` (capsules; they have looked at their own fields), each name once."""

    kind: str

    def mistakes(self, name: str, value: object) -> Iterator[str]:
        if not _is_list(value):
            yield f"{name} is {shown(value)}; write a list of {self.kind}(name=…, queues=…)"
            return
        yield from (
            f"{name} has {shown(item)}; write {self.kind}(name=…, queues=…)"
            for item in value
            if type(item).__name__ != self.kind
        )
        names = [getattr(item, "name", None) for item in value]
        if DEFAULT_CAPSULE in names:
            yield f'{name} has "{DEFAULT_CAPSULE}", which is the one of `queues` and `concurrency`; use another name'
        for twice in dict.fromkeys(each for each in names if each is not None and names.count(each) > 1):
            yield f"{name} has {shown(twice)} twice; give each {self.kind} a name of its own"

    def stored(self, value: Any) -> object:
        return tuple(value)


#: Fields with a single value: flags and environment variables hold them as text.
SCALARS: Final[Mapping[str, ScalarRule]] = {
    "redis": RedisUrl(),
    "concurrency": Whole(1),
    "async_concurrency": Whole(1),
    "timeout": Seconds(zero=True),
    "flush_interval": Seconds(zero=True),
    "max_iteration_runtime": Seconds(optional=True),
    "max_memory": Whole(1, optional=True),
    "files": FilesAddress(),
    "processes": Whole(1),
    "tag": Text(),
    "environment": Text(),
    "verbose": Switch(),
    "poll": Switch(),
    "poll_interval_average": Seconds(optional=True),
    "average_scheduled_poll_interval": Seconds(),
    "max_retries": Whole(0),
    "dead_max_jobs": Whole(1),
    "dead_timeout": Seconds(),
    "log_level": Choice(
        ("debug", "info", "warning", "error", "critical"), (("warn", "warning"), ("fatal", "critical"))
    ),
    "log_format": Choice(("auto", "console", "json")),
    "log_arguments": Switch(),
    "host": Text(),
    "port": Whole(0, HIGHEST_PORT, optional=True),
    "embedded": Switch(),
    "release": Text(),
    "lease": Seconds(),
}

#: Fields that exist only in code: a file cannot hold a function.
CODE_ONLY: Final[Mapping[str, Rule]] = {
    "server_middleware": Functions(),
    "client_middleware": Functions(),
    "error_handlers": Functions(plain=True),
    "death_handlers": Functions(plain=True),
}

RULES: Final[Mapping[str, Rule]] = {
    **SCALARS,
    "queues": Queues(),
    "capsules": Named("Capsule"),
    "require": Texts(modules=True),
    "labels": Texts(),
    "default_job_options": JobOptions(),
    **CODE_ONLY,
}


def field_mistakes(values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Each mistake in these fields, with the name of its field."""
    for name, value in values.items():
        yield from ((name, mistake) for mistake in RULES[name].mistakes(name, value))


def shown(value: object) -> str:
    """A value as an error names it: a text in double quotes, anything long cut off."""
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _module_name(path: str) -> str:
    parts: list[str] = re.findall(r"[^\W\d]\w*", path.removesuffix(".py"))
    return ".".join(parts) or "shop.jobs"
