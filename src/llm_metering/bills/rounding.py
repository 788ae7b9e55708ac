"""Rounding a bill: its total once, and its lines so that they add up to it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Context, Decimal, Inexact
from fractions import Fraction
from typing import Final, Literal, TypeAlias, assert_never, get_args

__all__ = ["EXACT", "ROUNDINGS", "Exact", "Rounding", "allotted", "decimal_of", "money", "rounded"]

Rounding = Literal["half_up", "half_even", "up", "down"]
"""What becomes of a fraction of a currency's smallest unit: the nearest, of two the higher or the even
one; always the higher; always the lower."""

Exact: TypeAlias = Fraction | int
"""An exact number. Most are whole, and whole numbers are added up in a tenth of the time."""

ROUNDINGS: Final[tuple[Rounding, ...]] = get_args(Rounding)

EXACT: Final = Context(prec=200, traps=[Inexact])
"""For sums and products of decimals; what does not fit is refused, and never rounded."""

_PLACES: Final = 12


def rounded(amount: Exact, digits: int, rounding: Rounding) -> int:
    """An amount in the smallest units of its currency.

    >>> [rounded(Fraction("0.125"), 2, mode) for mode in ROUNDINGS]
    [13, 12, 13, 12]

    Args:
        amount: From 0.
        digits: Decimals of amounts in the currency.
        rounding: What becomes of a fraction.
    """
    whole, rest = _split(amount, digits)
    if rounding == "down" or not rest:
        return whole
    if rounding == "up":
        return whole + 1
    if rounding == "half_up":
        return whole + (rest >= Fraction(1, 2))
    if rounding == "half_even":
        return whole + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2 == 1))
    assert_never(rounding)


def allotted(amounts: Sequence[Exact], total: int, digits: int) -> list[int]:
    """The amounts in smallest units, each rounded up or down, so that they add up to their total.

    Those with the largest fractions are rounded up, of equal ones the first.

    >>> allotted([Fraction("0.004")] * 5, 2, 2)
    [1, 1, 0, 0, 0]

    Args:
        amounts: From 0.
        total: Their sum as it was rounded.
        digits: Decimals of amounts in the currency.
    """
    parts = [_split(amount, digits) for amount in amounts]
    units = [whole for whole, _ in parts]
    by_fraction = sorted(range(len(parts)), key=lambda place: -parts[place][1])
    for place in by_fraction[: total - sum(units)]:
        units[place] += 1
    return units


def money(units: int, digits: int) -> Decimal:
    """An amount, with all decimals of its currency, of its smallest units.

    >>> money(5, 2)
    Decimal('0.05')
    """
    return Decimal(units).scaleb(-digits)


def _split(amount: Exact, digits: int) -> tuple[int, Fraction]:
    whole, rest = divmod(amount.numerator * 10**digits, amount.denominator)
    return whole, Fraction(rest, amount.denominator)


def decimal_of(number: Exact) -> Decimal:
    """A number without its trailing zeros; one without an end is cut to 12 decimals, half to even.

    >>> decimal_of(Fraction("54.3990")), decimal_of(Fraction(200)), decimal_of(Fraction(1, 3))
    (Decimal('54.399'), Decimal('200'), Decimal('0.333333333333'))
    """
    if number.denominator == 1:
        return Decimal(number.numerator)
    try:
        return EXACT.divide(Decimal(number.numerator), Decimal(number.denominator))
    except Inexact:
        return Decimal(round(number * 10**_PLACES)).scaleb(-_PLACES, EXACT).normalize(EXACT)
