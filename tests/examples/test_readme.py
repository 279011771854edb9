"""README.md: its Python runs, its files are read, its tables say what the code says."""

from __future__ import annotations

import re
import runpy
import tomllib
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import redis as redis_py
import yaml

import pyqik
from pyqik import testing
from pyqik.cli import main
from pyqik.core.config.rules import RULES
from pyqik.core.config.sources import load
from pyqik.jobs.lifecycle import lifecycle
from pyqik.jobs.process import configured
from pyqik.jobs.registry import registry
from tests.redis.worker.test_foreign_fields import FIELDS

ROOT: Final = Path(__file__).parents[2]
README: Final = (ROOT / "README.md").read_text("utf-8")

#: Settings whose default the table says in words.
IN_WORDS: Final = {"queues", "tag", "environment", "dead_timeout", "port"}


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def block(having: str) -> str:
    """The only block of Python that has this text."""
    (found,) = (text for text in blocks("python") if having in text)
    return found


def settings() -> dict[str, list[str]]:
    """The rows of the configuration's table: name → default, flag, sidekiq.yml, what it is."""
    rows: dict[str, list[str]] = {}
    for line in README.partition("| name | default | flag |")[2].partition("\n\n")[0].splitlines()[2:]:
        names, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows |= dict.fromkeys(re.findall(r"`(\w+)`", names), cells)
    return rows


def written(default: object) -> str:
    """How the table writes a default."""
    match default:
        case bool():
            return str(default).lower()
        case int() | float():
            return f"{default:g}"
        case str() if default:
            return f"`{default}`"
    return ""


