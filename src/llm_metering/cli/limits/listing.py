"""`llm-metering limits list`: what everybody has left."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType

from ...cloud_events import format_time
from ...settings import load_settings
from ..common import FormatOption, HomeOption, OutputFormat, print_json, show
from ..render import plain
from ..views import remarks_view
from .common import Unburnt, burn, end, opened
from .rates import rates_of, rates_view
from .views import balances_view, reservations_view, share

if TYPE_CHECKING:
    from ...limits import Balance, Limits

__all__ = ["list_"]


class Order(StrEnum):
    """What `--by` offers."""

    USED = "used"
    SUBJECT = "subject"


def list_(
    subject: Annotated[
        str | None,
        typer.Argument(metavar="[SUBJECT]", help="Whose, instead of all.", show_default=False),
    ] = None,
    by: Annotated[
        Order,
        typer.Option("--by", help="What has the largest part used or reserved first, or by name."),
    ] = Order.USED,
    reservations: Annotated[
        bool, typer.Option("--reservations", help="Show what is reserved, too.")
    ] = False,
    home: HomeOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Show all balances, or those of one subject and how fast it may go."""
    settings = load_settings(home=home)
    with opened(settings) as limiting:
        limits = limiting.limits
        unburnt = burn(settings, limiting)
        balances = limits.balances(subject)
        held = _reservations(limits, subject) if reservations else []
        rates = None if subject is None else rates_of(settings, limits, subject)
        unknown = _unknown(limits, subject)
    if by is Order.USED:
        # Stable: those of which as much is used stay in the order of their names.
        balances.sort(key=share, reverse=True)
    if output is OutputFormat.JSON:
        report: dict[str, Any] = {
            "home": str(settings.home),
            "balances": [each.to_dict() for each in balances],
            "pending": unburnt.events,
        }
        if rates is not None:
            report["rates"] = rates
        if reservations:
            report["reservations"] = [
                {
                    **each,
                    "amount": _written(each["amount"]),
                    "ends_at": format_time(each["ends_at"]),
                }
                for each in held
            ]
        print_json(report)
    else:
        show(
            _view(
                balances,
                held if reservations else None,
                None if subject is None or rates is None else (subject, rates),
                unburnt,
                unknown,
            )
        )
    end(unburnt)


def _view(
    balances: list[Balance],
    held: list[dict[str, Any]] | None,
    rates: tuple[str, dict[str, Any]] | None,
    unburnt: Unburnt,
    unknown: list[str],
) -> Iterator[RenderableType]:
    yield from balances_view(balances, None if rates is None else rates[0])
    if rates is not None:
        yield ""
        yield from rates_view(*rates)
    if held is not None:
        yield from reservations_view(held)
    remarks = unburnt.remarks()
    if unknown:
        listed = ", ".join(map(plain, unknown))
        remarks.append(f"there are balances of features that no setting names: {listed}")
    yield from remarks_view(remarks)


def _reservations(limits: Limits, subject: str | None) -> list[dict[str, Any]]:
    found = []
    for each in limits.reservations(subject):
        feature = limits.features.get(each.key.feature)
        if feature is not None:
            found.append(
                {
                    "id": each.id,
                    "subject": each.key.subject,
                    "feature": each.key.feature,
                    "amount": feature.amount(each.steps * feature.step),
                    "ends_at": each.ends_at,
                }
            )
    return found


def _unknown(limits: Limits, subject: str | None) -> list[str]:
    """Features of accounts that the settings do not name: what is left of them cannot be worked out."""
    keys = limits.store.keys(None if subject is None else [subject])
    return sorted({key.feature for key in keys} - set(limits.features))


def _written(amount: int | Decimal) -> int | str:
    return amount if isinstance(amount, int) else f"{amount:f}"
