"""What holds for the whole code base, and would rot if nobody looked: layers, sizes, events, forbidden calls."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyqik.core.events import EVENTS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "pyqik"
MODULES = sorted(PACKAGE.rglob("*.py"))
LUA = sorted(PACKAGE.rglob("*.lua"))

#: Each layer may import itself and what stands before it. "" are the files beside the layers.
LAYERS = ["core", "wire", "stores", "jobs", "enumerators", "worker", "testing", ""]
#: The same inside of the worker; of the files beside these rooms, only `launcher` looks into them.
ROOMS = ["engine", "upkeep", "processes"]

#: Modules outside of `pyqik.wire` that may name redis-py: for the types and the exceptions of what they are given.
MAY_NAME_REDIS = {
    *("api.py", "cli.py", "jobs/client.py", "worker/engine/fetcher.py", "worker/engine/waiting.py"),
    *("worker/upkeep/heartbeat.py", "worker/upkeep/recovery.py", "worker/upkeep/rescue.py"),
    *("worker/upkeep/scheduled.py", "worker/upkeep/sweep.py"),
    *("worker/processes/aftermath.py", "worker/processes/obituary.py"),
}
#: `pyqik check` asks a server whether it can hold jobs.
MAY_ASK_THE_SERVER = {"cli.py": {"client.ping", "client.info"}}

#: What could run or import something by a name that came from Redis.
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
#: They import the modules that the operator named on the command line; nothing from Redis comes near them.
MAY_IMPORT_BY_NAME = {"cli.py", "worker/processes/child.py"}

LONGEST_MODULE = 400
LONGEST_FUNCTION = 60


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def layer_of(path: Path) -> str:
    first, _, rest = name_of(path).partition("/")
    return first if rest else ""


def imported(path: Path) -> Iterator[str]:
    """The full names of the modules that a file imports, those inside functions too."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def called(path: Path) -> Iterator[str]:
    """What a file calls, as it is written: `eval`, `importlib.import_module`."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


modules = pytest.mark.parametrize("path", MODULES, ids=name_of)


@modules
def test_imports_go_one_way_through_the_layers(path: Path) -> None:
    allowed = set(LAYERS[: LAYERS.index(layer_of(path)) + 1]) if layer_of(path) else set(LAYERS)

    for name in imported(path):
        if name.startswith("pyqik."):
            first = name.split(".")[1]
            assert (first if first in LAYERS else "") in allowed, f"{name_of(path)} imports {name}"
        elif name == "pyqik":
            assert "" in allowed, f"{name_of(path)} imports the public names"


@modules
def test_imports_go_one_way_through_the_rooms_of_the_worker(path: Path) -> None:
    rooms = [room for room in ROOMS if name_of(path).startswith(f"worker/{room}/")]
    allowed = ROOMS[: ROOMS.index(rooms[0]) + 1] if rooms else ROOMS if name_of(path) == "worker/launcher.py" else []
    if layer_of(path) != "worker":
        return

    for name in imported(path):
        if name.startswith("pyqik.worker."):
            room = name.split(".")[2]
            beside = room not in ROOMS and rooms in ([], ["processes"])
            assert room in allowed or beside, f"{name_of(path)} imports {name}"


@modules
def test_only_the_wire_layer_speaks_to_redis(path: Path) -> None:
    if layer_of(path) == "wire":
        return
    named = {name for name in imported(path) if name.split(".")[0] in ("redis", "hiredis")}
    allowed_names = re.compile(r"redis|redis\.asyncio|redis\.exceptions\.\w+")

    assert not named or name_of(path) in MAY_NAME_REDIS, f"{name_of(path)} names {named}"
    assert all(allowed_names.fullmatch(name) for name in named), f"{name_of(path)} names {named}"


@modules
def test_only_the_wire_layer_sends_commands(path: Path) -> None:
    """Outside a redis-py client is only opened, handed on and closed; `push`, `push_bulk`, `cancel` are pyqik's own."""
    if layer_of(path) == "wire":
        return
    calls = {call for call in called(path) if re.search(r"(^|\.|_)(client|redis|pipe)\.\w+$", call)}
    sent = {call for call in calls if not re.search(r"\.(close|aclose|push|push_bulk|cancel)$", call)}

    assert sent == MAY_ASK_THE_SERVER.get(name_of(path), set())


def test_every_module_that_may_name_redis_does() -> None:
    found = {
        name_of(path)
        for path in MODULES
        if layer_of(path) != "wire" and any(name.split(".")[0] == "redis" for name in imported(path))
    }

    assert found == MAY_NAME_REDIS


@modules
def test_nothing_is_unpickled_evaluated_or_imported_by_name(path: Path) -> None:
    calls = set(called(path))
    names = set(imported(path))

    assert not calls & FORBIDDEN_CALLS
    assert not {name for name in names if name.split(".")[0] in FORBIDDEN_MODULES}
    by_name = {call for call in calls if call.endswith("import_module") or call.startswith("runpy.")}
    assert not by_name or name_of(path) in MAY_IMPORT_BY_NAME


def emitted() -> dict[str, set[frozenset[str]]]:
    """Each event that is emitted somewhere, with the fields that come with it."""
    found: dict[str, set[frozenset[str]]] = {}
    for path in MODULES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("events.emit"):
                name = node.args[0]
                assert isinstance(name, ast.Constant), f"{name_of(path)}:{node.lineno}: an event is named by a literal"
                fields = frozenset(str(keyword.arg) for keyword in node.keywords)
                found.setdefault(str(name.value), set()).add(fields)
    return found


def test_the_table_of_events_is_complete_and_none_is_made_up() -> None:
    assert {name: {frozenset(fields)} for name, fields in EVENTS.items()} == emitted()


@pytest.mark.parametrize("path", LUA, ids=lambda path: path.name)
def test_every_script_says_what_it_is_given_and_what_it_returns(path: Path) -> None:
    head = re.match(r"(--.*\n)+", path.read_text("utf-8"))

    assert head is not None
    for word in ("KEYS", "ARGV", "Returns"):
        assert re.search(rf"^-- {word}\b", head[0], re.MULTILINE), f"{path.name} does not say its {word}"


@pytest.mark.parametrize("path", LUA, ids=lambda path: path.name)
def test_every_script_is_used(path: Path) -> None:
    used = re.compile(rf'Script\((".*", using=)?"{path.stem}"')
    assert any(used.search(module.read_text("utf-8")) for module in MODULES)


@modules
def test_modules_and_functions_are_short_enough_to_be_read(path: Path) -> None:
    lines = path.read_text("utf-8").count("\n")
    functions = {
        node.name: (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(tree_of(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }

    assert lines <= LONGEST_MODULE
    assert not {name: length for name, length in functions.items() if length > LONGEST_FUNCTION}


@modules
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(tree_of(path)), f"{name_of(path)} has no docstring"


@modules
def test_no_module_is_called_by_a_name_that_says_nothing(path: Path) -> None:
    assert path.stem not in {"utils", "util", "common", "helpers", "helper", "base", "misc"}


@pytest.mark.parametrize(
    "path",
    [*sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "compat").glob("*.py"))],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_no_test_sleeps(path: Path) -> None:
    sleeps = {call for call in called(path) if re.fullmatch(r"(time\.)?sleep", call)}

    assert not sleeps, f"{path.name}: wait for a condition instead"
