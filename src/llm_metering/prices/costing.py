"""What an event cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from .cards import PICO, PriceCard
from .kinds import CHARGED_BESIDE_TOKENS, TOKEN_KINDS
from .lists import ModelPrices, PriceList
from .quantities import Counted, Quantities, quantities_of
from .unpriced import Unpriced

__all__ = ["LARGEST", "NOTHING", "Cost", "cost_of", "costed", "picos_of"]

LARGEST: Final = 2**62
"""Picos that one event may cost: about 4.6 million of a currency's unit."""

_CHARGED: Final = frozenset((*TOKEN_KINDS, *CHARGED_BESIDE_TOKENS))
NOTHING: Final = PriceCard(provider="", model="", rates={}, source="nothing was used")
"""The price of a call that used nothing, whatever the currency."""

_REPORTED: Final = PriceCard(
    provider="", model="", rates={"reported_cost": Decimal(1)}, source="reported by the provider"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What an event cost.

    Attributes:
        picos: The amount in billionths of a thousandth (1E-12) of the currency's unit.
        card: The prices it was worked out with.
        quantities: How much of each kind was charged.
    """

    picos: int
    card: PriceCard
    quantities: Mapping[str, int | Decimal]

    @property
    def amount(self) -> Decimal:
        """The amount in the currency's unit, exactly."""
        return (Decimal(self.picos) * PICO).normalize() + 0

    @property
    def currency(self) -> str:
        """By ISO 4217."""
        return self.card.currency


def cost_of(data: Mapping[str, Any], prices: PriceList, *, time: datetime) -> Cost | Unpriced:
    """What an event cost.

    Args:
        data: The event's `data`, as `UsageEvent.data()` has it.
        prices: What models cost.
        time: The event's time, in UTC.

    Raises:
        msgspec.ValidationError: If a count is no number.
    """
    counted = msgspec.convert(dict(data), Counted)
    found = prices.find(
        counted.provider, counted.model, time=time, service_tier=counted.service_tier
    )
    return costed(counted, found)


def costed(counted: Counted, found: ModelPrices | Unpriced) -> Cost | Unpriced:
    """What an event cost by the prices that were found for it.

    Nothing costs nothing, whatever the model. The user's own prices go before the cost that the
    provider reported, and that before the prices of others.
    """
    quantities = quantities_of(counted)
    is_own = isinstance(found, ModelPrices) and found.is_own
    if counted.reported_cost is not None and not is_own:
        return _cost(_REPORTED, {"reported_cost": Decimal(repr(counted.reported_cost))})
    if isinstance(quantities, Unpriced):
        return quantities
    if not quantities:
        return Cost(picos=0, card=NOTHING, quantities={})
    if isinstance(found, Unpriced):
        return found
    # By what was counted, also where something else is billed: that is the size of the request.
    card = found.card_for(counted.input_tokens or 0)
    return _cost(card, _charged(card, quantities, counted.calls or 0))


def _charged(card: PriceCard, quantities: Quantities, calls: int) -> Quantities:
    """Without what is only another measure of what is charged already."""
    if calls and card.price("requests") is not None:
        quantities = {**quantities, "requests": calls}
    if _CHARGED.issuperset(quantities):
        return quantities
    priced = {
        kind: amount
        for kind, amount in quantities.items()
        if kind in _CHARGED or card.price(kind) is not None
    }
    return priced or quantities


def _cost(card: PriceCard, quantities: Quantities) -> Cost | Unpriced:
    picos = picos_of(card, quantities)
    if isinstance(picos, Unpriced):
        return picos
    return Cost(picos=picos, card=card, quantities=quantities)


def picos_of(card: PriceCard, quantities: Quantities) -> int | Unpriced:
    """What quantities cost by a card, in whole picos; a fraction of one is rounded half to even."""
    total: int | Decimal = 0
    for kind, amount in quantities.items():
        price = card.picos(kind)
        if price is None:
            return Unpriced(
                "unknown_price", f"{card.provider} {card.model} has no price for {kind}"
            )
        total += amount * price
    whole = round(total)
    if abs(whole) > LARGEST:
        return Unpriced("too_large", f"it would cost more than {LARGEST * PICO} {card.currency}")
    return whole
