"""`Amounts`: what an event comes to, in the units that balances are counted in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from ..prices import Cost, PriceList, Unpriced, cost_of
from .features import Feature

__all__ = ["Amounts"]

_NO_CREDITS: Final = Unpriced(
    reason="unknown_price", detail="no price file says what a token is worth in credits"
)


class Amounts:
    """What events come to.

    Args:
        features: What there is, by key.
        prices: Gives what models cost.
        credits: Gives what tokens are worth in credits, if anything says so.
    """

    def __init__(
        self,
        features: Mapping[str, Feature],
        *,
        prices: Callable[[], PriceList],
        credits: Callable[[], PriceList | None],
    ) -> None:
        self._features = features
        self._prices = prices
        self._credits = credits

    def of(
        self, data: Mapping[str, Any], time: datetime, features: Collection[str]
    ) -> dict[str, int | Unpriced]:
        """What an event comes to, in parts.

        Args:
            data: The event's `data`.
            time: The event's.
            features: Of which features that is asked; those that the event does not count for are left
                out, and so are all of them where nothing is known of what was used.

        Returns:
            By feature; what has no price there is `Unpriced`.

        Raises:
            PriceError: If a price file is wrong.
            MissingExtraError: If prices are to come from what is not installed.
        """
        found: dict[str, int | Unpriced] = {}
        costs: dict[str, Cost | Unpriced] = {}
        for key in features:
            feature = self._features.get(key)
            provider = data.get("provider")
            names = data.get("model"), data.get("request_model")
            if feature is None or not any(feature.counts(provider, name) for name in names):
                # By the name that was asked for as well, by which it was reserved.
                continue
            if feature.unit == "tokens":
                tokens = _tokens(data)
                if tokens is not None:
                    found[key] = tokens
            elif data.get("provenance") != "missing":
                if feature.unit not in costs:
                    costs[feature.unit] = self._cost(feature.unit, data, time)
                found[key] = _in_currency(costs[feature.unit], feature)
        return found

    def _cost(self, unit: str, data: Mapping[str, Any], time: datetime) -> Cost | Unpriced:
        prices = self._credits() if unit == "credits" else self._prices()
        if prices is None:
            return _NO_CREDITS
        try:
            cost = cost_of(data, prices, time=time)
            asked = data.get("request_model")
            if isinstance(cost, Unpriced) and asked is not None and asked != data.get("model"):
                # A provider may answer under a name that no list has, such as one of a server of
                # the user's own. What was reserved was worked out by the name that was asked for.
                second = cost_of({**data, "model": asked}, prices, time=time)
                cost = cost if isinstance(second, Unpriced) else second
        except msgspec.ValidationError as error:
            return Unpriced(reason="inconsistent_usage", detail=f"a count is none: {error}")
        else:
            return cost


def _tokens(data: Mapping[str, Any]) -> int | None:
    """All tokens, or those that are known of, if only a part is."""
    total = data.get("total_tokens")
    if total is None:
        parts = [data.get(name) for name in ("input_tokens", "output_tokens")]
        known = [each for each in parts if type(each) is int and each >= 0]
        return sum(known) if known else None
    return total if type(total) is int and total >= 0 else None


def _in_currency(cost: Cost | Unpriced, feature: Feature) -> int | Unpriced:
    if isinstance(cost, Unpriced):
        return cost
    if feature.unit == "money" and cost.picos and cost.currency != feature.currency:
        return Unpriced(
            reason="unknown_price",
            detail=f"its price is in {cost.currency}, the balance in {feature.currency}",
        )
    return cost.picos
