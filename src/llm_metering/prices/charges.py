"""`Charge`: what events of one subject cost that have all in common which a bill tells apart."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from .cards import PriceCard
from .unpriced import Unpriced

__all__ = ["Charge"]


class Charge(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Events of one subject, model, provenance and price together.

    Attributes:
        subject: Who pays.
        provider: As the events have it.
        model: As the events have it.
        provenance: Where their counts come from.
        price: The prices they were worked out with, or why they have none.
        quantities: How much of each kind, as far as it is known.
        picos: What they cost in 1E-12 of the card's currency; `None` if they have no price.
        calls: How many calls they are.
        events: How many events.
    """

    subject: str
    provider: str | None
    model: str | None
    provenance: str | None
    price: PriceCard | Unpriced
    quantities: Mapping[str, int | Decimal]
    picos: int | None
    calls: int
    events: int

    def __hash__(self) -> int:
        # Without the quantities, which cannot be hashed.
        return hash((self.subject, self.provider, self.model, self.provenance, self.picos))
