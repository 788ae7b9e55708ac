"""Prices as the ledger keeps them: cards as canonical JSON, and why something has no price."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from ..meters import rfc3339
from ..prices import PriceCard, Unpriced
from ..prices.costing import NOTHING

__all__ = ["NO_CURRENCY", "UNPRICED", "currency_of", "read_card", "written"]

UNPRICED: Final = ""
"""Stands for the currency of what has no price."""

NO_CURRENCY: Final = "*"
"""Stands for the currency of what costs nothing, whatever the currency."""


def currency_of(price: PriceCard | Unpriced) -> str:
    """What stands for the currency of what was priced like this."""
    if isinstance(price, Unpriced):
        return UNPRICED
    return NO_CURRENCY if price == NOTHING else price.currency


def written(price: PriceCard | Unpriced) -> str:
    """The same text for the same prices, always."""
    if isinstance(price, Unpriced):
        held: dict[str, Any] = {"reason": price.reason, "detail": price.detail}
    else:
        since = price.effective_from
        held = {
            "provider": price.provider,
            "model": price.model,
            "currency": price.currency,
            "rates": {kind: format(rate, "f") for kind, rate in sorted(price.rates.items())},
            "service_tier": price.service_tier,
            "above_input_tokens": price.above_input_tokens,
            "effective_from": None if since is None else rfc3339(since),
            "source": price.source,
        }
    return json.dumps(held, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


@lru_cache(maxsize=4096)
def read_card(text: str) -> PriceCard | Unpriced:
    """The prices of a text that `written` made."""
    held = json.loads(text)
    if "reason" in held:
        return Unpriced(held["reason"], held["detail"])
    since = held["effective_from"]
    return PriceCard(
        provider=held["provider"],
        model=held["model"],
        currency=held["currency"],
        rates={kind: Decimal(rate) for kind, rate in held["rates"].items()},
        service_tier=held["service_tier"],
        above_input_tokens=held["above_input_tokens"],
        effective_from=None if since is None else datetime.fromisoformat(since),
        source=held["source"],
    )
