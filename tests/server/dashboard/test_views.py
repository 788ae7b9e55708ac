"""What an address says is to be shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_metering.server.dashboard.views import PERIODS, Defaults, read_view
from llm_metering.server.problems import Refusal

NOW = datetime(2026, 11, 21, 12, 34, 56, tzinfo=UTC)


def view(defaults=None, now=NOW, /, **parameters):
    """The view of some parameters; `from_` is `from`."""
    pairs = [
        (name.rstrip("_"), each)
        for name, value in parameters.items()
        for each in (value if isinstance(value, list) else [value])
    ]
    return read_view(pairs, defaults or Defaults(), now)


@pytest.mark.parametrize(
    ("period", "start", "end", "window"),
    [
        ("24h", "2026-11-20T13:00", "2026-11-21T13:00", "HOUR"),
        ("7d", "2026-11-15T00:00", "2026-11-22T00:00", "DAY"),
        ("30d", "2026-10-23T00:00", "2026-11-22T00:00", "DAY"),
        ("month", "2026-11-01T00:00", "2026-12-01T00:00", "DAY"),
        ("last-month", "2026-10-01T00:00", "2026-11-01T00:00", "DAY"),
        ("12mo", "2025-12-01T00:00", "2026-12-01T00:00", "MONTH"),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu"])
def test_periods_end_with_the_window_that_is_under_way(period, start, end, window, zone):
    """In whole windows of the reader's zone."""
    clocks = ZoneInfo(zone)
    now = datetime(2026, 11, 21, 12, 34, 56, tzinfo=clocks)
    found = view(None, now, period=period, windowTimeZone=zone)
    assert (found.start, found.end) == tuple(
        datetime.fromisoformat(each).replace(tzinfo=clocks) for each in (start, end)
    )
    assert (found.window, found.period) == (window, period)


def test_a_week_in_which_clocks_change_is_seven_days():
    """Not 168 hours."""
    now = datetime(2026, 10, 27, 12, tzinfo=UTC)
    found = view(None, now, period="7d", windowTimeZone="Europe/Berlin")
    assert found.end - found.start == timedelta(hours=169)


@pytest.mark.parametrize(
    ("parameters", "start", "end"),
    [
        ({"period": "month"}, (10, 1, 0), (10, 21, 12)),
        ({"period": "last-month"}, (9, 1, 0), (10, 1, 0)),
        ({"period": "7d"}, (11, 8, 0), (11, 14, 12)),
        ({"from_": "2026-11-10", "to": "2026-11-12"}, (11, 8, 0), (11, 10, 0)),
    ],
    ids=["month", "last month", "week", "named"],
)
def test_what_is_under_way_is_compared_with_as_much_of_the_time_before(parameters, start, end):
    """Half a month with half a month."""
    before = view(None, NOW.replace(minute=0, second=0), **parameters).before
    assert before == tuple(datetime(2026, m, d, h, tzinfo=UTC) for m, d, h in (start, end))


def test_times_without_an_offset_are_of_the_zone():
    """Others are what they say."""
    found = view(from_="2026-11-01T00:00", to="2026-11-02T00:00Z", windowTimeZone="Asia/Tokyo")
    assert found.start == datetime(2026, 10, 31, 15, tzinfo=UTC)
    assert found.end == datetime(2026, 11, 2, tzinfo=UTC)
    assert found.period == "custom"


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"period": "1h"}, "period is one of"),
        ({"windowSize": "WEEK"}, "windowSize is one of"),
        ({"windowSize": "MINUTE", "period": "30d"}, "choose longer ones"),
        ({"windowTimeZone": "Europe/Berln"}, "Europe/Berlin"),
        ({"from_": "yesterday"}, "from is a time"),
        ({"from_": "2026-11-02", "to": "2026-11-01"}, "begins at its end"),
        ({"from_": "0001-01-01T00:00+14:00"}, "from is a time"),
        ({"meter": ["a", "b"]}, "comes twice"),
        ({"color": "red"}, "no parameter color"),
        ({"value": "x"}, "choose what"),
        ({"subject": ["x"] * 101}, "at most 100"),
        ({"subject": "x" * 3000}, "too long"),
    ],
    ids=lambda each: str(each)[:40],
)
def test_what_makes_no_sense_is_refused(parameters, words):
    """In words for who sees the page."""
    with pytest.raises(Refusal) as caught:
        view(**parameters)
    assert caught.value.status == 400
    assert words in caught.value.detail


def test_a_customer_chooses_no_subject():
    """Whatever the address says."""
    mine = Defaults(of_subjects=("acme",))
    assert view(mine).subjects == ("acme",)
    with pytest.raises(Refusal, match="no parameter subject"):
        view(mine, subject="globex")


def test_a_condition_of_the_form_is_one_of_the_address():
    """And is kept by the links of the page."""
    found = view(key="model", value="gpt-5", groupBy="none")
    assert found.filters == {"model": ("gpt-5",)}
    assert found.group_by == ""
    link = found.link("/usage.csv")
    assert dict(parse_qsl(urlsplit(link).query)) == {
        "filterGroupBy[model]": "gpt-5",
        "groupBy": "none",
    }
    assert found.without("/", "filterGroupBy[model]") == "/?groupBy=none"
    other = view(meter="tokens_input", subject="acme").only(
        "/", "status", "failed", meter="calls_total"
    )
    assert dict(parse_qsl(urlsplit(other).query)) == {
        "subject": "acme",
        "filterGroupBy[status]": "failed",
        "meter": "calls_total",
    }


TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


@given(
    st.sampled_from(sorted(PERIODS)),
    st.sampled_from(["none", "subject", "model", "provider"]),
    st.lists(TEXTS, max_size=3, unique=True),
    st.dictionaries(st.sampled_from(["model", "provider"]), TEXTS, max_size=2),
    st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Apia"]),
)
def test_an_address_shows_everybody_the_same(period, group, subjects, filters, zone):
    """What a link says is what was shown where it was made."""
    pairs = [("period", period), ("groupBy", group), ("windowTimeZone", zone)]
    pairs += [("subject", each) for each in subjects]
    pairs += [(f"filterGroupBy[{key}]", value) for key, value in filters.items()]
    first = read_view(pairs, Defaults(), NOW)
    query = urlsplit(first.link("/")).query
    again = read_view(parse_qsl(query, keep_blank_values=True), Defaults(), NOW)
    assert again == first
    one = read_view(parse_qsl(urlsplit(first.only("/", "model", "x&y=z")).query), Defaults(), NOW)
    assert one.filters["model"] == ("x&y=z",)
