"""The command line: `pyqik work` runs jobs, `pyqik check` says what is wrong before anything runs, `pyqik cancel` has a
long job end, `pyqik progress` shows how far it is.

Flags are one more source of the configuration (see `pyqik.core.config.sources`). Running is the supervisor's part.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Final, TextIO, cast

from pyqik.core.config import Capsule, Config
from pyqik.core.config.layer import Layer
from pyqik.core.config.queues import queue_with_weight
from pyqik.core.config.redis_url import redacted
from pyqik.core.config.sources import FLAGS, Loaded, load
from pyqik.core.errors import ConfigError, StoreError
from pyqik.jobs.client import Client
from pyqik.jobs.process import configured
from pyqik.jobs.registry import registry
from pyqik.jobs.storage import ConfiguredStorage
from pyqik.progress_bar import show

_HERE: Final = str(Path(__file__).parent)

#: Redis of this version has what the wire format needs (LMOVE, ZRANGE BYSCORE).
OLDEST_SERVER: Final = (6, 2)

#: Flags that take a value: spellings, field, what stands for the value in the help, help.
_VALUES: Final = (
    (("-c", "--concurrency"), "concurrency", "N", "threads per child process"),
    (("--async-concurrency",), "async_concurrency", "N", "async jobs at a time per child process"),
    (("-t", "--timeout"), "timeout", "SECONDS", "how long a stop waits for running jobs"),
    (("-e", "--environment"), "environment", "NAME", "which section of sidekiq.yml counts"),
    (("-g", "--tag"), "tag", "TEXT", "shown beside the process in Sidekiq's Web UI"),
    (("--redis",), "redis", "URL", "redis://, rediss://, unix:// or redis+sentinel://"),
    (
        ("--files",),
        "files",
        "ADDRESS",
        "where half-written files of jobs are kept: a shared directory, or gs://bucket/prefix",
    ),
    (("--processes",), "processes", "N", "child processes"),
    (("--host",), "host", "ADDRESS", "address of the HTTP server"),
    (("--port",), "port", "PORT", "port of the HTTP server; 0 for none"),
    (("--log-level",), "log_level", "LEVEL", "debug, info, warning, error or critical"),
    (("--log-format",), "log_format", "FORMAT", "auto, console or json"),
    (("--release",), "release", "LABEL", "the deployed version; it is marked on the metrics pages of the Web UI"),
)

#: Flags that are there or not: spellings, field, the value that they stand for, help.
_SWITCHES: Final = (
    (("-v", "--verbose"), "verbose", True, "log at debug level"),
    (("--embedded",), "embedded", True, "start a private Valkey"),
    (("--no-poll",), "poll", False, "leave due jobs in schedule and retry to other processes"),
    (("--log-arguments",), "log_arguments", True, "log the arguments of jobs"),
)

#: Flags that may be repeated: spellings, field, what stands for the value in the help, help.
_LISTS: Final = (
    (("-q", "--queue"), "queues", "NAME[,WEIGHT]", "a queue to serve; replaces the queues of files and code"),
    (("-r", "--require"), "require", "MODULE", "a module that registers jobs, as in `import`"),
    (("--capsule",), "capsules", "NAME=THREADS:QUEUE,...", "queues with threads of their own"),
    (("--label",), "labels", "TEXT", "shown beside the process in Sidekiq's Web UI"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status: 1 if the configuration has mistakes, 2 for an unknown flag."""
    arguments = _parser().parse_args(argv)
    try:
        return cast(Callable[[argparse.Namespace], int], arguments.command)(arguments)
    except ConfigError as error:
        _say((f"pyqik: {mistake}" for mistake in error.mistakes), sys.stderr)
        return 1


def work(arguments: argparse.Namespace) -> int:
    """`pyqik work`: run jobs until a signal ends it."""
    loaded = load(flags_layer(arguments), file=arguments.file)
    _say((f"pyqik: warning: {warning}" for warning in loaded.warnings), sys.stderr)
    from pyqik.worker.processes.command import run

    return run(loaded.config)


def check(arguments: argparse.Namespace) -> int:
    """`pyqik check`: import the modules and name every mistake and warning. Redis and the store for files are tried
    only with --connect.
    """
    if (directory := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, directory)
    flags = flags_layer(arguments)
    mistakes: list[str] = []
    loaded = _load(flags, arguments.file, None, mistakes)
    # With mistakes elsewhere the modules are imported all the same: their mistakes are news too.
    require = loaded.config.require if loaded else _texts(flags.values.get("require"))
    mistakes += [mistake for module in require for mistake in _import_mistakes(module)]
    if loaded and (base := configured()):
        loaded = _load(flags, arguments.file, base, mistakes)
    warnings = list(loaded.warnings) if loaded else []
    if loaded and arguments.connect and not loaded.config.embedded:
        _check_server(loaded.config.redis, mistakes, warnings)
    if loaded and arguments.connect:
        mistakes += _store_mistakes(loaded.config.files)
    _report(loaded, mistakes, warnings)
    return 1 if mistakes else 0


