"""What the rows of price files have to say, given what the others say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any

from ..errors import PriceError
from .cards import PriceCard

__all__ = ["check_beside", "describe"]


def check_beside(
    cards: Mapping[tuple[Any, ...], PriceCard], places: Mapping[tuple[Any, ...], str]
) -> None:
    """Refuse a row that leaves unsaid what the one for other calls of its model says.

    Args:
        cards: By provider, model, tier, start and size.
        places: Where each of them stands.
    """
    dated: dict[tuple[Any, ...], list[PriceCard]] = {}
    for key, card in cards.items():
        if not card.above_input_tokens:
            dated.setdefault(key[:3], []).append(card)
    for key, card in cards.items():
        smaller = cards.get((*key[:4], 0))
        usual = _during(card, dated[key[:3]], dated.get((*key[:2], None), ())) if smaller else []
        _check_beside(card, smaller, usual, places[key])


def describe(card: PriceCard) -> str:
    """What calls a card is for, to name it in an error."""
    parts = [card.provider, card.model]
    parts += [f"on {card.service_tier}"] if card.service_tier else []
    parts += [f"from {card.effective_from:%Y-%m-%d}"] if card.effective_from else []
    parts += [f"above {card.above_input_tokens}"] if card.above_input_tokens else []
    return " ".join(parts)


def _check_beside(
    card: PriceCard, smaller: PriceCard | None, usual: Sequence[PriceCard], place: str
) -> None:
    """Refuse a card that leaves unsaid what the card for other calls of the model says."""
    beside: list[tuple[str, PriceCard]] = []
    if card.above_input_tokens:
        if smaller is None:
            what = f"{describe(card)} has no prices for calls with less input"
            raise PriceError(f"{place}: {what}; add a row without above_input_tokens")
        beside.append(("with less input", smaller))
    elif card.service_tier is not None:
        if not usual or _since(usual[0]) > _since(card):
            what = f"{describe(card)} has no prices for the usual tier at that time"
            raise PriceError(f"{place}: {what}; add a row without service_tier")
        beside += [("on the usual tier", other) for other in usual]
    for which, other in beside:
        if missing := [kind for kind in other.rates if kind not in card.rates]:
            what = f"{describe(card)} has no price for {', '.join(missing)}"
            raise PriceError(f"{place}: {what}, which calls {which} have")


def _during(
    card: PriceCard, on_tier: Sequence[PriceCard], usual: Sequence[PriceCard]
) -> list[PriceCard]:
    """The cards of the usual tier that hold at some time while a card of another one does."""
    start = _since(card)
    later = [_since(other) for other in on_tier if _since(other) > start]
    ordered = sorted(usual, key=_since)
    return [
        other
        for other, following in zip_longest(ordered, ordered[1:])
        if (following is None or _since(following) > start)
        and (not later or _since(other) < min(later))
    ]


def _since(card: PriceCard) -> datetime:
    return card.effective_from or datetime.min.replace(tzinfo=UTC)
