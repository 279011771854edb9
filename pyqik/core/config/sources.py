"""Where the configuration is read from, and which source wins.

From the weakest to the strongest:

1. the defaults, then RAILS_MAX_THREADS for `concurrency`, as in Sidekiq;
2. ./config/sidekiq.yml, found by itself. It was written for the Ruby processes: it says less than the code;
3. `pyqik.configure(Config(...))` in a module that `require` names;
4. ./pyqik.toml, or instead of 2 and 4 the one file that `-C` names, TOML or sidekiq.yml;
5. the environment: PYQIK_TIMEOUT and the like for each field with a single value, REDIS_PROVIDER or REDIS_URL,
   APP_ENV, RAILS_ENV or RACK_ENV;
6. flags.

So what is nearer to the one who starts the process wins, as in other Python tools. (In Ruby code has the last
word, as it changes the configuration after it was read.) A list of queues replaces that of weaker sources, the
capsules included.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pyqik.core.config.layer import Layer, layer_of, meant, merged, raise_mistakes, unknown_field
from pyqik.core.config.model import Capsule, Config
from pyqik.core.config.rules import CODE_ONLY, RULES, SCALARS, shown
from pyqik.core.config.sidekiq_yml import read_sidekiq_yml
from pyqik.core.errors import ConfigError

FLAGS: Final = "flags"
_PREFIX: Final = "PYQIK_"
_FOUND_YML: Final = ("config/sidekiq.yml", "config/sidekiq.yml.erb")
_FOUND_TOML: Final = "pyqik.toml"
_YML_ENDINGS: Final = (".yml", ".yaml", ".erb")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration, what to warn of before using it, and where each field that somebody set came from."""

    config: Config
    warnings: tuple[str, ...]
    origins: Mapping[str, str]


def load(
    flags: Layer | None = None,
    *,
    file: str | None = None,
    environ: Mapping[str, str] = os.environ,
    directory: Path | None = None,
    base: Config | None = None,
) -> Loaded:
    """Read every source. `file` is what `-C` names, `base` what code gave to `pyqik.configure`.

    The fields in `config.given` come from code or a stronger source; `load().config.over(base)` is the
    configuration that `load(base=base)` gives, for those who know `base` only later.

    Raises: ConfigError with every mistake of every source.
    """
    flags = flags or Layer(FLAGS)
    directory = directory or Path.cwd()
    env = read_environment(environ)
    environment = _environment(flags, env)
    weak = [_rails_threads(environ)]
    strong = [layer_of(base)] if base else []
    if file is not None:
        strong.append(_read_file(directory / file, environment, environ))
    else:
        weak += [read_sidekiq_yml(path, environment, environ) for path in _found(directory, *_FOUND_YML)]
        strong += [read_toml(path) for path in _found(directory, _FOUND_TOML)]
    return _loaded(weak, [*strong, env, flags])


def _loaded(weak: list[Layer], strong: list[Layer]) -> Loaded:
    layers = [*weak, *strong]
    together = merged(layers)
    raise_mistakes(layers, together)
    config = Config.of({"environment": "development", **together.values}, merged(strong).values)
    warnings = [warning for layer in layers for warning in layer.warnings]
    warnings += _warnings_of_ruby_queues(together.origins)
    warnings += config.warnings()
    origins = {name: layer.origin(name) for name, layer in together.origins.items()}
    return Loaded(config, tuple(warnings), origins)


def _warnings_of_ruby_queues(origins: Mapping[str, Layer]) -> list[str]:
    sources = {origins[name].source for name in ("queues", "capsules") if name in origins}
    return [
        f"the queues come from {source} and are probably Ruby's: a job whose class is not registered here fails; "
        "name Python's own queues with -q"
        for source in sorted(sources)
        if source.endswith(_YML_ENDINGS)
    ]


def _environment(flags: Layer, env: Layer) -> str:
    """Which section of sidekiq.yml counts; only what is known before files are read can say so."""
    name = flags.values.get("environment") or env.values.get("environment")
    return name if isinstance(name, str) else "development"


