"""Plans: what customers pay for what they use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Final, Literal, get_args

from ..errors import PlanError, PriceError, QueryError
from ..meters import time_zone_of
from ..prices import check_currency
from .rounding import ROUNDINGS, Rounding

__all__ = ["COST", "CREDITS_METER", "REST", "TIER_MODES", "Plan", "PlanCharge", "Tier", "TierMode"]

TierMode = Literal["graduated", "volume"]
"""Each part of a quantity at the price of the tier that it lies in; all of it at that of the last."""

TIER_MODES: Final[tuple[TierMode, ...]] = get_args(TierMode)

COST: Final = "cost_total"
CREDITS_METER: Final = "credits_total"

REST: Final = "*"
"""In a table of prices, whatever has none of its own."""

_DIGITS: Final = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """One tier of a price.

    Attributes:
        up_to: The last unit that it is for; `None` is no end.
        price: Of each `per` units in it.
        flat_fee: What it costs on top as soon as anything lies in it, for a whole month.

    Raises:
        PlanError: If a number is none from 0.
    """

    up_to: Decimal | None = None
    price: Decimal = Decimal(0)
    flat_fee: Decimal = Decimal(0)

    def __post_init__(self) -> None:
        check_number("price", self.price)
        check_number("flat_fee", self.flat_fee)
        if self.up_to is not None:
            check_number("up_to", self.up_to, above_zero=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCharge:
    """One thing that a plan charges for: usage of a meter, what it cost, or a fixed fee.

    It has one of `price`, `prices`, `tiers`, `markup` and `fixed`.

    Attributes:
        name: What its lines are called.
        meter: Slug of the meter; `None` with `fixed`.
        filters: Keys of usage, each with the values of which it must have one.
        group_by: Keys of usage, to have a line for each value.
        per: How many units a price is for.
        price: Of `per` units.
        prices: The same by the value of the one key of `group_by`; `*` is all others.
        tiers: By how much is used, the first one from 0, the last one without an end.
        tier_mode: How they are meant.
        included: How much of each month is free, before anything else is worked out.
        markup: On what usage cost: 0.20 is a fifth.
        fixed: An amount for each month.

    Raises:
        PlanError: Naming the key and what may stand there.
    """

    name: str
    meter: str | None = None
    filters: tuple[tuple[str, tuple[str, ...]], ...] = ()
    group_by: tuple[str, ...] = ()
    per: Decimal = Decimal(1)
    price: Decimal | None = None
    prices: Mapping[str, Decimal] | None = field(default=None, hash=False)
    tiers: tuple[Tier, ...] = ()
    tier_mode: TierMode = "graduated"
    included: Decimal = Decimal(0)
    markup: Decimal | None = None
    fixed: Decimal | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise PlanError("a charge needs a name", "name")
        self._check_kind()
        check_number("per", self.per, above_zero=True)
        check_number("included", self.included)
        for key in ("price", "markup", "fixed"):
            if (number := getattr(self, key)) is not None:
                check_number(key, number)
        for value, price in (self.prices or {}).items():
            check_number(f"the price of {value}", price, "prices", value)
        if self.prices is not None:
            object.__setattr__(self, "prices", MappingProxyType(dict(self.prices)))
        if self.tier_mode not in TIER_MODES:
            known = " and ".join(TIER_MODES)
            raise PlanError(f"unknown tier_mode {self.tier_mode!r}; there are {known}", "tier_mode")
        _check_tiers(self.tiers)
        if "subject" in self.group_by:
            raise PlanError("a bill is of one subject; leave it out of group_by", "group_by")

    def _check_kind(self) -> None:
        kinds = ("price", "prices", "tiers", "markup", "fixed")
        chosen = [key for key in kinds if getattr(self, key) not in (None, ())]
        if len(chosen) != 1:
            got = " and ".join(chosen) or "none"
            message = f"charge {self.name} has {got} of {', '.join(kinds)}; one is wanted"
            raise PlanError(message, *chosen[1:2])
        [kind] = chosen
        if kind == "fixed":
            for key in ("meter", "filters", "group_by", "included"):
                if getattr(self, key):
                    raise PlanError(f"a fixed fee has no {key}", key)
        elif self.meter is None:
            raise PlanError(f"charge {self.name} needs a meter, or a fixed fee", "name")
        if kind == "markup" and self.meter != COST:
            raise PlanError(f"markup is for {COST}, not for {self.meter}", "markup")
        if kind != "markup" and self.meter == COST:
            raise PlanError(f"{COST} takes a markup, not {kind}; 0 passes the cost on", kind)
        if kind == "markup" and self.included:
            raise PlanError("a markup has no allowance; it is for price and tiers", "included")
        if kind == "prices":
            if len(self.group_by) != 1:
                raise PlanError("prices are by the value of one key; name it in group_by", "prices")
            if self.included:
                raise PlanError(
                    "with prices, what is included would depend on the order of the groups; write a "
                    "charge with a price for each, by filters",
                    "included",
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What customers on it pay, from a day on until its next version.

    Attributes:
        name: Its name, the same for all versions.
        effective_from: The first day of this version, in its time zone.
        currency: By ISO 4217.
        time_zone: Whose days and months count: a name of the IANA database.
        rounding: What becomes of fractions of the currency's smallest unit.
        minimum: The least that a month costs.
        charges: What it charges for, in the order of the lines.

    Raises:
        PlanError: Naming the key and what may stand there.
    """

    name: str
    effective_from: date
    currency: str
    time_zone: str = "UTC"
    rounding: Rounding = "half_up"
    minimum: Decimal = Decimal(0)
    charges: tuple[PlanCharge, ...] = ()

    def __post_init__(self) -> None:
        if not self.name:
            raise PlanError("a plan needs a name", "name")
        check_day("effective_from", self.effective_from)
        try:
            check_currency(self.currency)
        except PriceError as error:
            raise PlanError(str(error), "currency") from None
        try:
            time_zone_of(self.time_zone)
        except QueryError as error:
            raise PlanError(str(error), "time_zone") from None
        if self.rounding not in ROUNDINGS:
            known = ", ".join(ROUNDINGS)
            raise PlanError(f"unknown rounding {self.rounding!r}; there are {known}", "rounding")
        check_number("minimum", self.minimum)
        seen: set[str] = set()
        for place, charge in enumerate(self.charges):
            if charge.name in seen:
                message = f"plan {self.name} has two charges called {charge.name!r}"
                raise PlanError(message, "charges", place, "name")
            seen.add(charge.name)


