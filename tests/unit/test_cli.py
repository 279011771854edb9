"""The command line: flags, exit statuses, what `work` starts and what `check` says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest

from pyqik import cli
from pyqik.core.config import Config
from pyqik.jobs.process import fresh_process
from pyqik.jobs.registry import registry


@pytest.fixture(autouse=True)
def an_empty_directory_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    ours = [variable for variable in os.environ if variable.startswith("PYQIK_")]
    for variable in (*ours, "APP_ENV", "RAILS_ENV", "RACK_ENV", "REDIS_URL", "REDIS_PROVIDER", "RAILS_MAX_THREADS"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(autouse=True)
def what_modules_declare_is_forgotten() -> Iterator[None]:
    with registry.restored(), fresh_process():
        yield


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """What `work` handed to the supervisor, which ends at once with status 7."""
    configs: list[Config] = []

    def run(config: Config) -> int:
        configs.append(config)
        return 7

    command = ModuleType("pyqik.worker.processes.command")
    vars(command)["run"] = run
    monkeypatch.setitem(sys.modules, "pyqik.worker.processes.command", command)
    return configs


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", {}),
        ("-c 5", {"concurrency": 5}),
        ("--concurrency 5", {"concurrency": 5}),
        ("--async-concurrency 7", {"async_concurrency": 7}),
        ("-q critical,3 -q default,1", {"queues": {"critical": 3, "default": 1}}),
        ("-q a -q b", {"queues": {"a": 0, "b": 0}}),
        ("--queue a", {"queues": {"a": 0}}),
        ("-r shop.jobs -r more", {"require": ["shop.jobs", "more"]}),
        ("-t 3", {"timeout": 3.0}),
        ("-e staging", {"environment": "staging"}),
        ("-g shop --label blue --label green", {"tag": "shop", "labels": ["blue", "green"]}),
        ("-v", {"verbose": True}),
        ("--processes 2 --embedded --port 0 --host ::1", {"processes": 2, "embedded": True, "port": 0, "host": "::1"}),
        ("--no-poll --log-arguments", {"poll": False, "log_arguments": True}),
        ("--log-level warn --log-format json", {"log_level": "warning", "log_format": "json"}),
        ("--release abc --redis redis://x/0", {"release": "abc", "redis": "redis://x/0"}),
    ],
)
def test_work_runs_with_what_the_flags_say(started: list[Config], line: str, expected: dict[str, object]) -> None:
    cli.main(["work", *line.split()])

    assert started == [Config(**{"environment": "development", **expected})]  # type: ignore[arg-type]  # a table


def test_the_exit_status_is_the_supervisors(started: list[Config]) -> None:
    assert cli.main(["work"]) == 7


def test_work_reads_the_file_that_is_named(tmp_path: Path, started: list[Config]) -> None:
    (tmp_path / "mine.toml").write_text("concurrency = 3\n", encoding="utf-8")

    cli.main(["work", "-C", "mine.toml"])

    assert started[0].concurrency == 3


def test_work_warns_and_starts(started: list[Config], capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["work", "-q", "größe"])

    assert len(started) == 1
    assert 'pyqik: warning: queue "größe"' in capsys.readouterr().err


def test_work_with_mistakes_names_them_all_and_starts_nothing(
    started: list[Config], capsys: pytest.CaptureFixture[str]
) -> None:
    status = cli.main(["work", "-c", "many", "-t", "-1", "-q", "a,b", "-q", "c", "-q", "c"])

    assert (status, started) == (1, [])
    assert capsys.readouterr().err.splitlines() == [
        'pyqik: queue "a,b": after the comma comes a weight, as in critical,3; name each queue apart (flags)',
        'pyqik: queue "c" is named twice; write -q c,2 for a weight (flags)',
        'pyqik: concurrency is "many"; write a whole number of at least 1 (--concurrency)',
        "pyqik: timeout is -1.0; write seconds, 0 or more and at most 1000000000, as in timeout=25 (--timeout)",
    ]


@pytest.mark.parametrize("line", [["work", "--concurency", "5"], ["work", "--conc", "5"], ["dance"], []])
def test_an_unknown_flag_or_command_ends_with_status_2(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(line)

    assert ended.value.code == 2


@pytest.mark.parametrize("line", [["--version"], ["-V"], ["work", "-V"]])
def test_the_version_is_shown(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(line)

    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("pyqik ")


def test_a_module_run_is_the_command() -> None:
    root = Path(__file__).parents[2]

    done = subprocess.run(
        [sys.executable, "-m", "pyqik", "--version"], cwd=root, capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.startswith("pyqik ")


def write_module(directory: Path, name: str, text: str) -> None:
    (directory / f"{name}.py").write_text(dedent(text), encoding="utf-8")


def test_check_imports_from_the_working_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_module(tmp_path, "jobs_that_are_fine", "marker = 1\n")

    status = cli.main(["check", "-r", "jobs_that_are_fine", "-q", "mailers,2"])

    assert status == 0
    assert "queues (weighted): mailers 2" in capsys.readouterr().out
    assert "jobs_that_are_fine" in sys.modules


def test_check_lists_the_jobs_that_modules_register(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_module(
        tmp_path,
        "jobs_to_list",
        """
        import pyqik

        @pyqik.job("Shop::SendReceipt")
        def send_receipt(order_id: int) -> None: ...
        """,
    )

    cli.main(["check", "-r", "jobs_to_list"])

    assert "Shop::SendReceipt" in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize(
    ("line", "queues"),
    [(["-q", "flag"], "queues (strict): flag"), ([], "queues (strict): code")],
    ids=["a flag wins over code", "code wins over the default"],
)
def test_check_counts_what_modules_configure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: list[str], queues: str
) -> None:
    # A name of its own for each case: a module is imported once.
    module = f"configures_{len(line)}"
    write_module(tmp_path, module, "import pyqik\npyqik.configure(pyqik.Config(queues=['code']))\n")

    cli.main(["check", "-r", module, *line])

    assert queues in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("import no_such_package_here\n", "No module named 'no_such_package_here'"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("def broken(:\n", "SyntaxError"),
        ("from pyqik.core.config import Config\nConfig(timeout=-1)\n", "timeout is -1; write seconds"),
    ],
    ids=["a missing package", "an error", "an exit", "a syntax error", "a mistake in the configuration"],
)
def test_check_names_a_module_that_cannot_be_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest, text: str, part: str
) -> None:
    module = f"broken_{abs(hash(request.node.name))}"
    write_module(tmp_path, module, text)

    status = cli.main(["check", "-r", module])

    mistakes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("mistake: ")]
    assert status == 1
    assert len(mistakes) == 1
    assert mistakes[0].startswith(f"mistake: {module}")
    assert part in mistakes[0]


def test_check_names_the_line_of_the_author_not_of_pyqik(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_module(
        tmp_path, "mistaken", "import pyqik\n\n@pyqik.job('Mistaken', retry='five')\ndef mistaken() -> None: ...\n"
    )

    cli.main(["check", "-r", "mistaken"])

    assert f"({tmp_path}/mistaken.py:3)" in capsys.readouterr().out


def test_check_warns_of_jobs_whose_queue_is_not_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "import pyqik\n\n@pyqik.job('Unserved', queue='python')\ndef unserved() -> None: ...\n"
    write_module(tmp_path, "unserved", text)

    assert cli.main(["check", "-r", "unserved", "-q", "other"]) == 0

    assert "warning: queue python is not served here; the jobs that name it: Unserved" in capsys.readouterr().out
    cli.main(["check", "-r", "unserved", "-q", "other", "--capsule", "big=1:python"])
    assert "not served" not in capsys.readouterr().out


def test_check_names_a_module_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    status = cli.main(["check", "-r", "nowhere_to_be_found"])

    assert status == 1
    assert f"nowhere_to_be_found is not found below {Path.cwd()}" in capsys.readouterr().out


def test_check_names_mistakes_of_flags_and_of_modules_together(capsys: pytest.CaptureFixture[str]) -> None:
    status = cli.main(["check", "-c", "0", "-r", "nowhere_to_be_found"])

    mistakes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("mistake: ")]
    assert (status, len(mistakes)) == (1, 2)


def test_check_shows_every_capsule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pyqik.toml").write_text('[capsules.one]\nqueues = ["single"]\nconcurrency = 1\n', encoding="utf-8")

    status = cli.main(["check"])

    assert status == 0
    output = capsys.readouterr().out
    assert "capsule default, 10 threads: queues (strict): default\n" in output
    assert "capsule one, 1 threads: queues (strict): single\n" in output


def test_capsules_are_given_by_flags_too(capsys: pytest.CaptureFixture[str]) -> None:
    status = cli.main(["check", "-q", "mail", "--capsule", "big=2:reports,exports", "--capsule", "one=1:single"])

    assert status == 0
    output = capsys.readouterr().out
    assert "capsule big, 2 threads: queues (strict): reports, exports\n" in output
    assert "capsule one, 1 threads: queues (strict): single\n" in output


@pytest.mark.parametrize("text", ["big", "big=reports", "big=x:reports", "big=2:", "big=0:reports", "=2:reports"])
def test_a_capsule_that_cannot_be_read_is_a_mistake(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--capsule", text]) == 1
    assert "capsule" in capsys.readouterr().out


def test_check_warns_of_queues_from_sidekiq_yml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/sidekiq.yml").write_text(":queues: [ruby]\n", encoding="utf-8")

    cli.main(["check"])

    assert "are probably Ruby's" in capsys.readouterr().out


def test_check_asks_no_server_unless_told_to(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--redis", "redis://localhost:1/0"]) == 0


def test_check_connect_names_a_server_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = cli.main(["check", "--connect", "--redis", f"unix://:s3cret@{tmp_path}/no.sock"])

    out = capsys.readouterr().out
    assert status == 1
    assert "cannot be reached" in out
    assert "s3cret" not in out


def test_check_connect_tries_the_store_for_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_check_server", lambda url, mistakes, warnings: None)
    (tmp_path / "file").touch()

    assert cli.main(["check", "--connect"]) == 0
    assert cli.main(["check", "--connect", "--files", f"{tmp_path}/new/parts"]) == 0
    assert list((tmp_path / "new" / "parts").iterdir()) == []
    assert "mistake" not in capsys.readouterr().out
    assert cli.main(["check", "--files", f"{tmp_path}/file"]) == 0
    assert "mistake" not in capsys.readouterr().out

    assert cli.main(["check", "--connect", "--files", f"{tmp_path}/file"]) == 1

    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("mistake: ")]
    assert line.startswith(f"mistake: files of jobs cannot be kept: {tmp_path}/file: ")


def test_check_connect_tries_the_store_that_modules_configure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_check_server", lambda url, mistakes, warnings: None)
    (tmp_path / "file").touch()
    write_module(tmp_path, "configures_files", "import pyqik\npyqik.configure(pyqik.Config(files='file'))\n")

    assert cli.main(["check", "--connect", "-r", "configures_files"]) == 1

    assert "mistake: files of jobs cannot be kept: " in capsys.readouterr().out


def test_check_connect_names_the_package_that_a_bucket_needs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_check_server", lambda url, mistakes, warnings: None)
    monkeypatch.setitem(sys.modules, "pyqik.stores.cloud_target", None)

    assert cli.main(["check", "--connect", "--files", "gs://bucket/jobs"]) == 1

    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("mistake: ")]
    assert line.endswith('run: pip install "pyqik[gcs]"')


@pytest.mark.parametrize(
    ("version", "count"),
    [("6.0.16", 1), ("5.0.7", 1), ("6.2.0", 0), ("7.0.15", 0), ("10.1", 0), ("unknown", 0)],
)
def test_a_server_that_is_too_old_is_a_mistake(version: str, count: int) -> None:
    assert len(list(cli.server_mistakes({"redis_version": version}, "redis://x"))) == count


@pytest.mark.parametrize(("policy", "count"), [("noeviction", 0), ("allkeys-lru", 1), ("volatile-ttl", 1)])
def test_a_server_that_evicts_is_warned_of(policy: str, count: int) -> None:
    assert len(list(cli.server_warnings({"maxmemory_policy": policy}, "redis://x"))) == count
