"""Moments that come again."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_metering.errors import InvalidArgumentError
from llm_metering.limits import Recurrence

ZONES = ("UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Kolkata", "Australia/Lord_Howe")
MOMENTS = st.datetimes(
    min_value=datetime(1990, 1, 1), max_value=datetime(2060, 1, 1), timezones=st.just(UTC)
)


def every(interval, anchor, zone="UTC"):
    return Recurrence(interval=interval, anchor=anchor, time_zone=zone)


@pytest.mark.parametrize(
    ("interval", "anchor", "zone", "expected"),
    [
        ("MONTH", (2026, 1, 31), "UTC", ["2026-02-28T00", "2026-03-31T00", "2026-04-30T00"]),
        ("YEAR", (2024, 2, 29), "UTC", ["2025-02-28T00", "2026-02-28T00", "2027-02-28T00"]),
        ("MONTH", (2026, 3, 1), "UTC", ["2026-04-01T00", "2026-05-01T00", "2026-06-01T00"]),
        ("WEEK", (2026, 3, 1), "UTC", ["2026-03-08T00", "2026-03-15T00", "2026-03-22T00"]),
        # Berlin changed its clocks on 29 March 2026: a day has 23 hours then, hours go on.
        (
            "DAY",
            (2026, 3, 27, 23),
            "Europe/Berlin",
            ["2026-03-28T23", "2026-03-29T22", "2026-03-30T22"],
        ),
        (
            "HOUR",
            (2026, 3, 29),
            "Europe/Berlin",
            ["2026-03-29T01", "2026-03-29T02", "2026-03-29T03"],
        ),
        (
            "MONTH",
            (2026, 2, 28, 23),
            "Europe/Berlin",
            ["2026-03-31T22", "2026-04-30T22", "2026-05-31T22"],
        ),
    ],
)
def test_each_is_reckoned_from_the_anchor(interval, anchor, zone, expected):
    found = every(interval, datetime(*anchor, tzinfo=UTC), zone)
    assert [f"{found.occurrence(number):%Y-%m-%dT%H}" for number in (1, 2, 3)] == expected
    assert found.occurrence(0) == found.anchor


@given(
    interval=st.sampled_from(["HOUR", "DAY", "WEEK", "MONTH", "YEAR"]),
    anchor=MOMENTS,
    moment=MOMENTS,
    zone=st.sampled_from(ZONES),
)
def test_the_next_and_the_last_are_beside_each_other(interval, anchor, moment, zone):
    """Whatever the anchor, also one that is still to come; and nothing is between them."""
    found = every(interval, anchor, zone)
    last, after = found.last_until(moment), found.next_after(moment)
    assert last <= moment < after
    assert found.next_after(last) == after
    assert found.last_until(after) == after
    assert found.last_until(after - timedelta(microseconds=1)) == last


def test_what_is_no_recurrence_is_refused():
    good = datetime(2026, 1, 1, tzinfo=UTC)
    for interval, anchor, zone, named in (
        ("DECADE", good, "UTC", "interval is one of HOUR, DAY"),
        ("DAY", good.replace(tzinfo=None), "UTC", "needs a time zone"),
        ("DAY", good.replace(year=9995), "UTC", "from 1970"),
        ("DAY", good, "Mars/Olympus", "such as Europe/Berlin"),
        ("DAY", good, "../etc", "such as Europe/Berlin"),
    ):
        with pytest.raises(InvalidArgumentError, match=named):
            every(interval, anchor, zone)


def test_an_anchor_of_any_zone_is_the_same_moment():
    anchor = datetime(2026, 1, 31, 2, tzinfo=timezone(timedelta(hours=5)))
    assert every("MONTH", anchor).occurrence(1) == datetime(2026, 2, 28, 21, tzinfo=UTC)