def check_number(what: str, number: object, *where: str | int, above_zero: bool = False) -> None:
    """Refuse what is no exact, finite number from 0 of a size that a bill may have."""
    place = where or (what,)
    if isinstance(number, bool) or not isinstance(number, Decimal | int):
        raise PlanError(f"{what} is a Decimal, got {number!r}", *place)
    number = Decimal(number)
    if not number.is_finite() or number < 0 or (above_zero and not number):
        least = "above 0" if above_zero else "from 0"
        raise PlanError(f"{what} is a number {least}, got {number}", *place)
    exponent = number.as_tuple().exponent
    if number.adjusted() >= _DIGITS or (isinstance(exponent, int) and exponent < -_DIGITS):
        raise PlanError(
            f"{what} has at most {_DIGITS} digits before and {_DIGITS} behind its point, got {number}",
            *place,
        )


def check_day(what: str, day: object) -> None:
    """Refuse what is no day."""
    if not isinstance(day, date) or isinstance(day, datetime):
        raise PlanError(f"{what} is a day such as 2026-01-01, got {day}", what)


def _check_tiers(tiers: Sequence[Tier]) -> None:
    below = Decimal(0)
    for place, tier in enumerate(tiers):
        is_last = place == len(tiers) - 1
        if tier.up_to is None:
            if not is_last:
                message = "a tier without up_to has no end, and is the last; others stand behind it"
                raise PlanError(message, "tiers", place)
        elif tier.up_to <= below:
            message = f"tiers ascend: up_to = {tier.up_to} stands behind {below}"
            raise PlanError(message, "tiers", place, "up_to")
        elif is_last:
            message = f"what is above {tier.up_to} has no price; the last tier has no up_to"
            raise PlanError(message, "tiers", place, "up_to")
        else:
            below = tier.up_to
