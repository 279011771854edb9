"""Reading a Rails app's config/sidekiq.yml as a layer of the configuration.

Ruby is never run and no Ruby object is built: ERB is limited to `erb`, YAML to plain values. What only concerns
Ruby is left out, with a warning where its author may expect an effect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pyqik.core.config.erb import rendered
from pyqik.core.config.layer import Layer, Values, unknown_field
from pyqik.core.config.model import Capsule
from pyqik.core.config.queues import queue_with_weight
from pyqik.core.config.rules import SCALARS, shown
from pyqik.core.errors import ConfigError

if TYPE_CHECKING:
    import yaml

#: Sidekiq's key → our field, where a value is taken as it is.
_SAME: Final[Mapping[str, str]] = {
    "concurrency": "concurrency",
    "timeout": "timeout",
    "max_retries": "max_retries",
    "max_iteration_runtime": "max_iteration_runtime",
    "poll_interval_average": "poll_interval_average",
    "average_scheduled_poll_interval": "average_scheduled_poll_interval",
    "dead_max_jobs": "dead_max_jobs",
    "dead_timeout_in_seconds": "dead_timeout",
    "tag": "tag",
    "verbose": "verbose",
    "labels": "labels",
}
_OTHER_KEYS: Final = ("queues", "strict", "capsules", "require")

# `[:high, 3]`: Ruby's YAML reads a symbol there, PyYAML a mapping without a key.
_SYMBOL_IN_BRACKETS: Final = re.compile(r"([\[{,]\s*):(?=[A-Za-z_])")


def read_sidekiq_yml(path: Path, environment: str, environ: Mapping[str, str]) -> Layer:
    """What the file says; the section called `environment` lies over its top level."""
    layer = Layer(str(path))
    settings = _settings(path, environ, layer)
    section = _plain_keys(settings.pop(environment, None) or {}, layer)
    settings = {**settings, **section}
    _take_same(settings, layer)
    _take_queues(settings, layer)
    _take_capsules(settings, layer)
    _warn_of_unknown(settings, layer)
    return layer


def _settings(path: Path, environ: Mapping[str, str], layer: Layer) -> Values:
    try:
        import yaml
    except ImportError:
        layer.mistakes.append(f'{path}: reading it needs PyYAML; run: pip install "pyqik[yaml]", or use -C pyqik.toml')
        return {}
    try:
        text, mistakes = rendered(path.read_text(encoding="utf-8"), environ, str(path))
        loaded = yaml.safe_load(_SYMBOL_IN_BRACKETS.sub(r"\1", text))
    except (OSError, UnicodeDecodeError) as error:
        layer.mistakes.append(f"{path}: cannot be read: {error}; name a UTF-8 file with -C")
        return {}
    except yaml.YAMLError as error:
        layer.mistakes.append(_yaml_mistake(path, error))
        return {}
    layer.mistakes += mistakes
    return _plain_keys(loaded if loaded is not None else {}, layer)


def _yaml_mistake(path: Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    line = f":{mark.line + 1}" if mark else ""
    problem = getattr(error, "problem", None) or str(error)
    return f"{path}{line}: not plain YAML ({problem}); correct it, or give pyqik a file of its own with -C pyqik.toml"


def _plain_keys(settings: Any, layer: Layer) -> Values:
    """The same settings with Ruby's symbols (`:concurrency`) as names, without those that hold nothing."""
    if not isinstance(settings, Mapping):
        layer.mistakes.append(f"{layer.source}: {shown(settings)} is no list of settings; write `:concurrency: 5`")
        return {}
    return {_symbol(str(key)): value for key, value in settings.items() if value is not None}


def _symbol(text: str) -> str:
    return text.removeprefix(":")


def _take_same(settings: Values, layer: Layer) -> None:
    for key, name in _SAME.items():
        value = settings.get(key)
        if isinstance(value, str) and name in SCALARS:
            layer.set_text(name, value)
        elif value is not None:
            layer.values[name] = value
    if isinstance(labels := layer.values.get("labels"), list):
        layer.values["labels"] = [_symbol(label) if isinstance(label, str) else label for label in labels]


def _take_queues(settings: Values, layer: Layer) -> None:
    if "queues" not in settings:
        return
    weights = _weights(settings["queues"], layer)
    if not weights:
        return
    if settings.get("strict") is False and not any(weights.values()):
        # Sidekiq 6: without weights, `:strict: false` means a random order.
        weights = dict.fromkeys(weights, 1)
    elif settings.get("strict") is True and any(weights.values()):
        layer.warnings.append(f"{layer.source}: strict has no effect beside weights; leave out one of them")
    layer.values["queues"] = weights


def _weights(queues: object, layer: Layer) -> dict[str, int]:
    weights: dict[str, int] = {}
    if not isinstance(queues, list):
        layer.refuse(f"queues is {shown(queues)}; write a list, as in `- default`")
        return weights
    for entry in queues:
        try:
            name, weight = _queue(entry)
        except ValueError as mistake:
            layer.refuse(str(mistake))
            continue
        if name in weights:
            layer.warnings.append(f"{layer.source}: queue {shown(name)} is named twice; write [{name}, 2] for a weight")
        weights[name] = weight
    return weights


def _queue(entry: object) -> tuple[str, int]:
    """One entry of a queue list: `default`, `low,1`, `[high, 3]`. Raises ValueError with the way out."""
    match entry:
        case str():
            name, weight = queue_with_weight(entry)
            return _symbol(name), weight
        case [str() as name]:
            return _symbol(name), 0
        case [str() as name, int() as weight]:
            return _symbol(name), weight
        case [str() as name, str() as weight]:
            return queue_with_weight(f"{_symbol(name)},{weight}")
    raise ValueError(f"queue {shown(entry)} cannot be read; write `- default`, `- [high, 3]` or `- high,3`")


def _take_capsules(settings: Values, layer: Layer) -> None:
    if "capsules" not in settings:
        return
    capsules = []
    for name, options in _plain_keys(settings["capsules"], layer).items():
        known = _plain_keys(options, layer)
        weights = _weights(known.get("queues", ["default"]), layer)
        concurrency: Any = known.get("concurrency", Capsule.__dataclass_fields__["concurrency"].default)
        try:
            capsules.append(Capsule(name=name, queues=weights, concurrency=concurrency))
        except ConfigError as error:
            for mistake in error.mistakes:
                layer.refuse(mistake)
    layer.values["capsules"] = tuple(capsules)


def _warn_of_unknown(settings: Values, layer: Layer) -> None:
    known = {*_SAME, *_OTHER_KEYS}
    for key, value in settings.items():
        if key in known or _is_section(value, known):
            continue
        layer.warnings.append(f"{layer.source}: {unknown_field(key, known)}")


def _is_section(value: object, known: set[str]) -> bool:
    """Whether this is the section of another environment, rather than the settings of some gem."""
    return isinstance(value, Mapping) and bool(value) and all(_symbol(str(key)) in known for key in value)
