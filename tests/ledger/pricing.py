"""Price lists for tests, and what a ledger should say of events that were priced with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from llm_metering.prices import ModelPrices, PriceCard, Unpriced

__all__ = ["Prices", "card"]

RATES = {"input": "3", "cache_read": "0.3", "cache_write": "3.75", "output": "15"}


def card(
    model: str = "gpt-5-mini", *, currency: str = "USD", above: int = 0, **rates: str
) -> PriceCard:
    """A card of prices per million."""
    per_million = rates or RATES
    return PriceCard(
        provider="openai",
        model=model,
        rates={kind: Decimal(rate) / 1_000_000 for kind, rate in per_million.items()},
        currency=currency,
        above_input_tokens=above,
        source="tests",
    )


@dataclass
class Prices:
    """A price list: the cards of each model, always or by time and tier.

    Attributes:
        cards: By model; a list is by size of the input.
        version: Names its contents.
        changes: By model, when what holds instead, in order of time.
        tiers: Cards by model and tier.
        is_own: Whether they go before what a provider reports.
        asked: How often it was asked.
    """

    cards: Mapping[str, PriceCard | list[PriceCard]]
    version: str = "1"
    name: str = "tests"
    changes: Mapping[str, list[tuple[datetime, PriceCard]]] = field(default_factory=dict)
    tiers: Mapping[tuple[str, str], PriceCard] = field(default_factory=dict)
    is_own: bool = False
    asked: int = 0

    def find(
        self, provider: str | None, model: str | None, *, time: datetime, service_tier: str | None
    ) -> ModelPrices | Unpriced:
        """As a `PriceList` does."""
        self.asked += 1
        if (model, service_tier) in self.tiers:
            return self._said(self.tiers[model, service_tier])
        since = None
        found: Any = self.cards.get(model)
        for moment, each in self.changes.get(model, ()):
            if time < moment:
                return self._said(found, since, moment)
            since, found = moment, each
        return self._said(found, since, None)

    def _said(
        self, found: Any, since: datetime | None = None, until: datetime | None = None
    ) -> ModelPrices | Unpriced:
        if found is None:
            return Unpriced("unknown_model", "no such model", since, until)
        cards = tuple(found) if isinstance(found, list) else (found,)
        return ModelPrices(cards=cards, valid_from=since, valid_to=until, is_own=self.is_own)
