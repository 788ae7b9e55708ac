"""A bill made of plans and usage: a pure function."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import msgspec

from ..errors import BillError
from ..meters import MeterDefinition, UsageQuery, UsageRow
from ..prices import MINOR_UNITS, Charge
from .beside import Unbilled, UnknownUsage, UnpricedUsage
from .bill import Bill, BillLine, BillPeriod
from .books import Part, versions_used
from .charging import Charging, exact_of, share_of
from .costs import cost_lines, margin_of, unpriced_usage
from .plans import CREDITS_METER, Plan, PlanCharge
from .queries import ALL_METERS, PROVENANCE, events_query, unknown_query
from .rounding import allotted, decimal_of, money, rounded

__all__ = ["Answers", "make_bill"]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What is known of a subject's usage.

    Attributes:
        rows: The rows of the subject, by question; a question of `queries_of` that is not there has
            none.
        charges: What its events cost in the period.
        credits: How many credits they were.
        price_version: The ledger's number of the prices.
    """

    rows: Mapping[UsageQuery, Sequence[UsageRow]] = field(default_factory=dict)
    charges: Sequence[Charge] = ()
    credits: Sequence[Charge] = ()
    price_version: int = 0


def make_bill(
    subject: str,
    period: BillPeriod,
    parts: Sequence[Part],
    answers: Answers,
    *,
    meters: Mapping[str, MeterDefinition] = ALL_METERS,
) -> Bill:
    """The bill of a subject.

    Args:
        subject: Who pays.
        period: The days of the bill.
        parts: The plans on them, which together are the period.
        answers: What was used.
        meters: The meters there are, by slug.

    Raises:
        BillError: If the subject is on no plan in the period, or on plans of several currencies.
    """
    plans = versions_used(parts)
    currency = _currency(subject, period, plans)
    digits = MINOR_UNITS[currency]
    making = Charging(answers.rows, zone=period.time_zone, meters=meters)
    for part in parts:
        making.add(part)
    amounts = [line.exact for line in making.lines]
    rounding = plans[-1].rounding
    units = rounded(sum(amounts), digits, rounding)
    lines = [
        msgspec.structs.replace(line, amount=money(amount, digits))
        for line, amount in zip(making.lines, allotted(amounts, units, digits), strict=True)
    ]
    least = rounded(sum(map(_minimum, parts)), digits, rounding)
    if least > units:
        lines.append(_up_to_minimum(period, plans[-1], least - units, digits))
        units = least
    events = int(sum(exact_of(row.value) for row in answers.rows.get(events_query(period), ())))
    unpriced = unpriced_usage(answers.charges, "cost", events)
    if CREDITS_METER in {charge.meter for plan in plans for charge in plan.charges}:
        unpriced += unpriced_usage(answers.credits, "credits", events)
    costs = cost_lines(answers.charges)
    total = money(units, digits)
    return Bill(
        subject=subject,
        period=period,
        currency=currency,
        lines=tuple(lines),
        total=total,
        incomplete=tuple(dict.fromkeys(_incomplete(parts, unpriced, making.unbilled))),
        unbilled=tuple(making.unbilled),
        costs=costs,
        unpriced=unpriced,
        unknown_usage=_unknown(answers.rows.get(unknown_query(period), ())),
        margin=margin_of(total, currency, costs, unpriced),
        price_version=answers.price_version,
    )


def _currency(subject: str, period: BillPeriod, plans: Sequence[Plan]) -> str:
    currencies = {plan.currency: plan for plan in plans}
    if not currencies:
        raise BillError(
            f"{subject} is on no plan from {period.start} to {period.end}, so it cannot be billed; "
            "give it a row of [[subjects]], or name a default_plan"
        )
    if len(currencies) > 1:
        named = ", ".join(f"{plan.name} in {currency}" for currency, plan in currencies.items())
        raise BillError(
            f"{subject} is on plans of several currencies from {period.start} to {period.end} "
            f"({named}); ask for a bill of the days before the change and one of those from it on"
        )
    return next(iter(currencies))


def _minimum(part: Part) -> Fraction:
    return Fraction(part.plan.minimum) * share_of(part) if part.plan else Fraction(0)


def _up_to_minimum(period: BillPeriod, plan: Plan, units: int, digits: int) -> BillLine:
    return BillLine(
        kind="minimum",
        name="Minimum",
        plan=plan.name,
        plan_from=plan.effective_from,
        start=period.start,
        end=period.end,
        exact=Fraction(units, 10**digits),
        amount=money(units, digits),
    )


def _unknown(rows: Sequence[UsageRow]) -> tuple[UnknownUsage, ...]:
    found = [
        UnknownUsage(
            model=row.group_by.get("model"),
            provenance=row.group_by.get(PROVENANCE),
            status=row.group_by.get("status"),
            calls=decimal_of(exact_of(row.value)),
        )
        for row in rows
        if row.group_by.get(PROVENANCE) == "missing" or row.group_by.get("status") == "interrupted"
    ]
    return tuple(
        sorted(found, key=lambda each: (each.model or "", each.provenance or "", each.status or ""))
    )


def _incomplete(
    parts: Sequence[Part], unpriced: Sequence[UnpricedUsage], unbilled: Sequence[Unbilled]
) -> Iterator[str]:
    plans = [part.plan.charges if part.plan else () for part in parts]
    charges = dict.fromkeys(charge for each in plans for charge in each)
    for of, kind in (("cost", "a markup on what it cost"), ("credits", "its credits")):
        for charge in charges:
            fits = charge.meter == CREDITS_METER if of == "credits" else charge.markup is not None
            missing = [each for each in unpriced if each.of == of and _is_in(charge, each)]
            if fits and missing:
                events = sum(each.events for each in missing)
                # Which days they are of is not known here, and the charge may hold on some alone.
                always = all(charge in each for each in plans)
                named = f"{events} event{'s'[: events != 1]}{'' if always else ' of the period'}"
                which = f"{'it is' if events == 1 else 'they are'} not charged"
                if not always:
                    which = "those on the days with this charge are not charged"
                yield f"{charge.name} is {kind}, and of {named} nobody knows that; {which}"
    if unbilled:
        yield "some usage is on no line"


def _is_in(charge: PlanCharge, usage: UnpricedUsage) -> bool:
    """Whether a charge may be about it: of keys that are not known of it, it is assumed."""
    known = {"provider": usage.provider, "model": usage.model, PROVENANCE: usage.provenance}
    if usage.why.reason == "not_priced":
        return True
    return all((known[key] or "") in values for key, values in charge.filters if key in known)
