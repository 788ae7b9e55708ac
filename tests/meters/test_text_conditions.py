"""Conditions on a text: what OpenMeter's `FilterString` says fits, and what it refuses."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_metering.errors import QueryError
from llm_metering.meters.text_conditions import listed_texts, text_test

texts = st.text("ab%_\\", max_size=8)


@pytest.mark.parametrize(
    ("condition", "fitting"),
    [
        pytest.param({}, {"", "a", "A", "b"}, id="none"),
        pytest.param({"$eq": "a", "$ne": None}, {"a"}, id="a null beside it"),
        pytest.param({"$ne": "a"}, {"", "A", "b"}, id="ne"),
        pytest.param({"$in": ["a", "b"]}, {"a", "b"}, id="in"),
        pytest.param({"$in": []}, set(), id="in nothing"),
        pytest.param({"$nin": ["a", "b"]}, {"", "A"}, id="nin"),
        pytest.param({"$lt": "\x01"}, {""}, id="what lacks it"),
        pytest.param({"$gt": "A"}, {"a", "b"}, id="gt"),
        pytest.param({"$gte": "a"}, {"a", "b"}, id="gte"),
        pytest.param({"$lte": "A"}, {"", "A"}, id="lte"),
        pytest.param({"$like": "a%"}, {"a"}, id="like"),
        pytest.param({"$nlike": "a"}, {"", "A", "b"}, id="nlike"),
        pytest.param({"$ilike": "_"}, {"a", "A", "b"}, id="ilike"),
        pytest.param({"$nilike": "A"}, {"", "b"}, id="nilike"),
        pytest.param({"$and": [{"$gt": "A"}, {"$ne": "b"}]}, {"a"}, id="and"),
        pytest.param({"$or": [{"$eq": "A"}, {"$eq": "b"}]}, {"A", "b"}, id="or"),
    ],
)
def test_what_fits_a_condition(condition, fitting):
    """Of texts, of which the empty one stands for none."""
    test = text_test(condition)
    assert {text for text in ("", "a", "A", "b") if test(text)} == fitting
    listed = listed_texts(condition)
    assert listed is None or set(listed) == fitting


@pytest.mark.parametrize(
    "condition",
    [
        *([], "a", None, {"$eq": ""}, {"$eq": 1}, {"$in": "a"}, {"$in": [""]}, {"$between": "a"}),
        *({"$eq": "a", "$ne": "b"}, {"$and": {}}, {"$contains": "a"}, {"$like": 5}),
        {"$and": [{"$or": [{"$eq": "a"}]}]},
    ],
    ids=str,
)
def test_what_is_no_condition_is_refused(condition):
    """Also where it lies too deep."""
    with pytest.raises(QueryError):
        text_test(condition)


@given(pattern=texts.filter(bool), value=texts)
def test_patterns_are_those_of_sql(pattern, value):
    """As SQLite has them, which knows an escape where it is named; ours takes a lone one as it is."""
    escaped = ""
    at = 0
    while at < len(pattern):
        pair = pattern[at : at + 2]
        if pair in ("\\%", "\\_", "\\\\"):
            escaped += pair
            at += 2
        else:
            escaped += "\\\\" if pattern[at] == "\\" else pattern[at]
            at += 1
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("PRAGMA case_sensitive_like = 1")
        [(fits,)] = connection.execute("SELECT ? LIKE ? ESCAPE '\\'", (value, escaped)).fetchall()
    assert text_test({"$like": pattern})(value) == bool(fits)


def test_a_hostile_pattern_takes_no_longer_than_it_is_long():
    """As a regular expression this one would not end."""
    assert not text_test({"$like": "%a" * 500 + "b"})("a" * 5000)
