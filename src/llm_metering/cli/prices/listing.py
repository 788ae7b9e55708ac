"""`llm-metering prices list`: what models cost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ...settings import load_settings
from ..common import FormatOption, OutputFormat, console, print_json, show
from ..render import plain
from .common import (
    AtOption,
    ProviderOption,
    TierOption,
    card_json,
    cards_view,
    configured_prices,
    moment_at,
    version_of,
)

if TYPE_CHECKING:
    from ...prices import ModelPrices, PriceList, Unpriced

__all__ = ["list_"]


def list_(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL", help="These alone, such as openai/gpt-5.", show_default=False
        ),
    ] = None,
    provider: ProviderOption = None,
    tier: TierOption = None,
    at: AtOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Show what models cost, by your own prices and then by others; exit code 1 if one has no price."""
    settings = load_settings()
    moment = moment_at(at)
    prices = configured_prices(settings)
    found = list(_found(prices, models or [], provider, tier, moment))
    from ...prices import ModelPrices

    priced = [each for _, each in found if isinstance(each, ModelPrices)]
    unpriced = [(name, each) for name, each in found if not isinstance(each, ModelPrices)]
    if output is OutputFormat.JSON:
        print_json(
            {
                "version": version_of(prices),
                "prices": [card_json(card, each) for each in priced for card in each.cards],
                "unpriced": [
                    {"model": name, "reason": each.reason, "detail": each.detail}
                    for name, each in unpriced
                ],
            }
        )
    else:
        if priced:
            show([cards_view(card for each in priced for card in each.cards)])
        if not found:
            # A mistyped name, or price files without a price (of credits, of aliases).
            whose = f" of provider {plain(provider)}" if provider else ""
            console(stderr=True).print(f"{plain(prices.name)}: no price{whose}")
        for name, each in unpriced:
            console(stderr=True).print(f"no price for {plain(name)}: {plain(each.detail)}")
    if unpriced:
        raise typer.Exit(1)


def _found(
    prices: PriceList, names: list[str], provider: str | None, tier: str | None, moment: datetime
) -> Iterator[tuple[str, ModelPrices | Unpriced]]:
    from ...prices import ModelPrices
    from ...prices.names import names_of
    from ...prices.opening import models_of
    from ...prices.providers import provider_names

    known = list(dict.fromkeys(models_of(prices)))
    if provider is not None:
        mine = provider_names(provider)
        known = [each for each in known if set(provider_names(each[0])) & set(mine)]
    if not names:
        for who, model in known:
            each = prices.find(who, model, time=moment, service_tier=tier)
            # All that there are on a tier, not all that there are and are not on it.
            if isinstance(each, ModelPrices):
                yield f"{who} {model}", each
    for name in names:
        sellers = [who for who, model in known if model.lower() == name.lower()]
        if provider is not None or names_of(None, name).providers or not sellers:
            yield name, prices.find(provider, name, time=moment, service_tier=tier)
            continue
        for who in sellers:
            yield f"{who} {name}", prices.find(who, name, time=moment, service_tier=tier)
