"""The ERB of a sidekiq.yml: what stands for a value, and what is refused."""

from __future__ import annotations

import pytest

from pyqik.core.config.erb import rendered


@pytest.mark.parametrize(
    ("tag", "environ", "value"),
    [
        ('<%= ENV["X"] %>', {"X": "7"}, "7"),
        ("<%= ENV['X'] %>", {"X": "7"}, "7"),
        ('<%=ENV["X"]-%>', {"X": "7"}, "7"),
        ('<%= ENV["X"] %>', {}, ""),
        ('<%= ENV["X"].to_i %>', {"X": "7 threads"}, "7"),
        ('<%= ENV["X"].to_i %>', {}, "0"),
        ('<%= ENV["X"] || 5 %>', {}, "5"),
        ('<%= ENV["X"] || 5 %>', {"X": "7"}, "7"),
        ('<%= ENV["X"] || 5 %>', {"X": ""}, ""),
        ('<%= ENV["X"] || "low" %>', {}, "low"),
        ('<%= ENV["X"] || nil %>', {}, ""),
        ('<%= (ENV["X"] || 5).to_i %>', {"X": "7"}, "7"),
        ('<%= (ENV["X"] || 5) %>', {}, "5"),
        ('<%= ENV.fetch("X") %>', {"X": "7"}, "7"),
        ('<%= ENV.fetch("X", 5) %>', {}, "5"),
        ('<%= ENV.fetch("X", 5) %>', {"X": "7"}, "7"),
        ('<%= ENV.fetch("X", 5).to_i %>', {}, "5"),
        ("<%= ENV.fetch('X', '5') %>", {}, "5"),
        ('<%= ENV.fetch("X") { 5 } %>', {}, "5"),
        ('<%= ENV.fetch("X", 10_000) %>', {}, "10000"),
        ("<%# a comment %>", {}, ""),
    ],
)
def test_a_value_from_the_environment_is_understood(tag: str, environ: dict[str, str], value: str) -> None:
    assert rendered(f"a: {tag}", environ, "f.yml") == (f"a: {value}", [])


@pytest.mark.parametrize(
    "tag",
    [
        "<%= `hostname` %>",
        "<%= Etc.nprocessors %>",
        '<%= ENV["X"].to_i * 2 %>',
        '<%= ENV["X"] || Rails.env %>',
        '<%= ENV["X"] || "#{1}" %>',
        '<% if ENV["X"] %>',
        '<%= system("true") || ENV["X"] %>',
        '<%= ENV["X"]; ENV["Y"] %>',
    ],
)
def test_other_ruby_is_refused_with_file_line_and_way_out(tag: str) -> None:
    _, mistakes = rendered(f"a: 1\nb: {tag}\n", {"X": "1"}, "f.yml")

    assert len(mistakes) == 1
    assert mistakes[0].startswith("f.yml:2: pyqik does not run Ruby")
    assert "-C pyqik.toml" in mistakes[0]


def test_a_variable_that_must_be_set_is_named_with_file_and_line() -> None:
    _, mistakes = rendered('\n\na: <%= ENV.fetch("THREADS") %>', {}, "f.yml")

    assert mistakes == ['f.yml:3: ENV.fetch("THREADS"): THREADS is not set; set it or write ENV.fetch("THREADS", 5)']


def test_every_tag_without_a_value_is_named() -> None:
    _, mistakes = rendered("<%= a %>\n<%= b %>", {}, "f.yml")

    assert [mistake.split(": ")[0] for mistake in mistakes] == ["f.yml:1", "f.yml:2"]


def test_ruby_in_a_yaml_comment_does_not_matter() -> None:
    _, mistakes = rendered("a: 1\n  # b: <%= Etc.nprocessors %>", {}, "f.yml")

    assert mistakes == []
