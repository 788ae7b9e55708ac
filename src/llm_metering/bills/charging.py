"""The lines of a bill before they are rounded, and usage that is on none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

from ..meters import CURRENCY, MeterDefinition, UsageQuery, UsageRow
from .amounts import PROVENANCES, Segment, allowance_of, segments_of
from .beside import Unbilled, UnbilledReason
from .bill import BillLine
from .books import Part
from .plans import REST, Plan, PlanCharge
from .queries import EVENTS, PROVENANCE, charge_query, uncovered_query
from .rounding import Exact, decimal_of

__all__ = ["Charging", "exact_of", "share_of"]

Rows = Mapping[UsageQuery, Sequence[UsageRow]]


class Charging:
    """Collects the lines of a subject.

    Args:
        rows: What it used, by question.
        zone: Whose days the parts are of.
        meters: The meters there are, by slug.
    """

    def __init__(self, rows: Rows, *, zone: str, meters: Mapping[str, MeterDefinition]) -> None:
        self.lines: list[BillLine] = []
        self.unbilled: list[Unbilled] = []
        self._rows = rows
        self._zone = zone
        self._meters = meters

    def add(self, part: Part) -> None:
        """Put on it what was used in a part of the period."""
        if part.plan is None:
            for row in self._rows.get(uncovered_query(part, self._zone), ()):
                self.unbilled.append(
                    Unbilled(
                        reason="no_plan",
                        start=part.start,
                        end=part.end,
                        meter=EVENTS.slug,
                        group=row.group_by,
                        quantity=decimal_of(exact_of(row.value)),
                    )
                )
            return
        for charge in part.plan.charges:
            if charge.meter is None:
                self._fix(part, part.plan, charge)
            else:
                self._measure(part, part.plan, charge)

    def _fix(self, part: Part, plan: Plan, charge: PlanCharge) -> None:
        fixed = charge.fixed or Decimal(0)
        self.lines.append(
            BillLine(
                kind="fixed",
                name=charge.name,
                plan=plan.name,
                plan_from=plan.effective_from,
                start=part.start,
                end=part.end,
                price=fixed,
                exact=Fraction(fixed) * share_of(part),
                amount=Decimal(0),
            )
        )

    def _measure(self, part: Part, plan: Plan, charge: PlanCharge) -> None:
        query = charge_query(charge, part, self._zone, self._meters)
        names, currencies, groups = _groups(charge, self._rows.get(query, ()))
        for place, group in enumerate(groups):
            total = sum(group.values())
            if min(group.values(), default=0) < 0:
                self._leave_out(part, plan, charge, names[place], total, "negative")
                groups[place] = {}
        if charge.markup is not None:
            self._mark_up(part, plan, charge, names, groups, currencies)
            return
        if charge.prices is not None:
            for name, group in zip(names, groups, strict=True):
                [value] = name.values()
                price = charge.prices.get(value or "", charge.prices.get(REST))
                if price is not None:
                    priced = replace(charge, price=price, prices=None)
                    self._put(part, plan, priced, [name], segments_of(priced, [group]))
                elif total := sum(group.values()):
                    self._leave_out(part, plan, charge, name, total, "no_price")
            return
        segments = segments_of(
            charge, groups, allowance=allowance_of(charge, *part.days), share=share_of(part)
        )
        self._put(part, plan, charge, names, segments)

    def _put(
        self,
        part: Part,
        plan: Plan,
        charge: PlanCharge,
        names: Sequence[Mapping[str, str | None]],
        segments: Sequence[Segment],
    ) -> None:
        for each in segments:
            is_fee = each.group is None
            self.lines.append(
                BillLine(
                    kind=each.kind,
                    name=charge.name,
                    plan=plan.name,
                    plan_from=plan.effective_from,
                    start=part.start,
                    end=part.end,
                    meter=charge.meter,
                    group={} if each.group is None else names[each.group],
                    quantity=None if is_fee else decimal_of(each.quantity),
                    per=None if is_fee else charge.per,
                    price=each.price,
                    above=each.above if each.is_tier else None,
                    up_to=each.up_to,
                    is_tier=each.is_tier,
                    provenance=_decimals(each.provenance),
                    exact=each.exact,
                    amount=Decimal(0),
                )
            )

    def _mark_up(
        self,
        part: Part,
        plan: Plan,
        charge: PlanCharge,
        names: Sequence[Mapping[str, str | None]],
        groups: Sequence[Mapping[str, Exact]],
        currencies: Sequence[str | None],
    ) -> None:
        markup = charge.markup or Decimal(0)
        for name, group, currency in zip(names, groups, currencies, strict=True):
            cost = sum(group.values())
            if not cost:
                continue
            if currency != plan.currency:
                self._leave_out(part, plan, charge, name, cost, "currency", currency)
                continue
            self.lines.append(
                BillLine(
                    kind="markup",
                    name=charge.name,
                    plan=plan.name,
                    plan_from=plan.effective_from,
                    start=part.start,
                    end=part.end,
                    meter=charge.meter,
                    group=name,
                    quantity=decimal_of(cost),
                    markup=markup,
                    provenance=_decimals(group),
                    exact=cost * (1 + Fraction(markup)),
                    amount=Decimal(0),
                )
            )

    def _leave_out(
        self,
        part: Part,
        plan: Plan,
        charge: PlanCharge,
        name: Mapping[str, str | None],
        quantity: Exact,
        reason: UnbilledReason,
        unit: str | None = None,
    ) -> None:
        assert charge.meter is not None
        self.unbilled.append(
            Unbilled(
                reason=reason,
                start=part.start,
                end=part.end,
                plan=plan.name,
                charge=charge.name,
                meter=charge.meter,
                group=name,
                quantity=decimal_of(quantity),
                unit=unit,
            )
        )


def _groups(
    charge: PlanCharge, rows: Sequence[UsageRow]
) -> tuple[list[dict[str, str | None]], list[str | None], list[dict[str, Exact]]]:
    """The groups in order: the values of their keys, the currency of a cost, how much there is."""
    keys = charge.group_by if charge.markup is None else (*charge.group_by, CURRENCY)
    found: dict[tuple[str | None, ...], dict[str, Exact]] = {}
    for row in rows:
        key = tuple(row.group_by.get(each) for each in keys)
        stated = row.group_by.get(PROVENANCE) or "unknown"
        provenance = stated if stated in PROVENANCES else "unknown"
        group = found.setdefault(key, {})
        group[provenance] = group.get(provenance, 0) + exact_of(row.value)
    order = sorted(found, key=lambda key: [(text is not None, text or "") for text in key])
    named = len(charge.group_by)
    return (
        [dict(zip(charge.group_by, key[:named], strict=True)) for key in order],
        [key[named] if key[named:] else None for key in order],
        [found[key] for key in order],
    )


def share_of(part: Part) -> Fraction:
    """How much of its month a part is."""
    before, until, total = part.days
    return Fraction(until - before, total)


def exact_of(value: Decimal | float) -> Exact:
    """A meter's value."""
    if isinstance(value, int):
        return value
    # A float as it is written, not the binary fraction behind it.
    return Fraction(repr(value)) if isinstance(value, float) else Fraction(value)


def _decimals(quantities: Mapping[str, Exact]) -> dict[str, Decimal]:
    return {
        each: decimal_of(quantities[each]) for each in PROVENANCES if quantities.get(each, 0) != 0
    }