def run(block: str, tmp_path: Path) -> dict[str, Any]:
    """Run a block as a file of its own; its names."""
    path = tmp_path / "block.py"
    path.write_text(block, "utf-8")
    return runpy.run_path(str(path))


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    """A Redis for what is pushed, and no subscriber left behind."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setattr(pyqik.events, "subscribers", {})


def test_the_job_that_rails_enqueues_is_the_one_that_python_runs(tmp_path: Path) -> None:
    run(block("Billing::SendReceipt"), tmp_path)

    pushed = re.findall(r'"class" => "([\w:]+)"|^([\w:]+)\.perform', "".join(blocks("ruby")), re.MULTILINE)
    assert ["".join(names) for names in pushed] == ["Billing::SendReceipt"] * 2
    assert "Billing::SendReceipt" in registry.names()


def test_jobs_can_be_declared_in_the_ways_that_are_shown(tmp_path: Path) -> None:
    run(block("Feeds::Poll"), tmp_path)

    assert {"Feeds::Poll", "Images::Resize"} <= set(registry.names())


def test_what_is_enqueued_is_where_it_is_said_to_be(tmp_path: Path, redis: redis_py.Redis) -> None:
    run(block("Billing::Remind"), tmp_path)

    sizes = {"python": redis.llen("queue:python"), "critical": redis.llen("queue:critical")}
    assert (sizes, redis.zcard("schedule")) == ({"python": 1002, "critical": 1}, 2)


def test_long_jobs_can_be_written_as_shown(tmp_path: Path) -> None:
    table = tmp_path / "customers.csv"
    table.write_text("id\n1\n2\n3\n", "utf-8")

    names = run(block('"Customers::Import"'), tmp_path)

    imported = testing.perform(names["import_customers"], str(table), interrupt_after=2)
    assert (imported.counters, imported.again().counters) == ({"imported": 2}, {"imported": 3})
    for job, argument in (("rebuild_report", 3), ("BackfillSlugs", [1, 2, 3])):
        assert testing.perform(names[job], argument, interrupt_after=2).again().completed


def test_progress_rows_and_files_are_used_as_shown(redis_url: str, tmp_path: Path) -> None:
    table = tmp_path / "customers.csv"
    table.write_text("email\nno\na@b\n", "utf-8")
    names = run(block("Customers::ImportRows"), tmp_path)

    names["test_an_export_is_the_same_wherever_it_is_interrupted"]()
    imported = testing.perform(names["import_rows"], str(table)).or_raise()
    assert list(imported.published.values()) == [imported.rows.failed_csv().read()]
    assert [str(error.messages[0]) for error in imported.rows.errors()] == ["email: is no address"]
    assert testing.perform(names["purge"], ["a", "b"], interrupt_after=1).processed("item_id") == {"a"}

    with pyqik.Client(redis_url) as client:
        assert names["how_far"](client, "nobody") == (None, None)


def test_a_long_job_can_be_tested_as_shown(tmp_path: Path) -> None:
    run(block("send_reminders"), tmp_path)["test_a_deploy_costs_no_reminder"]()


def test_middleware_handlers_and_hooks_are_declared_as_shown(tmp_path: Path) -> None:
    names = run(block("def with_locale"), tmp_path)

    config = configured()
    assert config is not None
    assert config.server_middleware == (names["with_locale"],)
    assert (config.error_handlers, config.death_handlers) == ((names["report"],), (names["mourn"],))
    assert config.default_job_options == {"queue": "python", "retry": 3}
    assert lifecycle.hooks("startup") == (names["load_model"],)


def test_middleware_for_databases_is_configured_as_shown(tmp_path: Path) -> None:
    names = run(block("sqlalchemy_sessions"), tmp_path)

    config = configured()
    assert config is not None
    (middleware,) = config.server_middleware
    with contextmanager(middleware)(pyqik.Payload({})):  # type: ignore[arg-type]  # a generator function
        names["Session"]()
    assert not names["Session"].registry.has()


def test_redis_is_read_as_shown(tmp_path: Path, redis: redis_py.Redis, capsys: pytest.CaptureFixture[str]) -> None:
    redis.zadd("retry", {'{"class":"Billing::Remind","error_class":"Timeout::Error","queue":"python"}': 1})

    run(block("pyqik.api"), tmp_path)

    assert (redis.zcard("retry"), redis.llen("queue:python")) == (0, 1)
    assert capsys.readouterr().out == "0 {}\n"


def test_a_job_that_may_hang_is_declared_as_shown(tmp_path: Path) -> None:
    run(block("Reports::Render"), tmp_path)

    assert registry.get("Reports::Render").options["stuck_after"] == 3600


def test_every_python_block_has_a_test() -> None:
    assert len(blocks("python")) == 10


def test_each_field_of_another_gem_that_is_told_of_is_tested() -> None:
    table = README.partition("| feature | fields |")[2].partition("\n\n")[0].splitlines()[2:]

    told = {name for row in table for name in re.findall(r"`(\w+)(?:: true)?`", row.split("|")[2])}
    assert told - {"encrypt"} <= set(FIELDS)
    assert {"bid", "encrypt", "unique_for", "expires_in"} <= told


def test_the_toml_file_is_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "pyqik.toml").write_text(blocks("toml")[0], "utf-8")

    config = load(directory=tmp_path, environ={}).config

    expected = tomllib.loads(blocks("toml")[0])
    assert (config.queues, config.timeout) == (expected["queues"], expected["timeout"])
    assert [capsule.name for capsule in config.capsules] == list(expected["capsules"])


def test_kubernetes_grants_the_timeout_and_five_seconds() -> None:
    spec = yaml.safe_load(blocks("yaml")[0])["spec"]

    args = spec["containers"][0]["args"]
    assert spec["terminationGracePeriodSeconds"] == float(args[args.index("-t") + 1]) + 5


@pytest.mark.parametrize("name", RULES)
def test_a_setting_stands_in_the_table_with_its_default(name: str) -> None:
    default = settings()[name][0]

    assert name in IN_WORDS or default == written(getattr(pyqik.Config(), name))


def test_the_table_has_no_setting_that_does_not_exist() -> None:
    assert set(settings()) == set(RULES)


def test_the_flags_of_the_table_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["work", "--help"])

    known = set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", capsys.readouterr().out))
    named = {flag for cells in settings().values() for flag in re.findall(r"`(-[\w-]+)`", cells[1])}
    assert named <= known


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\bbin/\w+", README))))
def test_the_commands_that_are_named_exist(path: str) -> None:
    assert (ROOT / path).stat().st_mode & 0o111
