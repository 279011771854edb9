"""config/sidekiq.yml: every form that Sidekiq reads, without running Ruby."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent

import pytest

from pyqik.core.config import Capsule
from pyqik.core.config.layer import Layer
from pyqik.core.config.sidekiq_yml import read_sidekiq_yml


def read(tmp_path: Path, text: str, environment: str = "production", **environ: str) -> Layer:
    path = tmp_path / "sidekiq.yml"
    path.write_text(dedent(text), encoding="utf-8")
    return read_sidekiq_yml(path, environment, environ)


def test_symbols_and_plain_keys_mean_the_same(tmp_path: Path) -> None:
    layer = read(tmp_path, ":concurrency: 5\ntimeout: 8\n")

    assert layer.values == {"concurrency": 5, "timeout": 8}


def test_every_setting_of_sidekiq_has_its_field(tmp_path: Path) -> None:
    layer = read(
        tmp_path,
        """
        :max_retries: 3
        :poll_interval_average: 15
        :average_scheduled_poll_interval: 2
        :dead_max_jobs: 50
        :dead_timeout_in_seconds: 60
        :labels: [blue, :green]
        :tag: shop
        :verbose: true
        :require: ./config/boot.rb
        """,
    )

    assert layer.values == {
        "max_retries": 3,
        "poll_interval_average": 15,
        "average_scheduled_poll_interval": 2,
        "dead_max_jobs": 50,
        "dead_timeout": 60,
        "labels": ["blue", "green"],
        "tag": "shop",
        "verbose": True,
    }
    assert (layer.mistakes, layer.warnings) == ([], [])


@pytest.mark.parametrize(
    ("queues", "weights"),
    [
        ("[default, low]", {"default": 0, "low": 0}),
        ("[[high, 3], [low, 1]]", {"high": 3, "low": 1}),
        ('["high,3", "low,1"]', {"high": 3, "low": 1}),
        ('["high, 3"]', {"high": 3}),
        ('[["high", "3"]]', {"high": 3}),
        ("[[high]]", {"high": 0}),
        ("[:high, [:low, 2]]", {"high": 0, "low": 2}),
        ("[default, [high, 3]]", {"default": 0, "high": 3}),
    ],
)
def test_queues_are_read_in_each_form(tmp_path: Path, queues: str, weights: dict[str, int]) -> None:
    layer = read(tmp_path, f":queues: {queues}\n")

    assert layer.values["queues"] == weights
    assert layer.mistakes == []


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        (":strict: false\n:queues: [a, b]\n", {"a": 1, "b": 1}),
        (":strict: true\n:queues: [a, b]\n", {"a": 0, "b": 0}),
        (":strict: false\n:queues: [[a, 2], b]\n", {"a": 2, "b": 0}),
    ],
)
def test_strict_decides_where_no_queue_has_a_weight(tmp_path: Path, text: str, weights: dict[str, int]) -> None:
    assert read(tmp_path, text).values["queues"] == weights


def test_strict_beside_weights_is_warned_of(tmp_path: Path) -> None:
    layer = read(tmp_path, ":strict: true\n:queues: [[a, 2]]\n")

    assert [warning.split(": ")[1].split()[0] for warning in layer.warnings] == ["strict"]


@pytest.mark.parametrize(
    ("queues", "part"),
    [
        ("default", "write a list, as in `- default`"),
        ("[{high: 3}]", "cannot be read; write `- default`, `- [high, 3]` or `- high,3`"),
        ("[5]", "queue 5 cannot be read"),
        ('["a,b"]', 'queue "a,b": after the comma comes a weight'),
        ("[[high, 3, 4]]", "cannot be read"),
    ],
)
def test_a_queue_that_cannot_be_read_is_a_mistake(tmp_path: Path, queues: str, part: str) -> None:
    layer = read(tmp_path, f":queues: {queues}\n")

    assert len(layer.mistakes) == 1
    assert part in layer.mistakes[0]
    assert layer.source in layer.mistakes[0]


def test_a_queue_named_twice_keeps_its_last_weight_and_is_warned_of(tmp_path: Path) -> None:
    layer = read(tmp_path, ":queues: [a, [a, 3]]\n")

    assert layer.values["queues"] == {"a": 3}
    assert len(layer.warnings) == 1


@pytest.mark.parametrize("queues", ["", "[]"], ids=["nothing", "an empty list"])
def test_an_empty_queue_list_says_nothing(tmp_path: Path, queues: str) -> None:
    assert "queues" not in read(tmp_path, f":queues: {queues}\n").values


@pytest.mark.parametrize(
    ("environment", "concurrency"),
    [("production", 20), ("staging", 5), ("test", 1)],
)
def test_the_section_of_the_environment_lies_over_the_top_level(
    tmp_path: Path, environment: str, concurrency: int
) -> None:
    text = ":concurrency: 5\nproduction:\n  :concurrency: 20\n:test:\n  concurrency: 1\n"

    layer = read(tmp_path, text, environment)

    assert layer.values == {"concurrency": concurrency}
    assert layer.warnings == []


def test_capsules_are_read(tmp_path: Path) -> None:
    layer = read(tmp_path, ":capsules:\n  :single:\n    :concurrency: 1\n    :queues: [one, [two, 2]]\n")

    assert layer.values["capsules"] == (Capsule(name="single", queues={"one": 0, "two": 2}, concurrency=1),)


def test_a_mistake_in_a_capsule_is_named_with_the_file(tmp_path: Path) -> None:
    layer = read(tmp_path, ":capsules:\n  single:\n    concurrency: 0\n    queues: [one]\n")

    assert layer.mistakes == [
        f'capsule "single": concurrency is 0; write a whole number of at least 1 ({layer.source})'
    ]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (":concurency: 5\n", "concurency is no setting of pyqik; write concurrency"),
        (":schedule:\n  nightly: {cron: '0 0 * * *'}\n", "schedule is no setting of pyqik; leave it out"),
    ],
    ids=["a typing error", "settings of a gem"],
)
def test_an_unknown_key_is_warned_of(tmp_path: Path, text: str, part: str) -> None:
    layer = read(tmp_path, text)

    assert layer.warnings == [f"{layer.source}: {part}"]


def test_values_may_come_from_the_environment(tmp_path: Path) -> None:
    layer = read(tmp_path, ':concurrency: <%= ENV.fetch("THREADS", 5) %>\n:timeout: "<%= ENV["T"] %>"\n', T="9")

    assert layer.values == {"concurrency": 5, "timeout": 9.0}


def test_a_value_that_the_environment_leaves_empty_says_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, ':concurrency: <%= ENV["THREADS"] %>\n').values == {}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (":a: 1\n:b: !ruby/object:Gem::Installer {}\n", ":2: not plain YAML"),
        (":a: [1\n", "not plain YAML"),
        ("- default\n", "is no list of settings"),
        (":capsules: 5\n", "is no list of settings"),
        (":production: 5\n", "is no list of settings"),
    ],
    ids=["a Ruby object", "broken YAML", "a list", "capsules that are none", "a section that is none"],
)
def test_what_is_not_plain_settings_is_a_mistake(tmp_path: Path, text: str, part: str) -> None:
    mistakes = read(tmp_path, text).mistakes

    assert len(mistakes) == 1
    assert part in mistakes[0]


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "# nothing yet\n") == Layer(str(tmp_path / "sidekiq.yml"))


def test_a_file_that_is_missing_is_a_mistake(tmp_path: Path) -> None:
    layer = read_sidekiq_yml(tmp_path / "none.yml", "production", {})

    assert "cannot be read" in layer.mistakes[0]


def test_without_pyyaml_the_mistake_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)

    layer = read(tmp_path, ":concurrency: 5\n")

    assert 'pip install "pyqik[yaml]"' in layer.mistakes[0]