def _found(directory: Path, *names: str) -> list[Path]:
    return [directory / name for name in names if (directory / name).is_file()][:1]


def _read_file(path: Path, environment: str, environ: Mapping[str, str]) -> Layer:
    if path.name.endswith(_YML_ENDINGS):
        return read_sidekiq_yml(path, environment, environ)
    if path.suffix == ".toml":
        return read_toml(path)
    return Layer(str(path), mistakes=[f"{path}: not a known kind of file; -C takes a .toml or a .yml file"])


def read_environment(environ: Mapping[str, str]) -> Layer:
    """What the environment says. A variable that is set but empty counts as not set."""
    layer = Layer("environment")
    for variable in ("RACK_ENV", "RAILS_ENV", "APP_ENV"):
        if environ.get(variable):
            layer.set_text("environment", environ[variable], variable)
    _take_redis(environ, layer)
    for variable in sorted(environ):
        if variable.startswith(_PREFIX) and environ[variable]:
            _take_variable(variable, environ[variable], layer)
    return layer


def _take_redis(environ: Mapping[str, str], layer: Layer) -> None:
    variable = "REDIS_URL"
    if provider := environ.get("REDIS_PROVIDER"):
        if not provider.isidentifier():
            layer.refuse("REDIS_PROVIDER does not hold the name of a variable; for a URL itself set REDIS_URL")
        elif environ.get(provider):
            variable = provider
        elif environ.get("REDIS_URL"):
            layer.warnings.append(f"REDIS_PROVIDER names {provider}, which is not set, so REDIS_URL counts; unset one")
        else:
            layer.refuse(f"REDIS_PROVIDER names {provider}, which is not set; set it, or set REDIS_URL instead")
    if url := environ.get(variable):
        layer.set_text("redis", url, variable)


def _take_variable(variable: str, text: str, layer: Layer) -> None:
    name = variable.removeprefix(_PREFIX).lower()
    if name in SCALARS:
        layer.set_text(name, text, variable)
    elif name in RULES:
        layer.refuse(f"{variable}: {name} cannot be read from the environment; use pyqik.toml or pyqik.configure")
    elif close := meant(name, SCALARS):
        layer.warnings.append(f"{variable} is no setting of pyqik; did you mean {_PREFIX}{close.upper()}?")


def _rails_threads(environ: Mapping[str, str]) -> Layer:
    layer = Layer("environment")
    if threads := environ.get("RAILS_MAX_THREADS"):
        layer.set_text("concurrency", threads, "RAILS_MAX_THREADS")
    return layer


def read_toml(path: Path) -> Layer:
    """What a pyqik.toml says: the fields of Config as keys, capsules as `[capsules.NAME]`."""
    layer = Layer(str(path))
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        layer.mistakes.append(f"{path}: cannot be read: {error}; name a UTF-8 file with -C")
        return layer
    except tomllib.TOMLDecodeError as error:
        layer.mistakes.append(f"{path}: not TOML: {error}; correct that line")
        return layer
    for name, value in settings.items():
        if name == "capsules":
            layer.values[name] = _toml_capsules(value, layer)
        elif name in RULES and name not in CODE_ONLY:
            layer.values[name] = value
        else:
            layer.refuse(unknown_field(name, RULES))
    return layer


def _toml_capsules(tables: object, layer: Layer) -> tuple[Capsule, ...]:
    if not isinstance(tables, Mapping):
        layer.refuse(f"capsules is {shown(tables)}; write a table for each, as in [capsules.big]")
        return ()
    return tuple(capsule for name, table in tables.items() for capsule in _toml_capsule(name, table, layer))


def _toml_capsule(name: str, table: Any, layer: Layer) -> list[Capsule]:
    if not isinstance(table, Mapping) or not {"queues"} <= set(table) <= {"queues", "concurrency"}:
        layer.refuse(f"capsule {shown(name)} is {shown(table)}; write queues and, if you like, concurrency")
        return []
    try:
        return [Capsule(name=name, **table)]
    except ConfigError as error:
        for mistake in error.mistakes:
            layer.refuse(mistake)
        return []
