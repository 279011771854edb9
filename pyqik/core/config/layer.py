"""A layer: what one source says about some fields of the configuration, and the laying of one over another."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from pyqik.core.config.model import Config, spelled_out
from pyqik.core.config.rules import CODE_ONLY, SCALARS, field_mistakes
from pyqik.core.errors import ConfigError

Values: TypeAlias = dict[str, object]

#: How a layer of a Config given in code is called in mistakes.
CODE: Final = "pyqik.configure"


@dataclass(slots=True)
class Layer:
    """Fields read from one source, and what was wrong while reading; `source` is its name in mistakes.

    `spellings` are the names by which the source calls a field, such as PYQIK_TIMEOUT, where these say more.
    """

    source: str
    values: Values = field(default_factory=dict)
    spellings: dict[str, str] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def set_text(self, name: str, text: str, spelling: str | None = None) -> None:
        """Set a scalar field to the value that `text` stands for; `spelling` is the source's name for the field."""
        self.values[name] = SCALARS[name].parse(text)
        if spelling is not None:
            self.spellings[name] = spelling

    def origin(self, name: str) -> str:
        """Where this field was set, for mistakes."""
        return self.spellings.get(name, self.source)

    def refuse(self, mistake: str) -> None:
        """Note a mistake, with its source."""
        self.mistakes.append(f"{mistake} ({self.source})")


@dataclass(frozen=True, slots=True)
class Merged:
    """What the layers say together: values, and which layer each came from."""

    values: Mapping[str, object]
    origins: Mapping[str, Layer]


def layer_of(config: Config) -> Layer:
    """What was given in code, as a layer."""
    return Layer(CODE, {name: getattr(config, name) for name in config.given})


def merged(layers: Iterable[Layer]) -> Merged:
    """Lay each layer over those before it."""
    values: Values = {}
    origins: dict[str, Layer] = {}
    for layer in layers:
        given = spelled_out(layer.values)
        values |= given
        origins |= dict.fromkeys(given, layer)
    return Merged(values, origins)


def raise_mistakes(layers: Iterable[Layer], merged_layers: Merged) -> None:
    """Raise ConfigError if a source could not be read or a value that counts is wrong; every mistake is in it."""
    mistakes = [mistake for layer in layers for mistake in layer.mistakes]
    mistakes += [
        f"{mistake} ({merged_layers.origins[name].origin(name)})"
        for name, mistake in field_mistakes(merged_layers.values)
    ]
    if mistakes:
        raise ConfigError(mistakes)


def meant(name: str, known: Iterable[str]) -> str | None:
    """The known name that somebody who wrote `name` probably meant."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.75)), None)


def unknown_field(name: str, known: Iterable[str]) -> str:
    """What to say of a name that is no field."""
    if name in CODE_ONLY:
        return f"{name} cannot stand in a file; give it to pyqik.configure in code"
    close = meant(name, known)
    return f"{name} is no setting of pyqik; {f'write {close}' if close else 'leave it out'}"
