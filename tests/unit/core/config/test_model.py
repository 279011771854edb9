"""Config: defaults, validation, queues as they are stored, laying over, and the round trip to a child."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import json
from typing import Any

import msgpack
import pytest

from pyqik.core.config import Capsule, Config
from pyqik.core.config.rules import RULES
from pyqik.core.errors import ConfigError


def mistakes_of(**fields: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        Config(**fields)
    return caught.value.mistakes


def test_every_field_has_a_rule() -> None:
    names = {field.name for field in dataclasses.fields(Config) if field.init}

    assert names == set(RULES)


def test_the_defaults_are_sidekiqs() -> None:
    config = Config()

    assert (config.concurrency, config.timeout, config.max_retries) == (10, 25.0, 25)
    assert (config.dead_max_jobs, config.dead_timeout) == (10_000, 15_552_000.0)
    assert dict(config.all_queues) == {"default": 0}
    assert config.given == frozenset()


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().concurrency = 3  # type: ignore[misc]  # that is what is tested


def test_the_queues_of_a_config_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        Config(queues={"a": 1}).queues["b"] = 1  # type: ignore[index]  # that is what is tested


def test_a_config_keeps_its_own_copy_of_the_queues() -> None:
    queues = {"a": 1}
    config = Config(queues=queues)

    queues["b"] = 1

    assert dict(config.all_queues) == {"a": 1}


def test_a_number_too_large_for_a_float_is_a_mistake() -> None:
    assert len(mistakes_of(timeout=10**400)) == 1


def test_all_mistakes_are_named_at_once() -> None:
    mistakes = mistakes_of(concurrency=0, timeout=-1, queues=[], log_level="loud")

    assert [mistake.split()[0] for mistake in mistakes] == ["concurrency", "timeout", "log_level", "queues"]


@pytest.mark.parametrize(
    ("field", "value", "mistake"),
    [
        ("concurrency", 0, "concurrency is 0; write a whole number of at least 1"),
        ("concurrency", "5", 'concurrency is "5"; write a whole number of at least 1'),
        ("concurrency", True, "concurrency is True; write a whole number of at least 1"),
        ("concurrency", 2.5, "concurrency is 2.5; write a whole number of at least 1"),
        ("port", 70_000, "port is 70000; write a whole number from 0 to 65535"),
        ("timeout", float("nan"), "timeout is nan; write seconds, 0 or more and at most 1000000000, as in timeout=25"),
        ("timeout", float("inf"), "timeout is inf; write seconds, 0 or more and at most 1000000000, as in timeout=25"),
        (
            "timeout",
            2_000_000_000,
            "timeout is 2000000000; write seconds, 0 or more and at most 1000000000, as in timeout=25",
        ),
        ("lease", 0, "lease is 0; write seconds, more than 0 and at most 1000000000, as in lease=25"),
        ("poll", 1, "poll is 1; write true or false"),
        ("tag", "a\nb", 'tag is "a\\nb", which has a control character; write it without'),
        ("log_format", "xml", 'log_format is "xml"; write one of auto, console, json'),
        ("labels", "blue", 'labels is "blue"; write a list, as in labels=["blue"]'),
        ("labels", ["", "a"], 'labels has ""; write a text that is not empty'),
        ("require", ["./shop/jobs.py"], 'require has "./shop/jobs.py", not a module; write shop.jobs as in `import`'),
        ("server_middleware", ["x"], 'server_middleware has "x"; write functions'),
        ("capsules", ["big"], 'capsules has "big"; write Capsule(name=…, queues=…)'),
        ("redis", 5, "redis is a int; write a URL such as redis://localhost:6379/0"),
    ],
)
def test_a_mistake_names_the_field_the_value_and_the_way_out(field: str, value: object, mistake: str) -> None:
    assert mistakes_of(**{field: value}) == (mistake,)


@pytest.mark.parametrize(
    ("queues", "mistake"),
    [
        ("default", 'queues is "default"; write queues=["default"] or queues={"critical": 3, "default": 1}'),
        ([], 'queues is empty; name at least one, as in queues=["default"]'),
        (["mail,er"], 'queue "mail,er" has a comma; write queues={"mail": 2} for a weight'),
        (["critical,3"], 'queue "critical,3" has a comma; write queues={"critical": 3} for a weight'),
        ([""], 'queue "" is empty; give it a name or leave it out'),
        ([5], 'queue 5 is not a text; write it in quotes, as in "default"'),
        (["a\x00"], 'queue "a\\u0000" has a control character; write the name without it'),
        (["a", "b", "a"], 'queue "a" is named twice; write queues={"a": 2} to favour it'),
        ({"a": -1}, 'queue "a" has the weight -1; write a whole number, 0 for strict order'),
        ({"a": True}, 'queue "a" has the weight True; write a whole number, 0 for strict order'),
        ({"a": "3"}, 'queue "a" has the weight "3"; write a whole number, 0 for strict order'),
    ],
)
def test_a_mistake_in_a_queue_names_the_queue_and_the_way_out(queues: object, mistake: str) -> None:
    assert mistakes_of(queues=queues) == (mistake,)


@pytest.mark.parametrize(
    ("queues", "mode"),
    [
        (["a", "b"], "strict"),
        ({"a": 0, "b": 0}, "strict"),
        ({"a": 1, "b": 1}, "random"),
        ({"a": 1}, "random"),
        ({"a": 3, "b": 1}, "weighted"),
        ({"a": 3, "b": 0}, "weighted"),
    ],
)
def test_the_weights_say_in_which_order_queues_are_walked(queues: Any, mode: str) -> None:
    assert Capsule(name="one", queues=queues).queue_mode == mode


def test_queues_keep_their_order() -> None:
    assert list(Config(queues=["z", "a", "m"]).all_queues) == ["z", "a", "m"]


def test_the_default_capsule_has_the_queues_that_no_other_names() -> None:
    reports = Capsule(name="reports", queues={"reports": 2}, concurrency=1)

    config = Config(queues=["default"], concurrency=5, async_concurrency=7, capsules=[reports])

    default = Capsule(name="default", queues=["default"], concurrency=5, async_concurrency=7)
    assert config.all_capsules == (default, reports)
    assert list(config.all_queues.items()) == [("default", 0), ("reports", 2)]
    assert config.total_concurrency == 6
    assert config.warnings() == []


def test_a_queue_of_two_capsules_is_worth_a_warning() -> None:
    config = Config(queues=["a", "b"], capsules=[Capsule(name="one", queues=["b"])])

    assert [warning for warning in config.warnings() if "queue b is served by the capsules default and one" in warning]


def test_no_capsule_may_be_called_default() -> None:
    with pytest.raises(ConfigError, match="use another name"):
        Config(capsules=[Capsule(name="default", queues=["a"])])


def test_a_mistake_in_a_capsule_names_the_capsule() -> None:
    with pytest.raises(ConfigError) as caught:
        Capsule(name="big", queues=[], concurrency=0)

    assert [mistake.split(": ")[0] for mistake in caught.value.mistakes] == ['capsule "big"'] * 2


def test_capsules_need_different_names() -> None:
    twins = [Capsule(name="big", queues=["a"]), Capsule(name="big", queues=["b"])]

    assert mistakes_of(capsules=twins) == ('capsules has "big" twice; give each Capsule a name of its own',)


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"queues": ["mail ers"]}, "Web UI answers 404"),
        ({"queues": ["größe"]}, "Web UI answers 404"),
        ({"embedded": True, "redis": "redis://localhost:6379/0"}, "redis is not used beside embedded"),
        ({"lease": 2}, "lease=2"),
    ],
)
def test_what_is_probably_not_meant_is_warned_of(fields: dict[str, Any], part: str) -> None:
    warnings = Config(**fields).warnings()

    assert [part in warning for warning in warnings] == [True]


def test_the_default_configuration_warns_of_nothing() -> None:
    assert Config().warnings() == []


@pytest.mark.parametrize(
    ("given", "level"),
    [("WARN", "warning"), ("Fatal", "critical"), ("error", "error")],
)
def test_a_log_level_may_be_written_as_ruby_does(given: str, level: str) -> None:
    assert Config(log_level=given).log_level == level


@pytest.mark.parametrize(
    ("fields", "level"),
    [
        ({"verbose": True}, "debug"),
        ({"verbose": False}, "info"),
        ({"verbose": True, "log_level": "error"}, "error"),
        ({}, "info"),
    ],
)
def test_verbose_is_short_for_a_log_level(fields: dict[str, Any], level: str) -> None:
    assert Config(**fields).log_level == level


def test_the_redis_password_is_not_in_the_repr() -> None:
    assert "s3cret" not in repr(Config(redis="redis://:s3cret@localhost/0"))


def test_given_names_what_was_written_out_even_if_it_is_the_default() -> None:
    assert Config(concurrency=10).given == {"concurrency"}


def test_given_queues_replace_the_capsules_too() -> None:
    base = Config(capsules=[Capsule(name="ruby", queues=["rails"])])

    assert dict(Config(queues=["python"]).over(base).all_queues) == {"python": 0}


@pytest.mark.parametrize(
    ("upper", "base", "concurrency"),
    [
        (Config(concurrency=3), Config(concurrency=7), 3),
        (Config(), Config(concurrency=7), 7),
        (Config(concurrency=10), Config(concurrency=7), 10),
        (Config.of({"concurrency": 5}, given=()), Config(), 5),
        (Config.of({"concurrency": 5}, given=()), Config(concurrency=7), 7),
    ],
    ids=["upper wins", "base where upper says nothing", "a default written out wins", "found value", "base over found"],
)
def test_a_config_is_laid_over_another(upper: Config, base: Config, concurrency: int) -> None:
    assert upper.over(base).concurrency == concurrency


def test_what_is_laid_together_was_given_by_either() -> None:
    assert Config(timeout=3).over(Config(tag="x")).given == {"timeout", "tag"}


def a_full_config() -> Config:
    return Config(
        redis="redis://app:s3cret@localhost:6379/3",
        queues={"z": 3, "a": 0},
        capsules=[Capsule(name="one", queues=["single"], concurrency=1)],
        timeout=0.1 + 0.2,
        require=["shop.jobs"],
        labels=["blue"],
        poll_interval_average=1 / 3,
        port=0,
        verbose=True,
    )


@pytest.mark.parametrize(
    "carried",
    [lambda plain: json.loads(json.dumps(plain)), lambda plain: msgpack.unpackb(msgpack.packb(plain))],
    ids=["json", "msgpack"],
)
def test_a_config_reaches_a_child_unchanged(carried: Any) -> None:
    config = a_full_config()

    received = Config.from_dict(carried(config.to_dict()))

    assert received == config
    assert received.given == config.given
    assert list(received.all_queues) == list(config.all_queues)


async def handle_later(error: BaseException, payload: object) -> None: ...


def handle_in_parts(error: BaseException, payload: object) -> Any:
    yield


@pytest.mark.parametrize("field", ["error_handlers", "death_handlers"])
@pytest.mark.parametrize("handler", [handle_later, handle_in_parts], ids=["async def", "generator"])
def test_a_handler_that_would_not_run_when_called_is_a_mistake(field: str, handler: object) -> None:
    (mistake,) = mistakes_of(**{field: [print, handler]})

    assert mistake.startswith(f"{field} has <function {handler.__name__} ")  # type: ignore[attr-defined]  # a function
    assert mistake.endswith("which is called and not awaited; write a plain function")


@pytest.mark.parametrize(
    ("options", "mistakes"),
    [
        (
            ["retry"],
            ["default_job_options is ['retry']; write names with values, as in default_job_options={\"retry\": 3}"],
        ),
        ({5: 1}, ['default_job_options is {5: 1}; write names with values, as in default_job_options={"retry": 3}']),
        ({"queue": ""}, ["default_job_options: queue is ''; write a queue's name, such as \"default\""]),
        (
            {"retry": "3", "dead": 0},
            ["default_job_options: retry is '3'; write", "default_job_options: dead is 0; write"],
        ),
        ({"jid": "a"}, ["default_job_options: 'jid' is not an option; the client"]),
        (
            {"note": datetime.date(2027, 1, 1)},
            ["default_job_options: note is datetime.date(2027, 1, 1), which does not"],
        ),
        ({"note": {1: 2}}, ["default_job_options: note is {1: 2}, which does not survive JSON"]),
        ({"note": 2**64}, ["default_job_options: note is 18446744073709551616, which does not survive"]),
        ({"note": float("nan")}, ["default_job_options: note is nan, which does not survive"]),
        ({"note": "\ud800"}, ["default_job_options: note is"]),
    ],
    ids=str,
)
def test_mistakes_in_the_default_options_of_jobs_are_named(options: Any, mistakes: list[str]) -> None:
    found = mistakes_of(default_job_options=options)

    assert [mistake[: len(start)] for mistake, start in zip(found, mistakes, strict=True)] == mistakes


def test_default_job_options_travel_to_a_child_and_cannot_be_changed() -> None:
    options = {"retry": 3, "tags": ["a"], "custom": {"a": [1, None]}}
    config = Config(default_job_options=options)
    options["tags"].append("b")  # type: ignore[attr-defined]  # a list

    received = Config.from_dict(msgpack.unpackb(msgpack.packb(config.to_dict())))

    assert received.default_job_options == {"retry": 3, "tags": ["a"], "custom": {"a": [1, None]}}
    assert "default_job_options" in received.given
    with pytest.raises(TypeError):
        config.default_job_options["retry"] = 5  # type: ignore[index]  # that is what is tested


def test_handlers_do_not_travel() -> None:
    received = Config.from_dict(Config(error_handlers=[print], death_handlers=[print]).to_dict())

    assert (received.error_handlers, received.death_handlers, received.given) == ((), (), frozenset())


def test_middleware_does_not_travel() -> None:
    config = Config(server_middleware=[print])

    received = Config.from_dict(config.to_dict())

    assert received.server_middleware == ()
    assert "server_middleware" not in received.given


def test_code_in_the_child_adds_its_middleware() -> None:
    received = Config.from_dict(Config(concurrency=3).to_dict())

    final = received.over(Config(concurrency=9, server_middleware=[print]))

    assert (final.concurrency, final.server_middleware) == (3, (print,))


def test_a_copy_knows_what_was_given() -> None:
    assert copy.copy(Config(tag="x")).given == {"tag"}


def test_a_dict_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(TypeError, match="colour"):
        Config.from_dict({**Config().to_dict(), "colour": "red"})
