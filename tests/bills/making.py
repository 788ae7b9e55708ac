"""Plans, usage and bills for tests, of what a test is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from llm_metering.bills import (
    Answers,
    Bill,
    BillPeriod,
    Part,
    Plan,
    PlanCharge,
    make_bill,
    queries_of,
)
from llm_metering.meters import METERS, PRICED_METERS, MeterDefinition, UsageRow
from llm_metering.prices import Charge, PriceCard, Unpriced, cost_of, costed
from llm_metering.prices.costing import picos_of

NOVEMBER = (date(2026, 11, 1), date(2026, 12, 1))

METERS_HERE: Mapping[str, MeterDefinition] = {**PRICED_METERS, **METERS}
"""The built-in meters."""

Usage = tuple[Any, ...]
"""A value, where its count comes from, and the values of the keys of a charge."""


def plan(*charges: PlanCharge, **values: Any) -> Plan:
    """A plan from the first of the year on."""
    return Plan(
        **{
            "name": "pro",
            "effective_from": date(2026, 1, 1),
            "currency": "EUR",
            "charges": charges,
            **values,
        }
    )


def tokens(**values: Any) -> PlanCharge:
    """A charge for tokens."""
    return PlanCharge(**{"name": "Tokens", "meter": "tokens_total", **values})


def part(of: Plan | None, start: int = 1, end: int = 31) -> Part:
    """Days of November; the 31st is the end of the month."""
    until = date(2026, 11, end) if end <= 30 else date(2026, 12, 1)
    return Part(start=date(2026, 11, start), end=until, plan=of)


def bill(
    *parts: Part,
    usage: Sequence[Mapping[str, Iterable[Usage]]] = (),
    charges: Sequence[Charge] = (),
    credits: Sequence[Charge] = (),
    unknown: Iterable[tuple[str, str, str, int]] = (),
    late: int = 0,
    subject: str = "customer-42",
) -> Bill:
    """A bill of November.

    Args:
        *parts: Its parts.
        usage: Of each part, what was used by each charge's name.
        charges: What it cost.
        credits: How many credits it was.
        unknown: Calls by model, provenance and status.
        late: How many events were not priced.
        subject: Who pays.
    """
    period = BillPeriod(start=parts[0].start, end=parts[-1].end, time_zone="Europe/Berlin")
    rows: dict[Any, list[UsageRow]] = {}
    first, counted, *others = queries_of(period, parts, METERS_HERE)
    left = iter(others)
    rows[counted] = [row(counted, sum(charge.events for charge in charges) + late)]
    rows[first] = [
        row(first, value, model=model, provenance=provenance, status=status)
        for model, provenance, status, value in unknown
    ]
    for each, used in zip(parts, [*usage, *[{}] * len(parts)], strict=False):
        named = (
            [("", None)]
            if each.plan is None
            else [(one.name, one) for one in each.plan.charges if one.meter is not None]
        )
        for name, charge in named:
            query = next(left)
            rows[query] = [_row(query, charge, one) for one in used.get(name, ())]
    answers = Answers(rows=rows, charges=charges, credits=credits)
    return make_bill(subject, period, parts, answers, meters=METERS_HERE)


def _row(query: Any, charge: PlanCharge | None, used: Usage) -> UsageRow:
    value, provenance, *keys = used
    if charge is None:
        return row(query, value, model=provenance)
    named = dict(zip(charge.group_by, keys, strict=False))
    if charge.markup is not None:
        named["currency"] = keys[len(charge.group_by)] if keys[len(charge.group_by) :] else "EUR"
    return row(query, value, provenance=provenance, **named)


def row(query: Any, value: Any, **keys: Any) -> UsageRow:
    """A row of an answer."""
    return UsageRow(
        value=value,
        window_start=query.start,
        window_end=query.end,
        subject="customer-42",
        group_by=keys,
    )


def charged(
    model: str = "m",
    *,
    price: PriceCard | Unpriced | None = None,
    provider: str = "p",
    provenance: str = "reported",
    calls: int = 1,
    **quantities: int | Decimal,
) -> Charge:
    """What events of a model cost, by a card; by default a EUR for each million of input."""
    card = price or PriceCard.per_million(provider, model, {"input": "1"}, currency="EUR")
    picos = None
    if isinstance(card, PriceCard):
        found = picos_of(card, dict(quantities))
        assert isinstance(found, int)
        picos = found
    return Charge(
        subject="customer-42",
        provider=provider,
        model=model,
        provenance=provenance,
        price=card,
        quantities=quantities,
        picos=picos,
        calls=calls,
        events=calls,
    )


__all__ = [
    "METERS_HERE",
    "NOVEMBER",
    "bill",
    "charged",
    "cost_of",
    "costed",
    "part",
    "plan",
    "row",
    "tokens",
]
