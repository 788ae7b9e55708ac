"""How a balance came to what it is, and when it will be used up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_metering.limits import (
    FEATURES,
    Balance,
    Feature,
    GrantBalance,
    Point,
    Recurrence,
    burn_down,
    burn_down_query,
)
from llm_metering.meters import UsageRow

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def grant(amount=1000, since=NOW - timedelta(days=10), **changes):
    """A grant."""
    return GrantBalance(
        **{
            "id": "g",
            "amount": amount,
            "left": 0,
            "priority": 100,
            "created_at": since,
            "effective_at": since,
            "expires_at": None,
            "voided_at": None,
            "recurrence": None,
            "min_rollover": 0,
            "max_rollover": 0,
        }
        | changes
    )


def balance(available=500, grants=(), resets_at=None, **changes):
    """A balance now."""
    return Balance(
        **{
            "subject": "acme",
            "feature": "tokens",
            "unit": "tokens",
            "granted": 1000,
            "used": 500,
            "reserved": 0,
            "available": available,
            "overage": 0,
            "is_soft_limit": False,
            "resets_at": resets_at,
            "as_of": NOW,
            "grants": tuple(grants) or (grant(),),
        }
        | changes
    )


def row(ago, value, length=HOUR):
    """Usage of a window that began so long ago."""
    start = NOW - ago
    return UsageRow(value=value, window_start=start, window_end=start + length)


def monthly(day=1):
    """All there again on the first of each month."""
    return Recurrence(interval="MONTH", anchor=datetime(2026, 1, day, tzinfo=UTC))


def test_it_is_worked_out_backwards_from_what_is_left():
    """Straight within a window, since nobody knows when in it."""
    found = burn_down(balance(), [row(3 * HOUR, 200), row(8 * HOUR, 300)])
    assert found.points == (
        Point(moment=NOW - timedelta(days=10), left=1000),
        Point(moment=NOW - 8 * HOUR, left=1000),
        Point(moment=NOW - 7 * HOUR, left=700),
        Point(moment=NOW - 3 * HOUR, left=700),
        Point(moment=NOW - 2 * HOUR, left=500),
        Point(moment=NOW, left=500),
    )


def test_a_grant_that_began_meanwhile_is_a_step():
    """What it brought was not there before."""
    early, late = grant(100), grant(900, NOW - 2 * HOUR, id="h")
    found = burn_down(balance(950, [early, late]), [row(HOUR, 50)])
    assert [(point.moment, point.left) for point in found.points] == [
        (NOW - timedelta(days=10), 100),
        (NOW - 2 * HOUR, 100),
        (NOW - 2 * HOUR, 1000),
        (NOW - HOUR, 1000),
        (NOW, 950),
    ]


@pytest.mark.parametrize(
    ("grants", "start"),
    [
        ([grant(since=NOW - timedelta(days=3))], NOW - timedelta(days=3)),
        ([grant(since=NOW - timedelta(days=300))], NOW - timedelta(days=30)),
        (
            [grant(since=NOW - timedelta(days=300), recurrence=monthly())],
            datetime(2026, 11, 1, tzinfo=UTC),
        ),
        (
            [grant(), grant(since=NOW - timedelta(days=50), recurrence=monthly(20), id="h")],
            datetime(2026, 11, 20, tzinfo=UTC),
        ),
        ([grant(since=NOW + timedelta(days=3))], NOW),
    ],
    ids=["new", "old", "monthly", "both", "to come"],
)
def test_it_begins_where_the_present_story_does(grants, start):
    """At the last renewal; with the first grant; and not before a month ago."""
    one = balance(grants=grants)
    assert burn_down_query(one, FEATURES["tokens"]).start == start
    assert burn_down(one, []).points[0].moment == start


def test_the_ledger_is_asked_for_what_the_balance_counts():
    """Of its models alone, in its currency."""
    feature = Feature(key="cheap", unit="money", currency="EUR", models=("a", "b"))
    query = burn_down_query(balance(feature="cheap", unit="EUR"), feature)
    assert query.meter.slug == "cost_total"
    assert dict(query.filters) == {"model": ("a", "b"), "currency": ("EUR",)}
    assert (query.subjects, query.window, query.end) == (("acme",), "DAY", NOW)
    young = balance(grants=[grant(since=NOW - timedelta(days=2))])
    assert burn_down_query(young, FEATURES["tokens"]).window == "HOUR"
    assert burn_down_query(young, FEATURES["credits"]).meter.slug == "credits_total"


def test_it_is_used_up_when_the_rate_of_late_says_so():
    """Of the last seven days; what was used before is no longer the rate."""
    rows = [row(timedelta(days=9), 10_000), row(timedelta(days=2), 168)]
    found = burn_down(balance(50), rows)
    assert found.rate == 1
    assert found.exhausted_at == NOW + timedelta(hours=50)
    assert not found.is_enough


@pytest.mark.parametrize(
    ("one", "rows", "ends", "enough"),
    [
        (balance(500, resets_at=NOW + timedelta(hours=499)), [row(HOUR, 168)], None, True),
        (
            balance(500, resets_at=NOW + timedelta(hours=501)),
            [row(HOUR, 168)],
            NOW + timedelta(hours=500),
            False,
        ),
        (balance(0), [row(HOUR, 168)], NOW, False),
        (balance(500), [], None, True),
        (balance(0), [], None, False),
        (balance(500, [grant(since=NOW - timedelta(minutes=30))]), [row(HOUR, 9)], None, True),
        (balance(10**30), [row(HOUR, 1)], None, True),
    ],
    ids=["renews first", "renews late", "used up", "unused", "nothing", "too new", "for ages"],
)
def test_whether_it_is_enough(one, rows, ends, enough):
    """Until it renews, or for ever."""
    found = burn_down(one, rows)
    assert (found.exhausted_at, found.is_enough) == (ends, enough)


AMOUNTS = st.integers(0, 10**12) | st.decimals(0, 10**6, places=12)


@given(
    st.lists(st.tuples(st.integers(1, 9 * 24), AMOUNTS), max_size=20),
    st.lists(st.tuples(st.integers(0, 9 * 24 * 60), st.integers(1, 10**9)), max_size=3),
    AMOUNTS,
)
def test_its_ends_are_what_was_used(used, granted, left):
    """Exactly, whatever the numbers: what there was is what is left and what was used, but for later grants."""
    rows = [row(hours * HOUR, value) for hours, value in used]
    later = [
        grant(amount, NOW - timedelta(minutes=ago), id=str(place))
        for place, (ago, amount) in enumerate(granted)
    ]
    found = burn_down(balance(left, [grant(), *later]), rows)
    moments = [point.moment for point in found.points]
    assert moments == sorted(moments)
    assert found.points[-1] == Point(moment=NOW, left=left)
    total = sum((Decimal(value) for _, value in used), Decimal(0))
    assert found.points[0].left - left == total - sum(amount for _, amount in granted)


def test_it_can_be_drawn():
    """With what is to come, dashed; in a notebook and on a page."""
    found = burn_down(balance(50), [row(2 * HOUR, 168)])
    spec = found.plot().to_dict()
    before, after = spec["layer"]
    assert before["data"]["values"][-1]["left"] == after["data"]["values"][0]["left"] == 50
    assert after["data"]["values"][-1]["left"] == 0
    assert after["mark"]["strokeDash"]
    assert spec["title"]["text"] == "tokens left of acme"
    assert "<svg" in found.plot()._repr_mimebundle_()["image/svg+xml"]
    assert len(burn_down(balance(0), []).plot().to_dict()["layer"]) == 1
