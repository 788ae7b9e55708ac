"""`llm-metering balance`: what a subject has left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import RenderableType
from rich.text import Text

from ...settings import Settings, load_settings
from ..common import FormatOption, HomeOption, OutputFormat, print_json, show
from ..render import plain
from ..views import remarks_view
from .common import UnitOption, burn, end, opened
from .views import balance_view

if TYPE_CHECKING:
    from ...limits import Limits

__all__ = ["balance"]

TOO_LITTLE: Final = 1
"""Exit code: less is available than `--check` asks for."""


def balance(
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="Who.")],
    unit: UnitOption = "tokens",
    check: Annotated[
        str | None,
        typer.Option(
            "--check",
            metavar="AMOUNT",
            help="Exit code 1 if less is available.",
            show_default=False,
        ),
    ] = None,
    home: HomeOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Show what a subject was granted, what it has used and what is left of each grant."""
    settings = load_settings(home=home)
    with opened(settings) as limiting:
        limits = limiting.limits
        feature = limits.feature(unit)
        wanted = None if check is None else feature.amount(feature.parts(check))
        unburnt = burn(settings, limiting)
        found = limits.balance(subject, unit)
        others = sorted(key.feature for key in limits.store.keys([subject]))
    if output is OutputFormat.JSON:
        print_json({**found.to_dict(), "pending": unburnt.events})
    elif unit in others:
        show([*balance_view(found), *remarks_view(unburnt.remarks())])
    else:
        show([*_nothing(settings, subject, limits, unit, others), *remarks_view(unburnt.remarks())])
    if wanted is not None and found.available < wanted:
        raise typer.Exit(TOO_LITTLE)
    end(unburnt)


def _nothing(
    settings: Settings, subject: str, limits: Limits, unit: str, others: list[str]
) -> Iterator[RenderableType]:
    """The answer about one who was never granted any of it."""
    name = plain(subject)
    if others:
        listed = ", ".join(map(plain, others))
        yield Text(f"{name} was granted no {plain(unit)}; it has a balance of: {listed}")
        return
    yield Text(f"{name} was granted nothing yet")
    if settings.default_grant is not None:
        yield Text(f"Its first call that is checked brings it {settings.default_grant}")
