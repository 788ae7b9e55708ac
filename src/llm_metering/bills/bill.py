"""`Bill`: what a subject owes for some days, and how that came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal

import msgspec

from ..meters import time_zone_of, window_bounds
from .beside import CostLine, Margin, Unbilled, UnknownUsage, UnpricedUsage
from .rounding import EXACT, Exact

__all__ = [
    "Bill",
    "BillLine",
    "BillPeriod",
    "LineKind",
    "first_moment",
]

LineKind = Literal["usage", "included", "flat_fee", "markup", "fixed", "minimum"]
"""A quantity at a price; one that is free; the fee of a tier; a cost with its markup; an amount for
the month; what is missing to the least that the month costs."""

_NOON = 12


def first_moment(day: date, time_zone: str) -> datetime:
    """When a day begins, in UTC."""
    zone = time_zone_of(time_zone)
    # Every day has a noon, while clocks may skip midnight.
    noon = datetime(day.year, day.month, day.day, _NOON, tzinfo=zone)
    return window_bounds(noon, "DAY", zone)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class BillPeriod:
    """The days of a bill.

    Attributes:
        start: The first day.
        end: The first day behind them.
        time_zone: Whose days these are.
    """

    start: date
    end: date
    time_zone: str

    @property
    def first_moment(self) -> datetime:
        """When the first day begins, in UTC."""
        return first_moment(self.start, self.time_zone)

    @property
    def end_moment(self) -> datetime:
        """The first moment behind the last day, in UTC."""
        return first_moment(self.end, self.time_zone)


class BillLine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One line of a bill.

    Attributes:
        kind: What it is.
        name: As the plan's charge is called.
        plan: The plan's name.
        plan_from: The first day of the plan's version.
        start: The first day that it is for.
        end: The first day behind.
        meter: What was measured.
        group: The group's value by each key; `None` where usage had none.
        quantity: How much; of a markup, what it cost.
        per: How many units the price is for.
        price: Of so many units; of a fee, for a whole month.
        above: What the tier begins above.
        up_to: The tier's last unit; `None` is no end.
        is_tier: Whether the price is that of a tier.
        markup: On the cost: 0.20 is a fifth.
        provenance: The quantity by where its counts come from.
        exact: The amount before it was rounded.
        amount: What is owed for it, rounded so that all lines add up to the total.
    """

    kind: LineKind
    name: str
    plan: str
    plan_from: date
    start: date
    end: date
    meter: str | None = None
    group: Mapping[str, str | None] = msgspec.field(default_factory=dict)
    quantity: Decimal | None = None
    per: Decimal | None = None
    price: Decimal | None = None
    above: Decimal | None = None
    up_to: Decimal | None = None
    is_tier: bool = False
    markup: Decimal | None = None
    provenance: Mapping[str, Decimal] = msgspec.field(default_factory=dict)
    exact: Exact
    amount: Decimal

    def __hash__(self) -> int:
        # Without what cannot be hashed.
        return hash((self.kind, self.name, self.plan, self.start, self.end, self.exact))


@dataclass(frozen=True, kw_only=True)
class Bill:
    """What a subject owes for some days of a month, and how that came about.

    The same plans, prices and usage make the same bill, byte by byte.

    Attributes:
        subject: Who pays.
        period: For which days.
        currency: Of the lines and the total.
        lines: What is owed for what; their amounts add up to the total.
        total: What is owed.
        incomplete: Why more may be owed than the total says; a bill is complete if there is nothing.
        unbilled: Usage that is on no line.
        costs: What the providers charge.
        unpriced: Usage of which nobody knows what it cost.
        unknown_usage: Calls of which nobody knows what they used.
        margin: What is left.
        price_version: The ledger's number of the prices that the costs were worked out with; it is
            none of what the bill says, since another ledger may call the same prices otherwise.
    """

    subject: str
    period: BillPeriod
    currency: str
    lines: tuple[BillLine, ...]
    total: Decimal
    incomplete: tuple[str, ...] = ()
    unbilled: tuple[Unbilled, ...] = ()
    costs: tuple[CostLine, ...] = ()
    unpriced: tuple[UnpricedUsage, ...] = ()
    unknown_usage: tuple[UnknownUsage, ...] = ()
    margin: Margin
    price_version: int = field(default=0, compare=False)

    @property
    def is_complete(self) -> bool:
        """Whether all usage is on it."""
        return not self.incomplete

    @cached_property
    def cost(self) -> Mapping[str, Decimal]:
        """What the providers charge for what has a price, by currency."""
        found: dict[str, Decimal] = {}
        for line in self.costs:
            found[line.currency] = EXACT.add(found.get(line.currency, 0), line.amount)
        return {currency: found[currency].normalize(EXACT) for currency in sorted(found)}

    @property
    def is_cost_complete(self) -> bool:
        """Whether all usage has a price."""
        return not any(each.of == "cost" for each in self.unpriced)

    @property
    def has_unseen_usage(self) -> bool:
        """Whether there is usage whose price nobody has looked for yet."""
        return any(each.why.reason == "not_priced" for each in self.unpriced)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the bill as JSON; two bills with the same one say the same."""
        from .shapes import digest_of

        return digest_of(self)

    def _repr_html_(self) -> str:
        from .tables import bill_table

        return bill_table(self)

    def to_dict(self) -> dict[str, Any]:
        """The bill as JSON has it: amounts and quantities are strings."""
        from .shapes import to_dict

        return to_dict(self)

    def to_json(self) -> str:
        """The bill as JSON text, which is the same whenever it is made."""
        from .shapes import to_json

        return to_json(self)

    def to_csv(self) -> str:
        """The lines as CSV text, with a line of titles."""
        from .shapes import to_csv

        return to_csv(self)

    def to_html(self, *, costs: bool = False) -> str:
        """The bill as one page to be printed, which loads nothing and runs nothing.

        Args:
            costs: Whether it shows what the providers charge, and the margin, which are none of the
                customer's business.

        Raises:
            MissingExtraError: If Jinja is not installed.
        """
        from .pages import to_html

        return to_html(self, costs=costs)
