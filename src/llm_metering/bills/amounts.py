"""What a quantity costs by a charge: allowance, tiers, and what each group's share of it is.

Allowance and tiers are of a charge as a whole. Groups fill them one behind the other, so that
telling groups apart changes no total.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Final, Literal

from .plans import PlanCharge, Tier
from .rounding import Exact

__all__ = ["PROVENANCES", "Segment", "allowance_of", "segments_of"]

PROVENANCES: Final = ("reported", "partial", "estimated", "missing", "unknown")
"""Where counts come from, in the order in which they fill allowance and tiers; `unknown` are events
that do not say."""

_USAGE: Final = "usage"


@dataclass(slots=True, kw_only=True)
class Segment:
    """A part of a group's quantity that has one price, or the fee of a tier.

    Attributes:
        kind: What it is.
        group: Its place among the groups; `None` for a fee.
        price: Of `per` units.
        above: What the tier begins above.
        up_to: Where it ends; `None` is no end.
        is_tier: Whether the price is that of a tier.
        quantity: How much of it there is.
        provenance: The same by where the counts come from.
        exact: What it costs.
    """

    kind: Literal["usage", "included", "flat_fee"]
    group: int | None = None
    price: Decimal
    above: Decimal = Decimal(0)
    up_to: Decimal | None = None
    is_tier: bool = False
    quantity: Exact = 0
    provenance: dict[str, Exact] = field(default_factory=dict)
    exact: Exact = 0


@dataclass(frozen=True, slots=True)
class _Band:
    end: Exact | None
    price: Decimal
    is_included: bool = False
    tier: Tier | None = None
    above: Decimal = Decimal(0)


def allowance_of(charge: PlanCharge, before: int, until: int, total: int) -> Exact:
    """What is included in some days of a month, in whole units of the allowance's last digit.

    The parts of a month have together what the month has.

    Args:
        charge: The charge.
        before: Days of the month before the first one.
        until: Days before the end.
        total: Days of the month.
    """
    exponent = charge.included.as_tuple().exponent
    unit = Fraction(10) ** min(exponent, 0) if isinstance(exponent, int) else Fraction(1)
    whole = Fraction(charge.included) / unit
    return _plain(((whole * until) // total - (whole * before) // total) * unit)


def segments_of(
    charge: PlanCharge,
    groups: Sequence[Mapping[str, Exact]],
    *,
    allowance: Exact = 0,
    share: Fraction = Fraction(1),
) -> list[Segment]:
    """What a charge by `price` or `tiers` is made of: by group, then by tier, then the tiers' fees.

    Args:
        charge: The charge.
        groups: How much each has, by where the counts come from.
        allowance: How much of it is free.
        share: How much of a month it is, for fees.
    """
    total = sum(sum(group.values()) for group in groups)
    bands = list(_bands(charge, allowance, total))
    per = Fraction(charge.per)
    segments: list[Segment] = []
    reached: dict[int, None] = {}
    place = 0
    filled: Exact = 0
    for number, group in enumerate(groups):
        own: dict[int, Segment] = {}
        for provenance in sorted(group, key=PROVENANCES.index):
            left = group[provenance]
            while left > 0:
                band = bands[place]
                if band.end is not None and filled >= band.end:
                    place += 1
                    continue
                taken = left if band.end is None else min(left, band.end - filled)
                if place not in own:
                    own[place] = _segment(band, number)
                segment = own[place]
                segment.quantity += taken
                segment.provenance[provenance] = segment.provenance.get(provenance, 0) + taken
                reached[place] = None
                filled += taken
                left -= taken
        for segment in own.values():
            segment.exact = segment.quantity * Fraction(segment.price) / per
        segments += own.values()
    for place in reached:
        tier = bands[place].tier
        if tier is not None and tier.flat_fee:
            fee = _segment(bands[place], None)
            fee.kind, fee.price = "flat_fee", tier.flat_fee
            fee.exact = Fraction(tier.flat_fee) * share
            segments.append(fee)
    return segments


def _segment(band: _Band, group: int | None) -> Segment:
    return Segment(
        kind="included" if band.is_included else _USAGE,
        group=group,
        price=band.price,
        above=band.above,
        up_to=band.tier.up_to if band.tier else None,
        is_tier=band.tier is not None,
    )


def _plain(number: Exact) -> Exact:
    return number.numerator if number.denominator == 1 else number


def _bands(charge: PlanCharge, allowance: Exact, total: Exact) -> Iterator[_Band]:
    if allowance:
        yield _Band(allowance, Decimal(0), is_included=True)
    if charge.price is not None:
        yield _Band(None, charge.price)
        return
    above = Decimal(0)
    for tier in charge.tiers:
        end = None if tier.up_to is None else _plain(allowance + Fraction(tier.up_to))
        if charge.tier_mode == "graduated":
            yield _Band(end, tier.price, tier=tier, above=above)
        elif end is None or total <= end:
            yield _Band(None, tier.price, tier=tier, above=above)
            return
        above = tier.up_to or above
