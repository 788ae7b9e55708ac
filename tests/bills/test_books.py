"""Who is on which plan when."""

from __future__ import annotations

from datetime import date, timedelta
from zoneinfo import ZoneInfo

import pytest

from llm_metering.bills import Assignment, BillPeriod, Part, PlanBook
from llm_metering.errors import BillError

from .making import NOVEMBER, plan

OLD = plan(name="payg")
PRO = plan(name="pro")
PRO_2 = plan(name="pro", effective_from=date(2026, 11, 20))
PRO_3 = plan(name="pro", effective_from=date(2026, 12, 1))


def day(number):
    """A day of November; the 31st is the first of December."""
    return NOVEMBER[0] + timedelta(days=number - 1)


def on(of, start, end=None, subject="c"):
    return Assignment(subject=subject, plan=of, start=start, end=end)


@pytest.mark.parametrize(
    ("rows", "default", "expected"),
    [
        pytest.param([], "payg", [(1, 31, OLD)], id="default"),
        pytest.param(
            [on("pro", date(2026, 1, 1))], None, [(1, 20, PRO), (20, 31, PRO_2)], id="versions"
        ),
        pytest.param(
            [on("pro", day(15))],
            "payg",
            [(1, 15, OLD), (15, 20, PRO), (20, 31, PRO_2)],
            id="default before",
        ),
        pytest.param(
            [on("pro", day(5), day(9))],
            "payg",
            [(1, 5, OLD), (5, 9, PRO), (9, 31, OLD)],
            id="default around",
        ),
        pytest.param(
            [on("pro", day(15))],
            None,
            [(1, 15, None), (15, 20, PRO), (20, 31, PRO_2)],
            id="nothing before",
        ),
        pytest.param(
            [on("payg", day(20)), on("pro", day(5))],
            None,
            [(1, 5, None), (5, 20, PRO), (20, 31, OLD)],
            id="until the next, in any order",
        ),
        pytest.param(
            [on("pro", day(5), day(9)), on("payg", day(12))],
            None,
            [(1, 5, None), (5, 9, PRO), (9, 12, None), (12, 31, OLD)],
            id="a gap",
        ),
        pytest.param(
            [on("pro", day(5), subject="other")], "payg", [(1, 31, OLD)], id="somebody else"
        ),
        pytest.param(
            [on("pro", date(2026, 2, 1), day(1))], "payg", [(1, 31, OLD)], id="ended before"
        ),
    ],
)
def test_a_month_has_its_parts(rows, default, expected):
    """Every day of a month is in one part, with the version that holds on it."""
    book = PlanBook(plans=(PRO_3, PRO, OLD, PRO_2), assignments=tuple(rows), default_plan=default)

    parts = book.parts("c", *NOVEMBER)

    assert parts == tuple(
        Part(start=day(start), end=day(end), plan=of) for start, end, of in expected
    )


def test_who_is_on_no_plan_cannot_be_billed():
    """Without an assignment and a default plan, nobody knows whose months count."""
    with pytest.raises(BillError, match="stranger is on no plan, so it cannot be billed; give it"):
        PlanBook(plans=(PRO,)).time_zone_of("stranger")


@pytest.mark.parametrize(
    ("zone", "hours"),
    [
        pytest.param("UTC", 744, id="UTC"),
        pytest.param("Europe/Berlin", 745, id="an hour more"),
        pytest.param("Asia/Tokyo", 744, id="elsewhere"),
        pytest.param("Pacific/Kiritimati", 744, id="where it is tomorrow at noon"),
    ],
)
def test_days_are_those_of_the_zone(zone, hours):
    """A month is as long as it is where its days are counted."""
    period = BillPeriod(start=date(2026, 10, 1), end=date(2026, 11, 1), time_zone=zone)

    assert (period.end_moment - period.first_moment).total_seconds() == hours * 3600
    local = period.first_moment.astimezone(ZoneInfo(zone))
    assert (local.day, local.hour, local.month) == (1, 0, 10)
