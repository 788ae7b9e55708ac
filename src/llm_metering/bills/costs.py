"""What providers charge, on a bill."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, Literal

from ..prices import Charge, PriceCard, Unpriced
from .beside import CostLine, KindCost, Margin, UnpricedUsage
from .rounding import EXACT, decimal_of

__all__ = ["cost_lines", "margin_of", "unpriced_usage"]

_PICO: Final = -12


def cost_lines(charges: Iterable[Charge]) -> tuple[CostLine, ...]:
    """What the providers charge: a line for each model and price, by name."""
    # By the same card first, since most charges of a model share it and keys are long.
    alike: dict[tuple[Any, ...], list[Charge]] = {}
    for charge in charges:
        # Nothing was used, by calls that a cache answered: that has no currency either.
        if isinstance(charge.price, PriceCard) and (charge.quantities or charge.picos):
            short = charge.provider or "", charge.model or "", id(charge.price)
            alike.setdefault(short, []).append(charge)
    found: dict[tuple[Any, ...], list[Charge]] = {}
    for (provider, model, _), some in alike.items():
        found.setdefault(_key(provider, model, some[0].price), []).extend(some)
    return tuple(_line(found[key]) for key in sorted(found))


def _key(provider: str, model: str, card: PriceCard | Unpriced) -> tuple[Any, ...]:
    assert isinstance(card, PriceCard)
    since = card.effective_from
    return (
        *(provider, model, card.currency, card.source),
        *(card.service_tier or "", card.above_input_tokens, since.isoformat() if since else ""),
        *(card.provider, card.model),
        tuple(sorted((kind, str(rate)) for kind, rate in card.rates.items())),
    )


def _line(charges: Sequence[Charge]) -> CostLine:
    [first, *_] = charges
    card = first.price
    assert isinstance(card, PriceCard)
    quantities = _added(charges)
    kinds = []
    for kind, quantity in quantities.items():
        price = card.price(kind)
        amount = None if price is None else EXACT.multiply(quantity, price).normalize(EXACT)
        kinds.append(
            KindCost(
                kind=kind,
                quantity=quantity,
                price=None if price is None else price.normalize(EXACT),
                amount=amount,
            )
        )
    return CostLine(
        provider=first.provider,
        model=first.model,
        service_tier=card.service_tier,
        above_input_tokens=card.above_input_tokens,
        source=card.source,
        effective_from=card.effective_from,
        currency=card.currency,
        calls=sum(charge.calls for charge in charges),
        events=sum(charge.events for charge in charges),
        kinds=tuple(kinds),
        amount=Decimal(sum(charge.picos or 0 for charge in charges))
        .scaleb(_PICO, EXACT)
        .normalize(EXACT),
    )


def _added(charges: Iterable[Charge]) -> dict[str, Decimal]:
    whole: dict[str, int] = {}
    broken: dict[str, Decimal] = {}
    for charge in charges:
        for kind, quantity in charge.quantities.items():
            # Nearly all are whole, and added up in a tenth of the time.
            if isinstance(quantity, int):
                whole[kind] = whole.get(kind, 0) + quantity
            else:
                broken[kind] = EXACT.add(broken.get(kind, 0), quantity)
    return {
        kind: EXACT.add(whole.get(kind, 0), broken.get(kind, 0)).normalize(EXACT)
        for kind in sorted(whole.keys() | broken.keys())
    }


def unpriced_usage(
    charges: Sequence[Charge], of: Literal["cost", "credits"], events: int = 0
) -> tuple[UnpricedUsage, ...]:
    """What has no price, by name; what was never looked at comes last.

    Args:
        charges: What was worked out.
        of: What it is missing.
        events: How many events there are.
    """
    found: dict[tuple[str, ...], list[Charge]] = {}
    for charge in charges:
        if isinstance(charge.price, Unpriced):
            names = (charge.provider, charge.model, charge.provenance)
            why = (charge.price.reason, charge.price.detail)
            found.setdefault((*(name or "" for name in names), *why), []).append(charge)
    listed = [_unpriced(found[key], of) for key in sorted(found)]
    left = events - sum(charge.events for charge in charges)
    if left > 0:
        unlooked = Unpriced(
            "not_priced", "recorded after these prices were worked out, or never priced"
        )
        listed.append(
            UnpricedUsage(
                of=of,
                provider=None,
                model=None,
                provenance=None,
                why=unlooked,
                calls=None,
                events=left,
                quantities={},
            )
        )
    return tuple(listed)


def _unpriced(charges: Sequence[Charge], of: Literal["cost", "credits"]) -> UnpricedUsage:
    [first, *_] = charges
    assert isinstance(first.price, Unpriced)
    return UnpricedUsage(
        of=of,
        provider=first.provider,
        model=first.model,
        provenance=first.provenance,
        why=first.price,
        calls=sum(charge.calls for charge in charges),
        events=sum(charge.events for charge in charges),
        quantities=_added(charges),
    )


def margin_of(
    total: Decimal, currency: str, costs: Sequence[CostLine], unpriced: Sequence[UnpricedUsage]
) -> Margin:
    """What is left of a total; or why nobody can say.

    Args:
        total: What the customer owes.
        currency: In which currency.
        costs: What the providers charge.
        unpriced: What has no price.
    """
    currencies = sorted({line.currency for line in costs})
    if any(each.of == "cost" for each in unpriced):
        return Margin(why_not="some usage has no price, so the cost is that of the rest")
    if currencies and currencies != [currency]:
        return Margin(why_not=f"the cost is in {' and '.join(currencies)}, the bill in {currency}")
    cost = Decimal(0)
    for line in costs:
        cost = EXACT.add(cost, line.amount)
    left = Fraction(total) - Fraction(cost)
    percent = None
    if total:
        percent = Decimal(round(left / Fraction(total) * 10_000)).scaleb(-2)
    return Margin(amount=decimal_of(left), percent=percent)
