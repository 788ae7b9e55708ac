"""`PriceCard`: what each kind of token costs, for calls of one model, time, tier and size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from ..errors import PriceError
from .currencies import check_currency
from .kinds import INSTEAD

__all__ = ["CREDITS", "MILLION", "PICO", "PriceCard"]

CREDITS: Final = "credits"
"""Stands for a currency on cards that say what a token is worth, not what it costs."""

MILLION: Final = Decimal(1_000_000)

PICO: Final = Decimal("1E-12")
"""Costs are whole numbers of these of a currency's unit, so that they are added up exactly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceCard:
    """What one token of each kind, or one unit, costs.

    >>> card = PriceCard.per_million("anthropic", "claude-x", {"input": "3", "output": "15"})
    >>> card.price("reasoning")
    Decimal('0.000015')

    Attributes:
        provider: Whose model it is, as the price list calls it.
        model: The model, as the price list calls it.
        rates: The price of one, by kind of token (`TOKEN_KINDS`), measure or unit.
        currency: Of the rates, by ISO 4217, or `credits`.
        service_tier: The tier of calls that it is for, such as `batch`; `None` is the usual one.
        above_input_tokens: The calls that it is for have more input than this.
        effective_from: Since when it holds, in UTC; `None` is always.
        source: Where the prices come from, such as a URL or the name of a file.

    Raises:
        PriceError: If a price is no finite number from 0 or has more than 12 decimals, or the
            currency is none.
    """

    provider: str
    model: str
    rates: Mapping[str, Decimal] = field(hash=False)
    currency: str = "USD"
    service_tier: str | None = None
    above_input_tokens: int = 0
    effective_from: datetime | None = None
    source: str = ""
    _picos: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.currency != CREDITS:
            check_currency(self.currency)
        picos = {}
        for kind, rate in self.rates.items():
            if not isinstance(rate, Decimal) or not rate.is_finite() or rate < 0:
                raise PriceError(f"{kind}: a price is a number from 0, got {rate!r}")
            in_picos = rate / PICO
            if in_picos != (whole := int(in_picos)):
                raise PriceError(f"{kind}: a price of one has at most 12 decimals, got {rate}")
            picos[kind] = whole
        object.__setattr__(self, "rates", MappingProxyType(dict(self.rates)))
        object.__setattr__(self, "_picos", picos)

    @classmethod
    def per_million(
        cls,
        provider: str,
        model: str,
        prices: Mapping[str, Decimal | str],
        *,
        currency: str = "USD",
    ) -> PriceCard:
        """A card of prices per million tokens."""
        rates = {kind: Decimal(price) / MILLION for kind, price in prices.items()}
        return cls(provider=provider, model=model, rates=rates, currency=currency)

    def price(self, kind: str) -> Decimal | None:
        """What one of a kind costs; `None` if nobody knows."""
        return self.rates.get(kind, self.rates.get(INSTEAD.get(kind, kind)))

    def picos(self, kind: str) -> int | None:
        """The same as a whole number of `PICO`."""
        return self._picos.get(kind, self._picos.get(INSTEAD.get(kind, kind)))
