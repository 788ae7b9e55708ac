"""The ledger's file as the doctor sees it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from llm_metering.checkup.ledger import check_ledger
from llm_metering.ledger import Ledger
from llm_metering.ledger.intake import Intake
from llm_metering.ledger.intake_values import Omission, Stretch
from tests.factories import batch_of, make_event


def look(home, **how):
    """What is found, by check."""
    return {each.check: each for each in check_ledger(home, **{"is_on": True, **how})}


@pytest.fixture
def path(home):
    """A ledger with events, which nobody has open."""
    with closing(Ledger(home / "ledger.db")) as ledger:
        ledger.deliver(batch_of(make_event() for _ in range(500)))
    return home / "ledger.db"


def change(path, statement):
    """Change a ledger from outside, and leave no log of it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


def test_a_whole_ledger_is_well(home, path):
    """Its versions are said, and looking leaves no file behind."""
    found = look(home)

    assert {check: each.level for check, each in found.items()} == {
        "ledger.opens": "ok",
        "ledger.whole": "ok",
        "ledger.sums": "ok",
    }
    assert found["ledger.sums"].found == "they are what the events say"
    assert "schema 6, for writers of schema 1 and later" in found["ledger.opens"].found
    assert list(home.iterdir()) == [path]


def test_a_ledger_in_use_is_looked_at(home):
    """With the log that its writer has open, where all of a young ledger still is."""
    with closing(Ledger(home / "ledger.db")) as ledger:
        ledger.deliver(batch_of([make_event()]))
        found = look(home)

        assert found["ledger.whole"].level == "ok"
        assert "schema 6," in found["ledger.opens"].found
        assert ledger.deliver(batch_of([make_event()])).retryable == frozenset()


KEY, OTHER = b"k" * 32, b"o" * 32


@pytest.mark.parametrize(
    ("signed", "keys", "level"),
    [
        ((), (), None),
        ((), (KEY,), "ok"),
        ((KEY,), (KEY,), "ok"),
        ((KEY,), (OTHER, KEY), "ok"),
        ((KEY,), (OTHER,), "failure"),
        ((KEY,), (), "failure"),
    ],
)
def test_who_has_no_key_for_a_signed_ledger_is_told(home, signed, keys, level):
    """Before anything is recorded that then waits."""
    with closing(Ledger(home / "ledger.db", keys=signed)) as ledger:
        ledger.deliver(batch_of([make_event()]))

    found = look(home, keys=keys).get("ledger.keys")

    assert (None if found is None else found.level) == level


@pytest.mark.parametrize(
    "how",
    [pytest.param({"is_on": False}, id="switched off"), pytest.param({}, id="not there yet")],
)
def test_no_ledger_is_no_trouble(home, how):
    """And none is made."""
    assert [each.level for each in look(home, **how).values()] == ["ok"]
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        pytest.param("UPDATE meta SET value = 9", "newer llm-metering", id="newer"),
        pytest.param("PRAGMA user_version = 0", "another application's", id="somebody else's"),
    ],
)
def test_a_ledger_that_we_may_not_write_is_a_failure(home, path, statement, reason):
    """The reason says what to do."""
    change(path, statement)

    opens = look(home)["ledger.opens"]

    assert opens.level == "failure"
    assert reason in opens.found


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda path: path.write_bytes(b"x" * 8192), id="no database"),
        pytest.param(
            lambda path: path.write_bytes(path.read_bytes()[:8192] + b"x" * 65536), id="overwritten"
        ),
        pytest.param(lambda path: (path.unlink(), path.mkdir()), id="a folder"),
    ],
)
def test_damage_is_a_failure(home, path, spoil):
    """Whether it keeps the file from being opened or is found by looking through it."""
    spoil(path)

    assert "failure" in [each.level for each in look(home).values()]


def test_a_ledger_that_takes_too_long_is_not_waited_for(home, path):
    """What was not looked at is not called whole."""
    whole = look(home, limit=-1.0)["ledger.whole"]

    assert whole.level == "warning"
    assert "not through" in whole.found


@pytest.mark.parametrize(
    ("kinds", "days", "found"),
    [
        pytest.param(["refused"], 6, "were refused", id="refused"),
        pytest.param(["refused", "lost"], 6, "were deleted before they were read", id="lost"),
        pytest.param(["anew"], 6, "the topic was made anew", id="anew"),
        pytest.param(["refused", "lost", "anew"], 8, None, id="long ago"),
    ],
)
def test_what_was_passed_over_in_a_topic_is_a_warning_for_a_week(home, kinds, days, found):
    """A loss says so before a record that is refused does."""
    omissions = [
        Omission(kind=kind, first=number, end=number + 1, records=1, reason="why")
        for number, kind in enumerate(kinds)
    ]
    stretch = Stretch(partition=0, expected=None, next_offset=9, omissions=omissions)
    with closing(Intake(home / "ledger.db")) as intake:
        intake.commit("c", "t", [stretch], now=datetime.now(UTC) - timedelta(days=days))

    shown = look(home).get("ledger.ingested")

    assert (shown.level if shown else None) == ("warning" if found else None)
    assert found is None or found in shown.found


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("UPDATE recent SET total_tokens = 7 WHERE place = 3", id="what is recent"),
        pytest.param("DELETE FROM recent WHERE place = 3", id="an event that is not counted"),
        pytest.param(
            "INSERT INTO kind_days VALUES (0, 1, 9, 9, 9, 0, 0, 0, 1, 1, 0, 0)", id="a rollup"
        ),
    ],
)
def test_sums_that_are_not_those_of_the_events_are_a_failure(home, path, statement):
    """Whatever made them so."""
    change(path, statement)

    assert look(home)["ledger.sums"].level == "failure"


def test_sums_are_counted_again_as_far_as_there_is_time(home, path):
    """No time is no failure: it says so."""
    found = look(home, limit=0.0)

    assert {each.level for each in found.values()} == {"ok", "warning"}
    assert "ledger.sums" not in found
