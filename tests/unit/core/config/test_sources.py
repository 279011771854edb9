"""Which source of the configuration wins, how each is read, and that all mistakes are named together."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyqik.core.config import Config
from pyqik.core.config.layer import Layer
from pyqik.core.config.sources import Loaded, load
from pyqik.core.errors import ConfigError


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def load_here(directory: Path, environ: dict[str, str] | None = None, **options: object) -> Loaded:
    return load(environ=environ or {}, directory=directory, **options)  # type: ignore[arg-type]  # named by the tests


def mistakes_here(directory: Path, environ: dict[str, str] | None = None, **options: object) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_here(directory, environ, **options)
    return caught.value.mistakes


def flags(**values: object) -> Layer:
    return Layer("flags", dict(values))


def test_without_any_source_the_defaults_hold(tmp_path: Path) -> None:
    loaded = load_here(tmp_path)

    assert loaded.config == Config(environment="development")
    assert (loaded.warnings, loaded.config.given) == ((), frozenset())


# Each source sets its own number and those of the stronger ones on top.
SOURCES = ["RAILS_MAX_THREADS", "found sidekiq.yml", "code", "pyqik.toml", "environment", "flags"]


@pytest.mark.parametrize("strongest", range(len(SOURCES)), ids=SOURCES)
def test_the_stronger_source_wins(tmp_path: Path, strongest: int) -> None:
    environ = {"RAILS_MAX_THREADS": "100"}
    if strongest >= 1:
        write(tmp_path / "config/sidekiq.yml", ":concurrency: 101\n")
    base = Config(concurrency=102) if strongest >= 2 else None
    if strongest >= 3:
        write(tmp_path / "pyqik.toml", "concurrency = 103\n")
    if strongest >= 4:
        environ["PYQIK_CONCURRENCY"] = "104"
    layer = flags(concurrency=105) if strongest >= 5 else flags()

    loaded = load_here(tmp_path, environ, base=base, flags=layer)

    assert loaded.config.concurrency == 100 + strongest


def test_a_named_file_is_read_instead_of_those_that_would_be_found(tmp_path: Path) -> None:
    write(tmp_path / "pyqik.toml", "concurrency = 3\n")
    write(tmp_path / "config/sidekiq.yml", ":timeout: 3\n")
    write(tmp_path / "other.toml", 'tag = "other"\n')

    config = load_here(tmp_path, file="other.toml").config

    assert (config.tag, config.concurrency, config.timeout) == ("other", 10, 25.0)


def test_a_named_sidekiq_yml_says_more_than_code(tmp_path: Path) -> None:
    write(tmp_path / "config/sidekiq.yml", ":concurrency: 3\n")

    config = load_here(tmp_path, file="config/sidekiq.yml", base=Config(concurrency=7)).config

    assert config.concurrency == 3


@pytest.mark.parametrize("base", [Config(), Config(concurrency=7), Config(queues=["python"], verbose=True)])
def test_code_that_is_known_only_later_can_be_laid_below(tmp_path: Path, base: Config) -> None:
    write(tmp_path / "config/sidekiq.yml", ":queues: [ruby]\n:capsules: {one: {queues: [two]}}\n:concurrency: 4\n")
    write(tmp_path / "pyqik.toml", "timeout = 3\n")

    later = load_here(tmp_path).config.over(base)

    at_once = load_here(tmp_path, base=base).config
    assert (later, later.given) == (at_once, at_once.given)


def test_queues_of_a_found_sidekiq_yml_are_warned_of(tmp_path: Path) -> None:
    write(tmp_path / "config/sidekiq.yml", ":queues: [ruby]\n")

    loaded = load_here(tmp_path)

    assert dict(loaded.config.all_queues) == {"ruby": 0}
    assert [warning for warning in loaded.warnings if "name Python's own queues with -q" in warning]


def test_queue_flags_replace_the_queues_and_capsules_of_sidekiq_yml(tmp_path: Path) -> None:
    write(tmp_path / "config/sidekiq.yml", ":queues: [ruby]\n:capsules: {one: {queues: [two]}}\n")

    loaded = load_here(tmp_path, flags=flags(queues={"python": 0}))

    assert dict(loaded.config.all_queues) == {"python": 0}
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("environ", "environment"),
    [
        ({}, "development"),
        ({"RACK_ENV": "c"}, "c"),
        ({"RACK_ENV": "c", "RAILS_ENV": "b"}, "b"),
        ({"RACK_ENV": "c", "RAILS_ENV": "b", "APP_ENV": "a"}, "a"),
        ({"APP_ENV": "a", "PYQIK_ENVIRONMENT": "own"}, "own"),
        ({"RACK_ENV": "c", "RAILS_ENV": ""}, "c"),
    ],
)
def test_the_environment_has_a_name(tmp_path: Path, environ: dict[str, str], environment: str) -> None:
    assert load_here(tmp_path, environ).config.environment == environment


def test_the_environment_flag_chooses_the_section_of_sidekiq_yml(tmp_path: Path) -> None:
    write(tmp_path / "config/sidekiq.yml", ":timeout: 1\nstaging:\n  :timeout: 2\n")

    config = load_here(tmp_path, {"RAILS_ENV": "production"}, flags=flags(environment="staging")).config

    assert (config.environment, config.timeout) == ("staging", 2.0)


@pytest.mark.parametrize(
    ("environ", "host"),
    [
        ({}, "localhost:6379"),
        ({"REDIS_URL": "redis://url/0"}, "url"),
        ({"REDIS_URL": "redis://url/0", "REDIS_PROVIDER": "X_URL", "X_URL": "redis://x/0"}, "x"),
        ({"REDIS_URL": "redis://url/0", "REDIS_PROVIDER": "X_URL"}, "url"),
        ({"REDIS_URL": "redis://url/0", "PYQIK_REDIS": "redis://own/0"}, "own"),
        ({"REDIS_URL": ""}, "localhost:6379"),
    ],
)
def test_redis_comes_from_the_variables_that_sidekiq_reads(tmp_path: Path, environ: dict[str, str], host: str) -> None:
    assert load_here(tmp_path, environ).config.redis == f"redis://{host}/0"


def test_a_provider_that_is_not_set_is_a_mistake(tmp_path: Path) -> None:
    mistakes = mistakes_here(tmp_path, {"REDIS_PROVIDER": "X_URL"})

    assert mistakes == ("REDIS_PROVIDER names X_URL, which is not set; set it, or set REDIS_URL instead (environment)",)


def test_a_url_in_redis_provider_is_a_mistake_and_not_shown(tmp_path: Path) -> None:
    (mistake,) = mistakes_here(tmp_path, {"REDIS_PROVIDER": "redis://:s3cret@localhost/0"})

    assert "for a URL itself set REDIS_URL" in mistake
    assert "s3cret" not in mistake


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("PYQIK_CONCURRENCY", "5", "concurrency", 5),
        ("PYQIK_TIMEOUT", "7.5", "timeout", 7.5),
        ("PYQIK_POLL", "false", "poll", False),
        ("PYQIK_EMBEDDED", "1", "embedded", True),
        ("PYQIK_LOG_LEVEL", "WARN", "log_level", "warning"),
        ("PYQIK_PORT", "0", "port", 0),
        ("PYQIK_POLL_INTERVAL_AVERAGE", "3", "poll_interval_average", 3.0),
        ("PYQIK_TAG", "shop", "tag", "shop"),
    ],
)
def test_single_values_are_read_from_the_environment(
    tmp_path: Path, variable: str, text: str, field: str, value: object
) -> None:
    config = load_here(tmp_path, {variable: text}).config

    assert getattr(config, field) == value
    assert field in config.given


@pytest.mark.parametrize(
    ("environ", "mistake"),
    [
        (
            {"PYQIK_CONCURRENCY": "five"},
            'concurrency is "five"; write a whole number of at least 1 (PYQIK_CONCURRENCY)',
        ),
        ({"RAILS_MAX_THREADS": "x"}, 'concurrency is "x"; write a whole number of at least 1 (RAILS_MAX_THREADS)'),
        ({"PYQIK_POLL": "perhaps"}, 'poll is "perhaps"; write true or false (PYQIK_POLL)'),
        (
            {"PYQIK_QUEUES": "a,b"},
            "PYQIK_QUEUES: queues cannot be read from the environment; use pyqik.toml or pyqik.configure (environment)",
        ),
        (
            {"REDIS_URL": "redis://:s3cret@localhost:0/0"},
            "redis is redis://:***@localhost:0/0: the port must be between 1 and 65535 (REDIS_URL)",
        ),
    ],
)
def test_a_mistake_names_the_variable(tmp_path: Path, environ: dict[str, str], mistake: str) -> None:
    assert mistakes_here(tmp_path, environ) == (mistake,)


@pytest.mark.parametrize(
    ("variable", "warnings"),
    [
        ("PYQIK_CONCURENCY", ("PYQIK_CONCURENCY is no setting of pyqik; did you mean PYQIK_CONCURRENCY?",)),
        ("PYQIK_APP_SECRET_KEY", ()),
    ],
    ids=["a typing error", "somebody else's variable"],
)
def test_a_variable_with_a_typing_error_is_warned_of(tmp_path: Path, variable: str, warnings: tuple[str, ...]) -> None:
    assert load_here(tmp_path, {variable: "5"}).warnings == warnings


def test_default_job_options_are_a_table_in_toml(tmp_path: Path) -> None:
    write(tmp_path / "pyqik.toml", '[default_job_options]\nretry = 3\ntags = ["a"]\n')

    config = load_here(tmp_path, base=Config(default_job_options={"retry": 5, "queue": "low"})).config

    # A stronger source's table replaces the weaker one's, as with queues.
    assert config.default_job_options == {"retry": 3, "tags": ["a"]}


def test_a_mistake_in_the_default_job_options_names_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "pyqik.toml", "[default_job_options]\nretry = -1\nfrom = 2027-01-01\n")

    first, second = mistakes_here(tmp_path)

    assert first.startswith("default_job_options: retry is -1; write True")
    assert second.startswith("default_job_options: from is datetime.date(2027, 1, 1), which does not survive JSON")
    assert first.endswith(f"({path})")


def test_toml_holds_the_same_fields(tmp_path: Path) -> None:
    write(
        tmp_path / "pyqik.toml",
        """
        redis = "redis://toml/1"
        timeout = 8
        require = ["shop.jobs"]
        [queues]
        critical = 3
        default = 1
        [capsules.one]
        queues = ["single"]
        concurrency = 1
        """,
    )

    config = load_here(tmp_path).config

    assert (config.redis, config.timeout, config.require) == ("redis://toml/1", 8.0, ("shop.jobs",))
    assert dict(config.all_queues) == {"critical": 3, "default": 1, "single": 0}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("concurency = 5", "concurency is no setting of pyqik; write concurrency"),
        ("nonsense = 5", "nonsense is no setting of pyqik; leave it out"),
        ('server_middleware = ["x"]', "server_middleware cannot stand in a file; give it to pyqik.configure in code"),
        ('concurrency = "5"', 'concurrency is "5"; write a whole number of at least 1'),
        ("concurrency = ", "not TOML"),
        ("capsules = 5", "capsules is 5; write a table for each, as in [capsules.big]"),
        ("[capsules.big]\nthreads = 5", 'capsule "big" is'),
        ("[capsules.big]\nqueues = []", 'capsule "big": queues is empty'),
    ],
)
def test_a_mistake_in_toml_names_the_file(tmp_path: Path, text: str, part: str) -> None:
    path = write(tmp_path / "pyqik.toml", text)

    (mistake,) = mistakes_here(tmp_path)

    assert part in mistake
    assert str(path) in mistake


@pytest.mark.parametrize(
    ("name", "part"),
    [("none.toml", "cannot be read"), ("none.yml", "cannot be read"), ("notes.txt", "-C takes a .toml or a .yml file")],
)
def test_a_named_file_that_cannot_be_used_is_a_mistake(tmp_path: Path, name: str, part: str) -> None:
    (mistake,) = mistakes_here(tmp_path, file=name)

    assert part in mistake


def test_the_mistakes_of_all_sources_are_named_at_once(tmp_path: Path) -> None:
    write(tmp_path / "config/sidekiq.yml", ":queues: [{a: 1}]\n")
    write(tmp_path / "pyqik.toml", "nonsense = 5\n")

    mistakes = mistakes_here(tmp_path, {"PYQIK_PORT": "x"}, flags=flags(timeout=-1))

    assert [mistake.split()[0] for mistake in mistakes] == ["queue", "nonsense", "port", "timeout"]


def test_a_wrong_value_that_a_stronger_source_replaces_does_not_matter(tmp_path: Path) -> None:
    write(tmp_path / "pyqik.toml", "concurrency = 0\n")

    assert load_here(tmp_path, flags=flags(concurrency=3)).config.concurrency == 3


@pytest.mark.parametrize(
    ("verbose", "level", "expected"),
    [("true", None, "debug"), ("false", None, "info"), ("true", "warning", "warning")],
)
def test_a_log_level_beside_verbose_wins(tmp_path: Path, verbose: str, level: str | None, expected: str) -> None:
    write(tmp_path / "config/sidekiq.yml", f":verbose: {verbose}\n")

    loaded = load_here(tmp_path, flags=flags(log_level=level) if level else flags())

    assert loaded.config.log_level == expected


def test_it_is_known_where_each_field_came_from(tmp_path: Path) -> None:
    path = write(tmp_path / "pyqik.toml", "timeout = 3\n")

    origins = load_here(tmp_path, {"REDIS_URL": "redis://x/0"}, flags=flags(tag="t")).origins

    assert (origins["timeout"], origins["redis"], origins["tag"]) == (str(path), "REDIS_URL", "flags")
