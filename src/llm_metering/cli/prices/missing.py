"""`llm-metering prices missing`: the models that were used and have no price."""

from __future__ import annotations

from typing import Any

import typer

from ...settings import load_settings
from ..common import FormatOption, HomeOption, OutputFormat, exists, print_json, show, take_in
from ..render import UNKNOWN, Listing, amount, plain
from ..views import nothing_recorded
from .common import AtOption, configured_prices, moment_at, version_of

__all__ = ["missing"]

_PATIENCE = 10.0
_KEYS = ("provider", "model", "service_tier")


def missing(
    at: AtOption = None, home: HomeOption = None, output: FormatOption = OutputFormat.TABLE
) -> None:
    """Show the models with usage in the ledger that have no price; exit code 1 if there is one."""
    settings = load_settings(home=home)
    moment = moment_at(at)
    prices = configured_prices(settings)
    has_usage = False
    found: list[dict[str, Any]] = []
    if exists(settings.home):
        # Imported here, so that `--help` and a mistyped option answer at once.
        from ...ledger import Ledger
        from ...meters import usage_query
        from ...prices import ModelPrices

        take_in(settings, _PATIENCE)
        query = usage_query("calls_total", group_by=_KEYS)
        for row in Ledger(settings.home / "ledger.db").query(query):
            has_usage = True
            provider, model, tier = (row.group_by[key] for key in _KEYS)
            price = prices.find(provider, model, time=moment, service_tier=tier)
            if not isinstance(price, ModelPrices):
                names = {"provider": provider, "model": model, "serviceTier": tier}
                why = {"reason": price.reason, "detail": price.detail}
                found.append({**names, "calls": row.value, **why})
        found.sort(key=lambda each: -each["calls"])
    if output is OutputFormat.JSON:
        print_json({"version": version_of(prices), "missing": found})
    elif not has_usage:
        show([nothing_recorded(settings.home)])
    else:
        show([_view(found)] if found else [])
    if found:
        raise typer.Exit(1)


def _view(found: list[dict[str, Any]]) -> Listing:
    names = ("provider", "model", "serviceTier")
    rows = [
        (
            *(plain(each[name] or UNKNOWN) for name in names),
            plain(each["detail"]),
            amount(each["calls"]),
        )
        for each in found
    ]
    return Listing(("provider", "model", "tier", "why"), ("calls",), rows)
