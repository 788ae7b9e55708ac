"""`llm-metering prices explain`: how the cost of a call comes about."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.text import Text

from ...errors import ConfigurationError, LedgerError
from ...settings import load_settings
from ..common import FormatOption, HomeOption, OutputFormat, exists, print_json, show, take_in
from ..render import Listing, plain
from .common import (
    AtOption,
    ProviderOption,
    TierOption,
    card_json,
    cards_view,
    configured_prices,
    moment_at,
    version_of,
    written,
)

if TYPE_CHECKING:
    from ...prices import Cost, ModelPrices, Unpriced
    from ...settings import Settings

__all__ = ["explain"]

_PATIENCE = 10.0


def explain(
    event: Annotated[
        str | None,
        typer.Argument(
            metavar="EVENT", help="The id of an event in the ledger.", show_default=False
        ),
    ] = None,
    provider: ProviderOption = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="The model.", show_default=False),
    ] = None,
    tier: TierOption = None,
    at: AtOption = None,
    count: Annotated[
        list[str] | None,
        typer.Option(
            "--count",
            metavar="NAME=N",
            help="How much of what, as events have it: input_tokens=1000; may be repeated.",
            show_default=False,
        ),
    ] = None,
    home: HomeOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Show which price a call has, where it comes from, and how its cost comes about; exit code 1 if it has none."""
    # Imported here, so that `--help` and a mistyped option answer at once.
    from ...prices import Cost, Counted
    from ...prices.costing import costed

    settings = load_settings(home=home)
    if event is not None and (provider or model or tier or at or count):
        raise ConfigurationError("EVENT", "its event says the rest, so leave the options out")
    if event is None and model is None:
        raise ConfigurationError("explain", "the id of an event is wanted, or --model and --count")
    if event is not None:
        data, moment = _event(settings, event)
    else:
        data = {"provider": provider, "model": model, "service_tier": tier, **_counts(count or [])}
        moment = moment_at(at)
    known = {key: value for key, value in data.items() if value is not None}
    counted = msgspec.convert(known, Counted)
    prices = configured_prices(settings)
    found = prices.find(
        counted.provider, counted.model, time=moment, service_tier=counted.service_tier
    )
    cost = costed(counted, found)
    if output is OutputFormat.JSON:
        print_json(_json(counted, moment, found, cost, version_of(prices)))
    else:
        show(_view(counted, moment, found, cost, version_of(prices)))
    if not isinstance(cost, Cost):
        raise typer.Exit(1)


def _event(settings: Settings, name: str) -> tuple[Mapping[str, Any], datetime]:
    from ...ledger import Ledger

    if exists(settings.home):
        take_in(settings, _PATIENCE)
    ledger = Ledger(settings.home / "ledger.db")
    for source in ledger.sources():
        payload = ledger.payloads([name], source=source).get(name)
        if payload is not None:
            event = msgspec.json.decode(payload)
            return event["data"], datetime.fromisoformat(event["time"])
    raise LedgerError(f"there is no event {name!r} in the ledger, or its body was pruned")


def _counts(given: list[str]) -> dict[str, Any]:
    from ...prices import Counted

    texts = ("provider", "model", "operation", "service_tier", "provenance", "status", "unit")
    known = [name for name in Counted.__struct_fields__ if name not in texts]
    counts: dict[str, Any] = {}
    for each in given:
        name, _, number = each.partition("=")
        if name not in known:
            raise ConfigurationError(
                "--count", f"there is no {name!r}; there are {', '.join(known)}"
            )
        if not number.isascii() or not number.isdecimal():
            raise ConfigurationError("--count", f"{name}=N is wanted, with a number, got {each!r}")
        counts[name] = int(number)
    return counts


def _steps(cost: Cost) -> list[tuple[str, str, str, str]]:
    """Each kind: how much of it there is, what one costs, and what all of it costs."""
    steps = []
    for kind, amount in cost.quantities.items():
        price = cost.card.price(kind) or Decimal(0)
        total = written(Decimal(amount) * price)
        steps.append((kind, str(amount), written(price), total))
    return steps


def _json(
    counted: Any,
    moment: datetime,
    found: ModelPrices | Unpriced,
    cost: Cost | Unpriced,
    version: str,
) -> dict[str, Any]:
    from ...prices import ModelPrices, Unpriced

    answer: dict[str, Any] = {
        "provider": counted.provider,
        "model": counted.model,
        "serviceTier": counted.service_tier,
        "time": moment.isoformat(),
        "version": version,
    }
    if isinstance(cost, Unpriced):
        return {**answer, "unpriced": {"reason": cost.reason, "detail": cost.detail}}
    bounds = found if isinstance(found, ModelPrices) and cost.card in found.cards else None
    names = ("kind", "quantity", "price", "cost")
    return {
        **answer,
        "card": card_json(cost.card, bounds),
        "lines": [dict(zip(names, step, strict=True)) for step in _steps(cost)],
        "cost": written(cost.amount),
        "currency": cost.currency,
    }


def _view(
    counted: Any,
    moment: datetime,
    found: ModelPrices | Unpriced,
    cost: Cost | Unpriced,
    version: str,
) -> list[Any]:
    from ...prices import ModelPrices, Unpriced

    who = plain(f"{counted.provider or '?'} {counted.model or '?'}")
    head = Text(f"{who} at {moment:%Y-%m-%d %H:%M:%S} UTC, by {plain(version)}")
    if isinstance(cost, Unpriced):
        return [head, Text(f"no price: {plain(cost.detail)} ({cost.reason})")]
    parts: list[Any] = [head, Text()]
    if isinstance(found, ModelPrices) and cost.card in found.cards:
        own = " (your own)" if found.is_own else ""
        since = f"since {found.valid_from:%Y-%m-%d %H:%M}" if found.valid_from else "always"
        until = f" until {found.valid_to:%Y-%m-%d %H:%M}" if found.valid_to else ""
        parts += [cards_view([cost.card]), Text(f"holds {since}{until}{own}"), Text()]
    else:
        parts += [Text(cost.card.source), Text()]
    total = ("", "", "", f"{written(cost.amount)} {cost.currency}")
    rows = [tuple(map(plain, step)) for step in _steps(cost)]
    return [*parts, Listing(("kind",), ("quantity", "price of one", "cost"), rows, total)]
