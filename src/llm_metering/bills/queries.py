"""What is asked about usage for a bill.

The questions are about all subjects, so that the bills of many share them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ..meters import CURRENCY, METERS, PRICED_METERS, MeterDefinition, UsageQuery, usage_query
from .bill import BillPeriod, first_moment
from .books import Part
from .plans import PlanCharge

__all__ = [
    "ALL_METERS",
    "EVENTS",
    "PROVENANCE",
    "charge_query",
    "events_query",
    "queries_of",
    "uncovered_query",
    "unknown_query",
]

EVENTS: Final = MeterDefinition(slug="events", aggregation="COUNT")
"""What is known of usage on days without a plan: how many events it is."""

PROVENANCE: Final = "provenance"
ALL_METERS: Final[Mapping[str, MeterDefinition]] = {**METERS, **PRICED_METERS}
"""The meters there are without any of the user's own."""

_CALLS: Final = METERS["calls_total"]


def queries_of(
    period: BillPeriod, parts: Sequence[Part], meters: Mapping[str, MeterDefinition]
) -> list[UsageQuery]:
    """What has to be asked for a bill; of all subjects, so that bills share their questions.

    Args:
        period: The days of the bill.
        parts: The plans on them.
        meters: The meters there are, by slug.
    """
    found = [unknown_query(period), events_query(period)]
    for part in parts:
        if part.plan is None:
            found.append(uncovered_query(part, period.time_zone))
            continue
        found += [
            charge_query(charge, part, period.time_zone, meters)
            for charge in part.plan.charges
            if charge.meter is not None
        ]
    return found


def charge_query(
    charge: PlanCharge, part: Part, zone: str, meters: Mapping[str, MeterDefinition]
) -> UsageQuery:
    """What a charge of a part of the period is about."""
    costs = () if charge.markup is None else (CURRENCY,)
    # Each key once: a plan may tell lines apart by these, too.
    keys = dict.fromkeys(("subject", *charge.group_by, PROVENANCE, *costs))
    return usage_query(
        charge.meter or "",
        start=first_moment(part.start, zone),
        end=first_moment(part.end, zone),
        group_by=tuple(keys),
        filters=dict(charge.filters),
        meters=meters,
    )


def uncovered_query(part: Part, zone: str) -> UsageQuery:
    """What was used in a part of the period without a plan."""
    return usage_query(
        EVENTS,
        start=first_moment(part.start, zone),
        end=first_moment(part.end, zone),
        group_by=("subject", "model"),
    )


def events_query(period: BillPeriod) -> UsageQuery:
    """How many events there are, to see whether all of them were priced."""
    return usage_query(EVENTS, start=period.first_moment, end=period.end_moment, group_by="subject")


def unknown_query(period: BillPeriod) -> UsageQuery:
    """Calls, by whether it is known what they used."""
    return usage_query(
        _CALLS,
        start=period.first_moment,
        end=period.end_moment,
        group_by=("subject", "model", PROVENANCE, "status"),
    )
