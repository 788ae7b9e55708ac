"""`PriceTable`: a price list of cards, found by name, tier and time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

from .cards import PriceCard
from .lists import ModelPrices
from .names import names_of
from .providers import canonical_provider
from .tiers import tier_of
from .unpriced import Unpriced

__all__ = ["PriceTable"]

_EVER: Final = datetime(1, 1, 1, tzinfo=UTC)


class PriceTable:
    """A price list of cards.

    A card of a model holds from its `effective_from` until that of the next one of the same tier.
    Before the first the list does not know the model.

    Args:
        name: What it is called.
        version: Names its contents.
        cards: The cards; of one model, tier, time and size there is one.
        is_own: Whether they are the user's own.
    """

    def __init__(
        self, name: str, version: str, cards: Iterable[PriceCard], *, is_own: bool = False
    ) -> None:
        self.name = name
        self.version = version
        grouped: dict[tuple[str, str], dict[str | None, dict[datetime, list[PriceCard]]]] = {}
        for card in cards:
            model = canonical_provider(card.provider), card.model.strip().lower()
            periods = grouped.setdefault(model, {}).setdefault(tier_of(card.service_tier), {})
            periods.setdefault(card.effective_from or _EVER, []).append(card)
        self._models = {
            model: {tier: _Periods(dated, is_own) for tier, dated in tiers.items()}
            for model, tiers in grouped.items()
        }

    def find(
        self, provider: str | None, model: str | None, *, time: datetime, service_tier: str | None
    ) -> ModelPrices | Unpriced:
        """The prices of a model; see `PriceList.find`."""
        names = names_of(provider, model or "")
        for each in names.models:
            for who in names.providers:
                tiers = self._models.get((who, each))
                if tiers is not None:
                    return self._at(f"{who} {each}", tiers, time, tier_of(service_tier))
        if not self._models:
            return Unpriced("unknown_model", "there is no price list")
        if model is None:
            return Unpriced("unknown_model", "the call names no model")
        if not names.providers:
            return Unpriced("unknown_model", f"nobody knows who served {model}")
        return Unpriced(
            "unknown_model", f"{self.name} has no price of {names.providers[0]} {model}"
        )

    def models(self) -> Iterator[tuple[str, str]]:
        """Every model, by its provider and name."""
        yield from self._models

    def _at(
        self, what: str, tiers: dict[str | None, _Periods], time: datetime, tier: str | None
    ) -> ModelPrices | Unpriced:
        periods = tiers.get(tier)
        if periods is not None and (found := periods.at(time)) is not None:
            return found
        starts = [start for each in tiers.values() for start in each.starts]
        since = max((start for start in starts if start <= time), default=None)
        until = min((start for start in starts if start > time), default=None)
        # The same for all of the period: a bill lists it, whichever event was looked up first.
        detail = f"{self.name} has no price of {what}"
        if since is None:
            before = f" before {_written(until)}" if until else ""
            return Unpriced("unknown_model", detail + before, valid_to=until)
        detail += f" on {tier or 'the usual tier'}"
        if since != _EVER:
            detail += f" from {_written(since)} on"
        return Unpriced(
            "unknown_price", detail, valid_from=None if since == _EVER else since, valid_to=until
        )


def _written(moment: datetime) -> str:
    """A moment in UTC; a midnight as its day."""
    moment = moment.astimezone(UTC)
    midnight = moment == moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return f"{moment:%Y-%m-%d}" if midnight else moment.replace(tzinfo=None).isoformat() + "Z"


class _Periods:
    """The prices of a model on one tier, by when they began."""

    def __init__(self, dated: dict[datetime, list[PriceCard]], is_own: bool) -> None:
        self.starts = sorted(dated)
        ends = [*self.starts[1:], None]
        self._prices = [
            ModelPrices(
                cards=tuple(sorted(dated[start], key=lambda card: card.above_input_tokens)),
                valid_from=None if start == _EVER else start,
                valid_to=end,
                is_own=is_own,
            )
            for start, end in zip(self.starts, ends, strict=True)
        ]

    def at(self, time: datetime) -> ModelPrices | None:
        position = bisect_right(self.starts, time)
        return self._prices[position - 1] if position else None
