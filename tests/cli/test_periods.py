"""Moments and windows as people write and read them."""

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from llm_metering.cli.periods import FORMS, moment_of
from llm_metering.errors import QueryError
from llm_metering.meters.labels import window_label

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 21, 23, 30, 15, tzinfo=UTC)  # the 22nd in Berlin


@pytest.mark.parametrize(
    ("text", "zone", "moment"),
    [
        pytest.param("2026-11-21", UTC, "2026-11-21T00:00:00+00:00", id="day"),
        pytest.param("2026-11-21", BERLIN, "2026-11-20T23:00:00+00:00", id="day there"),
        pytest.param("2026-07", BERLIN, "2026-06-30T22:00:00+00:00", id="month in summer"),
        pytest.param("2026-11-21T20:00:00+01:00", BERLIN, "2026-11-21T19:00:00+00:00", id="ISO"),
        pytest.param("now", BERLIN, NOW.isoformat(), id="now"),
        pytest.param("today", UTC, "2026-11-21T00:00:00+00:00", id="today"),
        pytest.param("today", BERLIN, "2026-11-21T23:00:00+00:00", id="today there"),
        pytest.param("yesterday", BERLIN, "2026-11-20T23:00:00+00:00", id="yesterday"),
        pytest.param("-0d", UTC, "2026-11-21T00:00:00+00:00", id="no days"),
        pytest.param("-7d", UTC, "2026-11-14T00:00:00+00:00", id="whole days"),
        pytest.param("-28d", BERLIN, "2026-10-24T22:00:00+00:00", id="days before winter time"),
        pytest.param("-24h", UTC, "2026-11-20T23:30:00+00:00", id="hours, from a minute on"),
        pytest.param("-30m", BERLIN, "2026-11-21T23:00:00+00:00", id="minutes"),
        # In Beirut clocks went from 23:59 to 1:00.
        pytest.param(
            "2026-03-29", ZoneInfo("Asia/Beirut"), "2026-03-28T22:00:00+00:00", id="no midnight"
        ),
    ],
)
def test_moments(text, zone, moment):
    """A day, a month and a number of days are their first moment in the zone that was asked for."""
    assert moment_of("--from", text, zone, NOW) == datetime.fromisoformat(moment)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("noon", id="word"),
        pytest.param("", id="nothing"),
        pytest.param("2026-11-21T20:00:00", id="no offset"),
        pytest.param("2026-02-30", id="no such day"),
        pytest.param("2026-13", id="no such month"),
        pytest.param("0000-01", id="no such year"),
        pytest.param("2026", id="year"),
        pytest.param("24h", id="no sign"),
        pytest.param("-24H", id="capitals"),
        pytest.param("-1w", id="weeks"),
        pytest.param("-999999999d", id="before the calendar"),
        pytest.param("0001-01-01", id="before the calendar in UTC"),
        pytest.param("\u0662026-11-21", id="other digits"),
    ],
)
def test_what_is_no_moment_is_refused(text):
    """An error names the option, the value and every form there is."""
    with pytest.raises(QueryError, match=re.escape(f"--from {text!r} is no moment")) as caught:
        moment_of("--from", text, ZoneInfo("Asia/Tokyo"), NOW)

    assert FORMS in str(caught.value)


def test_no_moment_stays_none():
    """An option that was not given is no moment."""
    assert moment_of("--to", None, UTC, NOW) is None


@pytest.mark.parametrize(
    ("start", "window", "label", "short"),
    [
        pytest.param("2026-10-31T23:00:00Z", "MONTH", "2026-11", "2026-11", id="month"),
        pytest.param("2026-11-20T23:00:00Z", "DAY", "2026-11-21", "11-21", id="day"),
        pytest.param("2026-11-21T12:00:00Z", "HOUR", "2026-11-21 13:00", "11-21 13:00", id="hour"),
        pytest.param(
            "2026-10-25T00:00:00Z",
            "HOUR",
            "2026-10-25 02:00 +0200",
            "10-25 02:00 +0200",
            id="first",
        ),
        pytest.param(
            "2026-10-25T01:00:00Z",
            "HOUR",
            "2026-10-25 02:00 +0100",
            "10-25 02:00 +0100",
            id="again",
        ),
        pytest.param(
            "2026-10-25T02:00:00Z", "HOUR", "2026-10-25 03:00", "10-25 03:00", id="afterwards"
        ),
        pytest.param(
            "2026-10-25T00:59:00Z",
            "MINUTE",
            "2026-10-25 02:59 +0200",
            "10-25 02:59 +0200",
            id="minute",
        ),
    ],
)
def test_labels_of_windows(start, window, label, short):
    """Windows are named as clocks there show them; an hour that they show twice has its offset."""
    moment = datetime.fromisoformat(start)

    assert window_label(moment, window, BERLIN) == label
    assert window_label(moment, window, BERLIN, short=True) == short
