"""What a bill says beside its lines: what providers charge, and what is not on a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

import msgspec

from ..prices import Unpriced

__all__ = [
    "CostLine",
    "KindCost",
    "Margin",
    "Unbilled",
    "UnbilledReason",
    "UnknownUsage",
    "UnpricedUsage",
]

UnbilledReason = Literal["no_plan", "no_price", "currency", "negative"]
"""Why usage is on no line."""


class KindCost(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one kind of token, or of another unit, cost.

    Attributes:
        kind: The kind.
        quantity: How much.
        price: Of one.
        amount: Their product.
    """

    kind: str
    quantity: Decimal
    price: Decimal | None
    amount: Decimal | None


class CostLine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a provider charges for a model at one price.

    Attributes:
        provider: As the events have it.
        model: As the events have it.
        service_tier: The tier that the price is for.
        above_input_tokens: The price is for calls with more input than this.
        source: Where the price comes from.
        effective_from: Since when it holds, in UTC.
        currency: Of the amounts.
        calls: How many calls.
        events: How many events.
        kinds: What each kind cost.
        amount: What they cost together, exactly.
    """

    provider: str | None
    model: str | None
    service_tier: str | None
    above_input_tokens: int
    source: str
    effective_from: datetime | None
    currency: str
    calls: int
    events: int
    kinds: tuple[KindCost, ...]
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpricedUsage:
    """Usage of which nobody knows what it cost.

    Attributes:
        of: `cost`, or `credits` where it is not known how many credits it is.
        provider: As the events have it.
        model: As the events have it.
        provenance: Where its counts come from.
        why: The reason.
        calls: How many calls; `None` where nobody looked.
        events: How many events.
        quantities: How much of each kind, as far as it is known.
    """

    of: Literal["cost", "credits"]
    provider: str | None
    model: str | None
    provenance: str | None
    why: Unpriced
    calls: int | None
    events: int
    quantities: Mapping[str, Decimal] = field(hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownUsage:
    """Calls of which nobody knows all that they used.

    Attributes:
        model: As the events have it.
        provenance: Where their counts come from: `missing` if there are none.
        status: How they ended: `interrupted` if their process died.
        calls: How many.
    """

    model: str | None
    provenance: str | None
    status: str | None
    calls: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Unbilled:
    """Usage that is on no line, though it was used.

    Attributes:
        reason: `no_plan`: on those days the subject is on none. `no_price`: the charge has no price
            for that group. `currency`: it cost something in another one than the plan's.
            `negative`: the meter says less than nothing.
        start: The first day.
        end: The first day behind.
        plan: The plan, if there is one.
        charge: The charge's name.
        meter: What was measured.
        group: The group's value by each key.
        quantity: How much.
        unit: The currency of a quantity that is an amount.
    """

    reason: UnbilledReason
    start: date
    end: date
    plan: str | None = None
    charge: str | None = None
    meter: str
    group: Mapping[str, str | None] = field(default_factory=dict, hash=False)
    quantity: Decimal
    unit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """What is left of the total when the providers are paid.

    Attributes:
        amount: The total without what the providers charge; `None` if nobody can say.
        percent: The same in percent of the total, to two decimals; `None` of a total of 0.
        why_not: Why nobody can say.
    """

    amount: Decimal | None = None
    percent: Decimal | None = None
    why_not: str | None = None
