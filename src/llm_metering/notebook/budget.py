"""`Budget`: the money that a cell may spend, and whether a call may still be made."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from ..errors import BudgetExceededError, CallRefusedError, InvalidArgumentError, UnpricedCallError
from ..prices import Cost, PriceList, Unpriced, check_currency

__all__ = ["Budget", "Money", "Spent", "total_of"]

Money = Mapping[str, Decimal]
"""Amounts by currency."""

_WRITTEN: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+) ?([A-Za-z]{3})?", re.ASCII)
_UNKNOWN_PRICES: Final = ("unknown_model", "unknown_price")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What calls have cost that are over, added up.

    Attributes:
        calls: How many.
        amounts: What is known of it.
        unknown: The first of those without a price.
    """

    calls: int = 0
    amounts: Money = field(default_factory=dict)
    unknown: Unpriced | None = None

    def and_also(self, costs: Iterable[Cost | Unpriced]) -> Spent:
        """With further calls."""
        costs = list(costs)
        amounts = dict(self.amounts)
        for currency, amount in total_of(costs).items():
            amounts[currency] = amounts.get(currency, Decimal(0)) + amount
        unknown = self.unknown
        for cost in costs:
            if unknown is None and isinstance(cost, Unpriced) and cost.reason in _UNKNOWN_PRICES:
                unknown = cost
        return Spent(calls=self.calls + len(costs), amounts=amounts, unknown=unknown)


class Budget:
    """Money that may be spent.

    It is spent by what calls have cost that are over: the call that crosses it goes through, and so
    do those that are in flight by then.

    Args:
        text: An amount, and perhaps a currency: `0.50`, `0.50EUR`. Without one it is that of the first
            call's price.

    Attributes:
        amount: How much there is.
        currency: Of what; `None` as long as nobody knows.

    Raises:
        InvalidArgumentError: If that is no amount above 0, or no currency.
    """

    def __init__(self, text: str) -> None:
        found = _WRITTEN.fullmatch(text.strip())
        if found is None or Decimal(found[1]) == 0:
            raise InvalidArgumentError(
                f"a budget is an amount above 0, such as 0.50 or 0.50EUR, got {text!r}"
            )
        self.amount = Decimal(found[1])
        self.currency: str | None = None if found[2] is None else check_currency(found[2].upper())

    def refusal(
        self,
        provider: str | None,
        model: str | None,
        prices: PriceList,
        spent: Spent,
    ) -> CallRefusedError | None:
        """What to raise in place of a call, if it may not be made.

        Args:
            provider: Who would be asked.
            model: Which of its models.
            prices: What models cost.
            spent: What the calls that are over have cost.
        """
        try:
            found = prices.find(provider, model, time=datetime.now(UTC), service_tier=None)
        except Exception as error:
            return UnpricedCallError(
                model, f"looking for its price failed ({type(error).__name__})"
            )
        if isinstance(found, Unpriced):
            return UnpricedCallError(model, found.detail)
        currency = found.cards[0].currency
        if self.currency is None:
            self.currency = currency
        if currency != self.currency:
            why = f"its price is in {currency}, the budget in {self.currency}"
            return UnpricedCallError(model, why)
        if spent.unknown is not None:
            # The model that answered may be another than was asked for, and have no price.
            return UnpricedCallError(model, spent.unknown.detail)
        so_far = spent.amounts.get(currency, Decimal(0))
        if so_far >= self.amount:
            return BudgetExceededError(self.amount, so_far, currency)
        return None


def total_of(costs: Iterable[Cost | Unpriced]) -> dict[str, Decimal]:
    """What is known to have been spent, by currency."""
    total: dict[str, Decimal] = {}
    for cost in costs:
        # What cost nothing is of no currency in particular.
        if isinstance(cost, Cost) and cost.picos:
            total[cost.currency] = total.get(cost.currency, Decimal(0)) + cost.amount
    return total
