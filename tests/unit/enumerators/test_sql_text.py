"""`:name` in SQL text becomes what each driver wants, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest

from pyqik.enumerators.sql_text import Statement, Wording, statement

PARAMS = {"low": 3, "shop": "a"}


@pytest.mark.parametrize(
    ("paramstyle", "text", "values"),
    [
        ("qmark", "a > ? AND b = ? AND c < ?", (3, "a", 3)),
        ("format", "a > %s AND b = %s AND c < %s", (3, "a", 3)),
        ("numeric", "a > :1 AND b = :2 AND c < :3", (3, "a", 3)),
        ("numeric_dollar", "a > $1 AND b = $2 AND c < $3", (3, "a", 3)),
        ("named", "a > :low AND b = :shop AND c < :low", {"low": 3, "shop": "a"}),
        ("pyformat", "a > %(low)s AND b = %(shop)s AND c < %(low)s", {"low": 3, "shop": "a"}),
    ],
)
def test_each_paramstyle_has_its_words(paramstyle: str, text: str, values: Any) -> None:
    written = statement("a > :low AND b = :shop AND c < :low", Wording(paramstyle))

    assert (written.text, written.values(PARAMS)) == (text, values)


@pytest.mark.parametrize(
    "sql",
    [
        pytest.param("':low'", id="text"),
        pytest.param("'it''s :low'", id="text with a quote"),
        pytest.param("'C:\\' || 'x:low'", id="text that ends in a backslash"),
        pytest.param("':low never closed", id="text without an end"),
        pytest.param('"a:low" ":low"', id="names"),
        pytest.param('"a"" :low"', id="name with a quote"),
        pytest.param("`:low`", id="name in backticks"),
        pytest.param("E'it\\'s :low'", id="escaped text"),
        pytest.param("$$ it's :low $$", id="dollars"),
        pytest.param("$tag$ $$ :low $other$ $tag$", id="dollars with a tag"),
        pytest.param("-- it's :low", id="comment up to the end"),
        pytest.param("-- it's :low\n", id="comment of a line"),
        pytest.param("/* it's :low */", id="comment"),
        pytest.param("/* /* :low */ :low */", id="comment in a comment"),
        pytest.param("/* :low", id="comment without an end"),
        pytest.param("a::low", id="cast"),
        pytest.param("x[1:low]", id="slice from a number"),
        pytest.param("@a := 1", id="assignment"),
        pytest.param("'12:30:00' : 5 :", id="colons"),
    ],
)
def test_what_only_looks_like_a_parameter_stays(sql: str) -> None:
    assert statement(sql, Wording("qmark")) == Statement(sql, (), False)


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("':low':shop", "':low'?"),
        ("'' ':low' :shop", "'' ':low' ?"),
        ("$$ :low $$ :shop", "$$ :low $$ ?"),
        ("a$b$ > :shop AND c$b$ > 1", "a$b$ > ? AND c$b$ > 1"),
        ("-- :low\n:shop", "-- :low\n?"),
        ("/* /* :low */ */ :shop", "/* /* :low */ */ ?"),
        ("tape'\\' || :shop", "tape'\\' || ?"),
        (":shop::text", "?::text"),
        ("x[:shop]", "x[?]"),
        ("(:shop,:shop)", "(?,?)"),
        ("a=:shop", "a=?"),
    ],
)
def test_a_parameter_beside_what_is_quoted_is_seen(sql: str, text: str) -> None:
    assert statement(sql, Wording("qmark")).text == text


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("'it\\'s :low' :shop", "'it\\'s :low' ?"),
        ('"it\\"s :low" :shop', '"it\\"s :low" ?'),
        ("# :low\n:shop", "# :low\n?"),
        ("-- :low\n:shop", "-- :low\n?"),
        ("5--:shop", "5--?"),
        ("/* /* :low */ :shop", "/* /* :low */ ?"),
        ("`:low` :shop", "`:low` ?"),
    ],
)
def test_mysql_quotes_in_its_own_way(sql: str, text: str) -> None:
    assert statement(sql, Wording("qmark", mysql=True)).text == text


@pytest.mark.parametrize(
    ("wording", "text"),
    [
        pytest.param(Wording("format"), "a %% 2 = %s AND b LIKE '5%%'", id="format"),
        pytest.param(Wording("pyformat"), "a %% 2 = %(low)s AND b LIKE '5%%'", id="pyformat"),
        pytest.param(Wording("qmark"), "a % 2 = ? AND b LIKE '5%'", id="qmark"),
        pytest.param(Wording("named"), "a % 2 = :low AND b LIKE '5%'", id="named"),
        pytest.param(Wording("format", doubled=frozenset({""})), "a %% 2 = %s AND b LIKE '5%'", id="as pg8000"),
        pytest.param(Wording("format", doubled=frozenset()), "a % 2 = %s AND b LIKE '5%'", id="as MySQL Connector"),
    ],
)
def test_percent_signs_are_doubled_where_the_driver_takes_them_for_its_own(wording: Wording, text: str) -> None:
    assert statement("a % 2 = :low AND b LIKE '5%'", wording).text == text


@pytest.mark.parametrize("paramstyle", ["format", "pyformat"])
def test_without_parameters_percent_signs_stay_as_drivers_then_do_not_look_for_them(paramstyle: str) -> None:
    sql = "a % 2 = 1 AND b LIKE ':low%'"

    assert statement(sql, Wording(paramstyle)) == Statement(sql, (), False)