def cancel(arguments: argparse.Namespace) -> int:
    """`pyqik cancel JID...`: have long jobs end at their next items; 1 if Redis cannot be reached."""
    from redis.exceptions import RedisError

    config = load(flags_layer(arguments), file=arguments.file).config
    with Client(config.redis) as client:
        for jid in arguments.jids:
            try:
                since = client.cancel(jid)
            except RedisError as error:
                _say([f"pyqik: {redacted(config.redis)} cannot be reached: {error}"], sys.stderr)
                return 1
            when = datetime.fromtimestamp(since).astimezone().isoformat(" ", "seconds")
            _say([f"{jid}: cancelled at {when}; it ends at its next item, or when it starts"])
    return 0


def progress(arguments: argparse.Namespace) -> int:
    """`pyqik progress JID`: show how far a long job is; 1 if nothing is known of it, or Redis cannot be reached, 130 if
    Ctrl-C has ended it.
    """
    from redis.exceptions import RedisError

    config = load(flags_layer(arguments), file=arguments.file).config
    with Client(config.redis) as client:
        try:
            read = partial(client.progress, arguments.jid)
            last = show(read, sys.stdout, follow=arguments.follow, as_json=arguments.json)
        except RedisError as error:
            _say([f"pyqik: {redacted(config.redis)} cannot be reached: {error}"], sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
    if last is None:
        why = "it has not begun, is done without having used pyqik.progress, or ended more than a day ago"
        _say([f"pyqik: nothing is known of the job {arguments.jid}: {why}"], sys.stderr)
        return 1
    if arguments.follow and last.ended_at is None:
        _say([f"pyqik: nothing is known of the job {arguments.jid} any more: it has ended"], sys.stderr)
    return 0


def flags_layer(arguments: argparse.Namespace) -> Layer:
    """The flags that were given, as a layer of the configuration."""
    layer = Layer(FLAGS)
    for spellings, name, *_ in (*_VALUES, *_SWITCHES, *_LISTS):
        value = getattr(arguments, name, None)
        layer.spellings[name] = spellings[-1]
        if value is None:
            continue
        if isinstance(value, str):
            layer.set_text(name, value)
        elif name == "capsules":
            layer.values[name] = tuple(_capsules(value, layer))
        elif name != "queues":
            layer.values[name] = value
        elif weights := _weights(value, layer):
            layer.values[name] = weights
    return layer


def _capsules(texts: Iterable[str], layer: Layer) -> Iterator[Capsule]:
    for text in texts:
        name, _, rest = text.partition("=")
        threads, colon, queues = rest.partition(":")
        if not (name and colon and threads.isascii() and threads.isdigit()):
            layer.refuse(f'capsule "{text}" cannot be read; write --capsule {name or "reports"}=2:QUEUE,QUEUE')
            continue
        try:
            yield Capsule(name=name, concurrency=int(threads), queues=queues.split(","))
        except ConfigError as error:
            for mistake in error.mistakes:
                layer.refuse(mistake)


def _weights(texts: Iterable[str], layer: Layer) -> dict[str, int]:
    weights: dict[str, int] = {}
    for text in texts:
        try:
            name, weight = queue_with_weight(text)
        except ValueError as mistake:
            layer.refuse(str(mistake))
            continue
        if name in weights:
            layer.refuse(f'queue "{name}" is named twice; write -q {name},2 for a weight')
        weights[name] = weight
    return weights


def _load(flags: Layer, file: str | None, base: Config | None, mistakes: list[str]) -> Loaded | None:
    try:
        return load(flags, file=file, base=base)
    except ConfigError as error:
        mistakes += error.mistakes
        return None


def _texts(value: object) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _import_mistakes(module: str) -> Iterator[str]:
    try:
        importlib.import_module(module)
    except ConfigError as error:
        yield from (f"{module}: {mistake}" for mistake in error.mistakes)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            yield f"{module} is not found below {Path.cwd()}; run from the directory that holds it, or correct -r"
        else:
            yield f"{module} cannot be imported: {error}{_place(error)}; install it, or correct the import"
    except (Exception, SystemExit) as error:
        yield f"{module} cannot be imported: {type(error).__name__}: {error}{_place(error)}; correct it there"


def _place(error: BaseException) -> str:
    frames = [each for each in traceback.extract_tb(error.__traceback__) if "importlib" not in each.filename]
    # Not where pyqik has found the mistake, but where it was made.
    frames = [each for each in frames if not each.filename.startswith(_HERE)] or frames
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


def _check_server(url: str, mistakes: list[str], warnings: list[str]) -> None:
    """Ask the server whether it can hold jobs."""
    from redis.exceptions import RedisError, ResponseError

    from pyqik.wire.connection import open_redis

    try:
        with open_redis(url) as client:
            client.ping()
            info = cast(Mapping[str, Any], client.info())
    except ResponseError as error:
        warnings.append(f"{redacted(url)}: does not say its version ({error}); allow INFO to have it checked")
    except (RedisError, OSError, TypeError, ValueError) as error:
        mistakes.append(f"{redacted(url)} cannot be reached: {error}; correct the URL or start the server")
    else:
        mistakes += server_mistakes(info, redacted(url))
        warnings += server_warnings(info, redacted(url))


def _store_mistakes(files: str) -> Iterator[str]:
    """Write, read and remove a small object where the files of jobs are kept, if they are."""
    try:
        store = ConfiguredStorage(files).store
        if store is not None:
            store.check()
    except StoreError as error:
        yield f"files of jobs cannot be kept: {error}"


def server_mistakes(info: Mapping[str, Any], url: str) -> Iterator[str]:
    """What INFO says that makes a server unusable."""
    version = str(info.get("redis_version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if len(numbers) == 2 and numbers < OLDEST_SERVER:
        yield f"{url} runs Redis {version}; update it to {'.'.join(map(str, OLDEST_SERVER))} or newer"


def server_warnings(info: Mapping[str, Any], url: str) -> Iterator[str]:
    """What INFO says that loses jobs when memory is short."""
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield f"{url} evicts keys when memory is full ({policy}), jobs too; set maxmemory-policy noeviction"


def _report(loaded: Loaded | None, mistakes: Sequence[str], warnings: list[str]) -> None:
    names = registry.names()
    if not names:
        warnings.append("no job is registered; name the modules that register jobs with -r")
    _say([f"jobs ({len(names)}): {', '.join(names) or 'none'}"])
    if loaded:
        config = loaded.config
        _say(_described(capsule) for capsule in config.all_capsules)
        warnings += _unserved(config, names)
    _say(f"warning: {warning}" for warning in warnings)
    _say(f"mistake: {mistake}" for mistake in mistakes)


def _unserved(config: Config, names: Iterable[str]) -> Iterator[str]:
    """Jobs whose own queue this process does not serve: it may be a slip, or the business of another process."""
    jobs: dict[str, list[str]] = {}
    for name in names:
        if queue := registry.get(name).options.get("queue"):
            jobs.setdefault(queue, []).append(name)
    for queue in sorted(jobs.keys() - config.all_queues.keys()):
        yield f"queue {queue} is not served here; the jobs that name it: {', '.join(jobs[queue])}; give it with -q"


def _described(capsule: Capsule) -> str:
    queues = ", ".join(f"{name} {weight}" if weight else name for name, weight in capsule.weights.items())
    return f"capsule {capsule.name}, {capsule.concurrency} threads: queues ({capsule.queue_mode}): {queues}"


def _say(lines: Iterable[str], stream: TextIO | None = None) -> None:
    for line in lines:
        (stream or sys.stdout).write(f"{line}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyqik", description="A Python worker for Sidekiq's jobs.", allow_abbrev=False
    )
    version = f"pyqik {_version()}"
    parser.add_argument("-V", "--version", action="version", version=version)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    options = _options(version)
    for command, text in ((work, "run jobs"), (check, "name the mistakes, start nothing")):
        added = commands.add_parser(command.__name__, parents=[options], help=text, allow_abbrev=False)
        added.set_defaults(command=command)
        if command is check:
            added.add_argument("--connect", action="store_true", help="ask Redis too, and try the store for files")
    added = commands.add_parser("cancel", parents=[_where(version)], help="have long jobs end", allow_abbrev=False)
    added.add_argument("jids", nargs="+", metavar="JID", help="ids of jobs that run, wait, or will be retried")
    added.set_defaults(command=cancel)
    added = commands.add_parser(
        "progress", parents=[_where(version)], help="show how far a long job is", allow_abbrev=False
    )
    added.add_argument("jid", metavar="JID", help="id of a job that has begun, and ended a day ago at most")
    added.add_argument("--follow", action="store_true", help="go on until it has ended")
    added.add_argument("--json", action="store_true", help="write an object of JSON; with --follow one for each change")
    added.set_defaults(command=progress)
    return parser


def _where(version: str) -> argparse.ArgumentParser:
    """The options that say where Redis is."""
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    for spellings, name, metavar, text in _VALUES:
        if name in ("redis", "environment"):
            options.add_argument(*spellings, dest=name, metavar=metavar, help=text)
    _add_file_and_version(options, version)
    return options


def _options(version: str) -> argparse.ArgumentParser:
    # SUPPRESS: a flag that was not given leaves no trace, so that weaker sources can say the field.
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    for spellings, name, metavar, text in _VALUES:
        options.add_argument(*spellings, dest=name, metavar=metavar, help=text)
    for spellings, name, metavar, text in _LISTS:
        options.add_argument(*spellings, dest=name, metavar=metavar, action="append", help=text)
    for spellings, name, value, text in _SWITCHES:
        options.add_argument(*spellings, dest=name, action="store_const", const=value, help=text)
    _add_file_and_version(options, version)
    return options


def _add_file_and_version(options: argparse.ArgumentParser, version: str) -> None:
    options.add_argument("-C", "--config", dest="file", metavar="FILE", default=None, help="pyqik.toml or sidekiq.yml")
    options.add_argument("-V", "--version", action="version", version=version)


def _version() -> str:
    try:
        return metadata.version("pyqik")
    except metadata.PackageNotFoundError:
        return "(not installed)"
