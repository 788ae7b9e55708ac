"""`llm-metering limits set`: how fast a subject may go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from ...errors import InvalidArgumentError
from ...settings import Settings, load_settings
from ..common import FormatOption, HomeOption, OutputFormat, print_json, show
from ..render import plain
from .common import opened, say_what_is_new

if TYPE_CHECKING:
    from ...limits import Limits

__all__ = ["rates_of", "rates_view", "set_"]

_KINDS = ("requests", "tokens")


def set_(
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="Who.")],
    requests: Annotated[
        int | None,
        typer.Option(
            "--requests-per-minute",
            metavar="NUMBER",
            min=0,
            help="How many calls it may begin a minute; 0 goes back to what the settings say.",
            show_default=False,
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(
            "--tokens-per-minute",
            metavar="NUMBER",
            min=0,
            help="How many tokens, likewise.",
            show_default=False,
        ),
    ] = None,
    clear: Annotated[
        bool, typer.Option("--clear", help="Go back to what the settings say, for both.")
    ] = False,
    home: HomeOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Say how much a subject may begin a minute, where calls are held to limits."""
    from ...limiting import are_limits_on

    if clear == (requests is not None or tokens is not None):
        raise InvalidArgumentError(
            "say --requests-per-minute, --tokens-per-minute or both; or --clear"
        )
    settings = load_settings(home=home)
    was_on = are_limits_on(settings)
    with opened(settings) as limiting:
        limits = limiting.limits
        now = limits.store.terms(subject)
        limits.set_rates(
            subject,
            requests_per_minute=_chosen(requests, now.requests_per_minute, clear=clear),
            tokens_per_minute=_chosen(tokens, now.tokens_per_minute, clear=clear),
        )
        rates = rates_of(settings, limits, subject)
    say_what_is_new(settings, was_on=was_on)
    if output is OutputFormat.JSON:
        print_json({"home": str(settings.home), "subject": subject, "rates": rates})
    else:
        show(rates_view(subject, rates))


def rates_of(settings: Settings, limits: Limits, subject: str) -> dict[str, Any]:
    """How much a subject may begin a minute, as JSON has it; `None` is as much as it likes."""
    terms = limits.store.terms(subject)
    rates: dict[str, Any] = {}
    for kind in _KINDS:
        own = getattr(terms, f"{kind}_per_minute")
        holds = own if own is not None else getattr(settings, f"{kind}_per_minute")
        rates[f"{kind}_per_minute"] = holds
        rates[f"{kind}_from"] = "subject" if own is not None else "settings"
    return rates


def rates_view(subject: str, rates: Mapping[str, Any]) -> Iterator[RenderableType]:
    """How fast a subject may go, in a line for each kind."""
    for kind in _KINDS:
        holds = rates[f"{kind}_per_minute"]
        if holds is None:
            yield Text(f"{plain(subject)} may begin any number of {kind} a minute")
        else:
            origin = "" if rates[f"{kind}_from"] == "subject" else ", by the settings"
            yield Text(f"{plain(subject)} may begin {holds:,} {kind} a minute{origin}")


def _chosen(given: int | None, now: int | None, *, clear: bool) -> int | None:
    if clear:
        return None
    return now if given is None else given or None
