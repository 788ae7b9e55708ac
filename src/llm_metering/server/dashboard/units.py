"""`Unit`: what the values of a report are counted in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ...meters import MeterDefinition

__all__ = ["Unit", "unit_of"]

_WORDS: Final = {"tokens": "tokens", "calls": "calls"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What values are counted in.

    Attributes:
        name: For people.
        currency: Of money, by ISO 4217, or `credits`.
    """

    name: str
    currency: str | None = None


def unit_of(meter: MeterDefinition, currency: str | None) -> Unit:
    """The unit of a meter.

    Args:
        meter: The meter.
        currency: What a report says its values are of.
    """
    if meter.book is not None:
        return Unit(name="cost" if meter.book == "cost" else "credits", currency=currency)
    word = _WORDS.get(meter.slug.partition("_")[0])
    if word is None:
        word = meter.slug if meter.adds_up else f"{meter.slug} ({meter.aggregation})"
    return Unit(name=word)
