"""What the commands about prices share."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..periods import moment_of
from ..render import UNKNOWN, Listing, plain

if TYPE_CHECKING:
    from ...prices import ModelPrices, PriceCard, PriceList
    from ...settings import Settings

__all__ = [
    "AtOption",
    "ProviderOption",
    "TierOption",
    "card_json",
    "cards_view",
    "configured_prices",
    "moment_at",
    "version_of",
    "written",
]

AtOption = Annotated[
    str | None,
    typer.Option("--at", metavar="TIME", help="When; now by default.", show_default=False),
]
ProviderOption = Annotated[
    str | None,
    typer.Option("--provider", metavar="PROVIDER", help="Whose model it is.", show_default=False),
]
TierOption = Annotated[
    str | None,
    typer.Option(
        "--tier", metavar="TIER", help="On this service tier, such as batch.", show_default=False
    ),
]


def configured_prices(settings: Settings) -> PriceList:
    """The price list that the settings name."""
    from ...prices.opening import open_prices

    return open_prices(settings.prices, settings.price_source)


def version_of(prices: PriceList) -> str:
    """What the list is called, and the version of its contents."""
    return prices.version if prices.name in prices.version else f"{prices.name} {prices.version}"


def moment_at(text: str | None) -> datetime:
    """The moment that `--at` names, now without it."""
    now = datetime.now(UTC)
    return moment_of("--at", text, UTC, now) or now


def written(number: Decimal) -> str:
    """A number by its digits, without zeros at its end.

    >>> written(Decimal("2.500")), written(Decimal("1E+1")), written(Decimal("0.0"))
    ('2.5', '10', '0')
    """
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _prices(card: PriceCard) -> tuple[dict[str, str], dict[str, str]]:
    """Of a million tokens, and of one of anything else."""
    from ...prices import TOKEN_KINDS

    tokens = {
        kind: written(card.rates[kind] * 1_000_000) for kind in TOKEN_KINDS if kind in card.rates
    }
    units = {kind: written(rate) for kind, rate in card.rates.items() if kind not in TOKEN_KINDS}
    return tokens, units


def card_json(card: PriceCard, prices: ModelPrices | None = None) -> dict[str, Any]:
    """A card in what a program reads; prices are strings of decimals."""
    tokens, units = _prices(card)
    start = prices.valid_from if prices else card.effective_from
    end = prices.valid_to if prices else None
    return {
        "provider": card.provider,
        "model": card.model,
        "serviceTier": card.service_tier,
        "aboveInputTokens": card.above_input_tokens,
        "currency": card.currency,
        "perMillion": tokens,
        "perUnit": units,
        "validFrom": start.isoformat() if start else None,
        "validTo": end.isoformat() if end else None,
        "isOwn": bool(prices and prices.is_own),
        "source": card.source,
    }


def cards_view(cards: Iterable[PriceCard]) -> Listing:
    """Cards for people."""
    titles = ("provider", "model", "tier", "above", "per million", "per unit", "", "source")
    rows = []
    for card in cards:
        tokens, units = _prices(card)
        cells = (
            card.provider,
            card.model,
            card.service_tier or UNKNOWN,
            str(card.above_input_tokens or UNKNOWN),
            ", ".join(f"{kind} {price}" for kind, price in tokens.items()) or UNKNOWN,
            ", ".join(f"{kind} {price}" for kind, price in units.items()) or UNKNOWN,
            card.currency,
            card.source or UNKNOWN,
        )
        rows.append(tuple(map(plain, cells)))
    return Listing(titles, (), rows, lead=2)
