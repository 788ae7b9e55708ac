"""What events cost, as rows of the table `costs`: many at a time, and the same as `prices.cost_of` says.

A million events are priced in seconds only if an ordinary one, of tokens alone, takes whole numbers and
nothing else. What is not ordinary goes the way of `prices.costed`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec.structs import astuple

from ..errors import QueryError
from ..meters import Book
from ..prices import (
    TOKEN_KINDS,
    Cost,
    Counted,
    ModelPrices,
    PriceCard,
    PriceList,
    Unpriced,
    costed,
    quantities_of,
)
from ..prices.costing import LARGEST
from ._cards import NO_CURRENCY, UNPRICED, currency_of, written
from ._names import Names
from ._rows import EPOCH, MAX_COUNT, microseconds

__all__ = ["BOOKS", "EVENT_COLUMNS", "Found", "Priced", "Pricer", "others_of"]

BOOKS: Final[Mapping[Book, int]] = {"cost": 1, "credits": 2}
"""The number of each book in the tables."""

EVENT_COLUMNS: Final = "rowid, time, subject, provider, model, provenance, status, calls, payload"
"""What `Pricer` takes of an event."""

Priced = tuple[Any, ...]
"""Place, time, subject, kind, card, picos, calls, each kind of token, others: columns of `costs`."""

_PRUNED: Final = Unpriced("unknown_usage", "its body was pruned before it was priced")
_COUNTED: Final = Counted.__struct_fields__
_RARE_FROM: Final = _COUNTED.index("input_audio_tokens")
_NOTHING_RARE: Final = (None,) * (len(_COUNTED) - _RARE_FROM)
_NO_TOKENS: Final = (0,) * len(TOKEN_KINDS)
_USUAL: Final = ("input", "cache_read", "cache_write", "cache_write_1h", "output", "reasoning")
_FIRST: Final = -(1 << 62)
_LAST: Final = 1 << 62
_POSITIONS: Final = {kind: position for position, kind in enumerate(TOKEN_KINDS)}


class _Body(msgspec.Struct, gc=False):
    """An event as far as it decides what it costs."""

    data: Counted


_body = msgspec.json.Decoder(_Body)


@dataclass(slots=True)
class _Card:
    """A card, ready to be multiplied with.

    Attributes:
        name: What it is in `Names`.
        rates: In picos, by `_USUAL`; `None` where nobody knows.
        multiples: The same to multiply with: what nobody knows is more than anything may cost.
        is_plain: Whether what events have of tokens decides alone.
    """

    name: tuple[str, str]
    rates: tuple[int | None, ...]
    multiples: tuple[int, ...]
    is_plain: bool

    def rate(self, kind: str) -> int | None:
        """What one of a usual kind costs."""
        return self.rates[_USUAL.index(kind)]


@dataclass(slots=True)
class Found:
    """What a list says of a model, as long as it says so.

    Attributes:
        said: The same as the list said it.
        why: The name of the card that says why it has no price; `None` if it has one.
        since: The first microsecond of that.
        until: The first that is no longer.
        cards: By size of the input.
    """

    said: ModelPrices | Unpriced
    why: tuple[str, str] | None
    since: int
    until: int
    cards: list[tuple[int, _Card]] = field(default_factory=list)


class Pricer:
    """Prices events of one book by one list.

    Args:
        book: Which.
        prices: The list.
        cards: Numbers of texts of cards with their currencies.
        kinds: Numbers of kinds of events.
        event_type: The type of the events.

    Attributes:
        found: What the list says of each provider, model and service tier that it was asked for so
            far; of two that hold at once, the first is taken.
    """

    def __init__(
        self, book: Book, prices: PriceList, *, cards: Names, kinds: Names, event_type: str
    ) -> None:
        self._is_money = book == "cost"
        self._prices = prices
        self.cards = cards
        self.kinds = kinds
        self._type = event_type
        self.found: dict[tuple[str | None, str | None, str | None], list[Found]] = {}
        self._texts: dict[int, tuple[PriceCard, tuple[str, str]]] = {}

    def rows(self, events: Iterable[Sequence[Any]]) -> list[Priced]:
        """The rows of events, which have the columns `EVENT_COLUMNS`."""
        decode, plainly, event_type = _body.decode, self._plainly, self._type
        # No longer than for this call: behind it, what is new has other numbers.
        kinds: dict[tuple[str | None, ...], int] = {}
        rows = []
        for place, time, subject, provider, model, provenance, status, calls, payload in events:
            named = (provider, model, provenance, status)
            kind = kinds.get(named)
            if kind is None:
                texts = (event_type, *(text or "" for text in named))
                kind = kinds[named] = self.kinds.of(texts)
            try:
                counted = decode(payload).data if payload else None
            except msgspec.ValidationError as error:
                # It names the place and the types, and no value.
                rest = self._without(Unpriced("inconsistent_usage", f"its counts: {error}"))
            except (msgspec.DecodeError, RecursionError):
                rest = self._without(Unpriced("unknown_usage", "its body cannot be read"))
            else:
                if counted is None:
                    rest = self._without(_PRUNED)
                else:
                    rest = plainly(counted, time) or self._carefully(counted, time)
            card, picos, tokens, others = rest
            rows.append((place, time, subject, kind, card, picos, calls or 0, *tokens, others))
        return rows

    def _plainly(self, counted: Counted, time: int) -> tuple[Any, ...] | None:
        """An ordinary event's; `None` if it is none."""
        tokens_in, tokens_out = counted.input_tokens, counted.output_tokens
        if tokens_in is None or tokens_out is None:
            return None
        if astuple(counted)[_RARE_FROM:] != _NOTHING_RARE:
            return None
        kept = self.found.get((counted.provider, counted.model, counted.service_tier))
        # The first goes before the others that hold at the same time.
        if kept and kept[0].since <= time < kept[0].until:
            found = kept[0]
        else:
            found = self._find(counted, time)
        if not found.cards:
            return None
        card = found.cards[0][1]
        if len(found.cards) > 1:
            for above, each in found.cards[1:]:
                if tokens_in <= above:
                    break
                card = each
        if not card.is_plain:
            return None
        read = counted.cache_read_input_tokens or 0
        written_ = counted.cache_creation_input_tokens or 0
        for_an_hour = counted.cache_creation_1h_input_tokens or 0
        reasoning = counted.reasoning_output_tokens or 0
        plain_in, shortly = tokens_in - read - written_, written_ - for_an_hour
        plain_out = tokens_out - reasoning
        if plain_in < 0 or read < 0 or shortly < 0 or for_an_hour < 0:
            return None
        if plain_out < 0 or reasoning < 0:
            return None
        if not (tokens_in or tokens_out) or tokens_in > MAX_COUNT or tokens_out > MAX_COUNT:
            return None
        in_, of_read, of_written, of_an_hour, out, of_reasoning = card.multiples
        picos = plain_in * in_ + plain_out * out
        if read or written_ or reasoning:
            picos += read * of_read + shortly * of_written + for_an_hour * of_an_hour
            picos += reasoning * of_reasoning
        if picos > LARGEST:
            return None
        number = self.cards.known.get(card.name)
        if number is None:
            number = self.cards.of(card.name)
        return (
            number,
            picos,
            (plain_in, read, shortly, for_an_hour, 0, 0, 0, plain_out, reasoning, 0, 0),
            None,
        )

    def _carefully(self, counted: Counted, time: int) -> tuple[Any, ...]:
        """Any event's."""
        if not self._is_money:
            # It is money.
            counted.reported_cost = None
        try:
            cost = costed(counted, self._find(counted, time).said)
            quantities = cost.quantities if isinstance(cost, Cost) else quantities_of(counted)
        except (ArithmeticError, ValueError):
            return self._without(Unpriced("inconsistent_usage", "its counts are no finite numbers"))
        tokens = list(_NO_TOKENS)
        others: dict[str, str] = {}
        if not isinstance(quantities, Unpriced):
            for kind, amount in quantities.items():
                position = _POSITIONS.get(kind)
                if position is not None and isinstance(amount, int) and abs(amount) <= MAX_COUNT:
                    tokens[position] = amount
                else:
                    others[kind] = (
                        format(amount, "f") if isinstance(amount, Decimal) else str(amount)
                    )
        if isinstance(cost, Cost):
            number, picos = self._card_number(cost.card), cost.picos
        else:
            number, picos = self.cards.of((written(cost), UNPRICED)), None
        text = json.dumps(others, sort_keys=True, ensure_ascii=False) if others else None
        return number, picos, tuple(tokens), text

    def _without(self, why: Unpriced) -> tuple[Any, ...]:
        return self.cards.of((written(why), UNPRICED)), None, _NO_TOKENS, None

    def _card_number(self, card: PriceCard) -> int:
        return self.cards.of(self._name(card))

    def _name(self, card: PriceCard) -> tuple[str, str]:
        kept = self._texts.get(id(card))
        if kept is None or kept[0] is not card:
            currency = currency_of(card)
            if currency != NO_CURRENCY and (currency == "credits") is self._is_money:
                wanted = "money" if self._is_money else "credits"
                raise QueryError(
                    f"the list {self._prices.name} has {currency} for {card.provider} {card.model}, "
                    f"where {wanted} are wanted"
                )
            # With the card itself, whose number is another's once it is gone.
            kept = self._texts[id(card)] = (card, (written(card), currency))
        return kept[1]

    def _find(self, counted: Counted, time: int) -> Found:
        # As the ledger's columns have it, a name of no letters is none.
        key = (counted.provider or None, counted.model or None, counted.service_tier or None)
        kept = self.found.setdefault(key, [])
        for each in kept:
            if each.since <= time < each.until:
                return each
        moment = EPOCH + timedelta(microseconds=time)
        said = self._prices.find(key[0], key[1], time=moment, service_tier=key[2])
        found = Found(
            said=said,
            why=(written(said), UNPRICED) if isinstance(said, Unpriced) else None,
            since=_FIRST if said.valid_from is None else microseconds(said.valid_from),
            until=_LAST if said.valid_to is None else microseconds(said.valid_to),
        )
        if isinstance(said, ModelPrices):
            found.cards = [(card.above_input_tokens, self._ready(card)) for card in said.cards]
        kept.insert(0, found)
        return found

    def _ready(self, card: PriceCard) -> _Card:
        rates = tuple(card.picos(kind) for kind in _USUAL)
        return _Card(
            name=self._name(card),
            rates=rates,
            multiples=tuple(LARGEST + 1 if rate is None else rate for rate in rates),
            is_plain=card.price("requests") is None,
        )


def others_of(text: str | None) -> dict[str, Decimal]:
    """What `others` of a row says."""
    return (
        {} if text is None else {kind: Decimal(amount) for kind, amount in json.loads(text).items()}
    )
