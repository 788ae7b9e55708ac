"""`PriceList`: where prices are looked up; and several of them, one behind the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from .cards import PriceCard
from .unpriced import Unpriced

__all__ = ["Chain", "ModelPrices", "PriceList"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPrices:
    """What a list says of a model, at one time and on one tier.

    Attributes:
        cards: By size of the input, the smallest first, whose `above_input_tokens` is 0. All tokens
            of a call cost what the card for its size says.
        valid_from: The first moment for which the list says this; `None` if it always did.
        valid_to: The first moment for which it no longer does; `None` if there is none.
        is_own: Whether these are the user's own prices, which go before what a provider reports as
            the cost of a call.
    """

    cards: tuple[PriceCard, ...]
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    is_own: bool = False

    def card_for(self, input_tokens: int) -> PriceCard:
        """The card for a call with so much input, all of it."""
        chosen = self.cards[0]
        for card in self.cards[1:]:
            if input_tokens <= card.above_input_tokens:
                break
            chosen = card
        return chosen


class PriceList(Protocol):
    """What each model costs.

    Attributes:
        name: What it is called, such as `genai-prices`.
        version: Names its contents: two lists with the same name and version say the same.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...

    def find(
        self, provider: str | None, model: str | None, *, time: datetime, service_tier: str | None
    ) -> ModelPrices | Unpriced:
        """The prices of a model.

        Args:
            provider: As an event has it.
            model: As an event has it: the model that answered.
            time: When, in UTC.
            service_tier: As an event has it.

        Returns:
            What holds from its `valid_from` until its `valid_to`: for each moment between them the
            list says the same of this provider, model and tier.
        """


@dataclass(frozen=True, slots=True)
class Chain:
    """Price lists one behind the other: the first that knows a model says what it costs.

    One that knows the model and not its tier ends the search: the next would say what the tier costs
    those who have no prices of their own.

    Attributes:
        lists: The lists, that of the user first.
    """

    lists: Sequence[PriceList]

    @property
    def name(self) -> str:
        return " + ".join(each.name for each in self.lists)

    @property
    def version(self) -> str:
        return " + ".join(f"{each.name} {each.version}" for each in self.lists)

    def find(
        self, provider: str | None, model: str | None, *, time: datetime, service_tier: str | None
    ) -> ModelPrices | Unpriced:
        unpriced = Unpriced("unknown_model", f"no price list for {model or 'a call without model'}")
        since: datetime | None = None
        until: datetime | None = None
        for position, each in enumerate(self.lists):
            found = each.find(provider, model, time=time, service_tier=service_tier)
            # What one list says holds no longer than that those before it know nothing.
            since = _later(since, found.valid_from)
            until = _earlier(until, found.valid_to)
            if isinstance(found, ModelPrices):
                return replace(found, valid_from=since, valid_to=until)
            if position == 0 or found.reason != "unknown_model":
                unpriced = found
            if found.reason != "unknown_model":
                break
        return replace(unpriced, valid_from=since, valid_to=until)


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return other if one is None else one if other is None else max(one, other)


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return other if one is None else one if other is None else min(one, other)
