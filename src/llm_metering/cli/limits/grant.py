"""`llm-metering grant`: let a subject use something, or take back what is left."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import typer

from ...errors import InvalidArgumentError
from ...meters import time_zone_of
from ...settings import load_settings
from ..common import FormatOption, HomeOption, OutputFormat, print_json, show
from ..periods import moment_of
from ..render import amount as shown
from ..render import plain
from ..views import remarks_view
from .common import UnitOption, burn, end, opened, say_what_is_new
from .views import balance_view, when

if TYPE_CHECKING:
    from ...limits import Feature, GrantBalance, Interval, Limits, Recurrence

__all__ = ["grant"]

NO_SUCH_GRANT: Final = 1
"""Exit code: there is no such grant, or it has ended."""


class Every(StrEnum):
    """How often something comes again."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


def grant(
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="Who.")],
    amount: Annotated[
        str | None,
        typer.Argument(metavar="[AMOUNT]", help="How much, above 0.", show_default=False),
    ] = None,
    unit: UnitOption = "tokens",
    priority: Annotated[
        int | None,
        typer.Option(
            "--priority",
            metavar="NUMBER",
            help="Which of several is used first: from 1 to 255, the lower the sooner; 100 by default.",
            show_default=False,
        ),
    ] = None,
    every: Annotated[
        Every | None,
        typer.Option(
            "--every",
            case_sensitive=False,
            help="How often it is all there again.",
            show_default=False,
        ),
    ] = None,
    period: Annotated[
        Every | None,
        typer.Option(
            "--period",
            case_sensitive=False,
            help="How often use is counted anew; said with a subject's first grant, as --every by "
            "default.",
            show_default=False,
        ),
    ] = None,
    anchor: Annotated[
        str | None,
        typer.Option(
            "--anchor",
            metavar="TIME",
            help="A moment at which that is; from when on it holds by default.",
            show_default=False,
        ),
    ] = None,
    time_zone: Annotated[
        str,
        typer.Option("--time-zone", metavar="ZONE", help="Whose days these are: a name of IANA."),
    ] = "UTC",
    effective: Annotated[
        str | None,
        typer.Option(
            "--effective",
            metavar="TIME",
            help="From when on; now by default. A day, a month (2026-11), today, or ISO 8601 with "
            "offset.",
            show_default=False,
        ),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires",
            metavar="TIME",
            help="The first moment at which it can no longer be used.",
            show_default=False,
        ),
    ] = None,
    min_rollover: Annotated[
        str | None,
        typer.Option(
            "--min-rollover",
            metavar="AMOUNT",
            help="How much there is at least when a usage period begins.",
            show_default=False,
        ),
    ] = None,
    max_rollover: Annotated[
        str | None,
        typer.Option(
            "--max-rollover",
            metavar="AMOUNT",
            help="How much is kept at most from one usage period to the next; by default nothing of "
            "what comes again, and all of what does not.",
            show_default=False,
        ),
    ] = None,
    soft_limit: Annotated[
        bool | None,
        typer.Option(
            "--soft-limit/--hard-limit",
            help="Whether calls go on when nothing is left; by default it stays as it is, at first "
            "hard.",
            show_default=False,
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            metavar="KEY",
            help="The grant of one key is made once, however often you ask.",
            show_default=False,
        ),
    ] = None,
    void: Annotated[
        str | None,
        typer.Option(
            "--void",
            metavar="GRANT",
            help="Instead of making one: take back what is left of this grant.",
            show_default=False,
        ),
    ] = None,
    home: HomeOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Let a subject use so much, or take a grant back; then show its balance."""
    asked: dict[str, Any] = {
        "priority": priority,
        "min_rollover": min_rollover,
        "max_rollover": max_rollover,
        "soft_limit": soft_limit,
        "key": key,
    }
    terms = {name: value for name, value in asked.items() if value is not None}
    if void is not None and (terms or any((amount, every, period, anchor, effective, expires))):
        raise InvalidArgumentError("--void takes a grant back; it goes with --unit alone")
    if void is None and amount is None:
        raise InvalidArgumentError("say how much: llm-metering grant SUBJECT AMOUNT")
    # Before anything is done, so that a mistyped moment is no half of a grant.
    terms |= _times(time_zone_of(time_zone), time_zone, every, period, anchor, effective, expires)
    settings = load_settings(home=home)
    from ...limiting import are_limits_on

    was_on = are_limits_on(settings)
    with opened(settings) as limiting:
        limits = limiting.limits
        limits.feature(unit)
        if void is None and not was_on:
            _check_first(limits.feature(unit), cast("str", amount), terms)
        # What was used before is burnt before: a grant is for what comes behind it.
        unburnt = burn(settings, limiting)
        if void is None:
            made = limits.grant(subject, cast("str", amount), unit, **terms)
            done: dict[str, Any] = {"grant": made.to_dict()}
            said, is_done = _granted(subject, made, limits, unit), True
        else:
            is_done = limits.void_grant(subject, void, unit)
            done = {"void": void, "voided": is_done}
            said = _voided(subject, void, is_done=is_done)
        balance = limits.balance(subject, unit)
    if void is None:
        say_what_is_new(settings, was_on=was_on)
    if output is OutputFormat.JSON:
        print_json(
            {
                "home": str(settings.home),
                **done,
                "balance": balance.to_dict(),
                "pending": unburnt.events,
            }
        )
    else:
        show([said, "", *balance_view(balance), *remarks_view(unburnt.remarks())])
    if not is_done:
        raise typer.Exit(NO_SUCH_GRANT)
    end(unburnt)


def _check_first(feature: Feature, amount: str, terms: Mapping[str, Any]) -> None:
    """Refuse what the store would, before there is a store: a slip must not switch limits on.

    Raises:
        InvalidArgumentError: As `Limits.grant`.
    """
    from ...limits import Grant

    now = datetime.now(UTC)
    parts = feature.parts(amount)
    lowest = feature.parts(terms.get("min_rollover", 0))
    Grant(
        id="first",
        amount=parts,
        priority=terms.get("priority", 100),
        created_at=now,
        effective_at=terms.get("effective_at", now),
        expires_at=terms.get("expires_at"),
        min_rollover=lowest,
        max_rollover=feature.parts(terms["max_rollover"])
        if "max_rollover" in terms
        else max(lowest, parts),
    )


def _times(
    zone: tzinfo,
    zone_name: str,
    every: Every | None,
    period: Every | None,
    anchor: str | None,
    effective: str | None,
    expires: str | None,
) -> Mapping[str, Any]:
    """The arguments of a grant that are moments, or come again."""
    now = datetime.now(UTC)
    first = moment_of("--effective", effective, zone, now)
    anchored = moment_of("--anchor", anchor, zone, now)
    if anchored is not None and every is None and period is None:
        raise InvalidArgumentError("--anchor says when something comes again; say --every as well")
    terms = {
        "effective_at": first,
        "expires_at": moment_of("--expires", expires, zone, now),
        "recurrence": _recurrence(every, anchored or first, zone_name, now),
        "usage_period": _recurrence(period, anchored or first, zone_name, now),
    }
    return {name: value for name, value in terms.items() if value is not None}


def _recurrence(
    every: Every | None, anchor: datetime | None, zone: str, now: datetime
) -> Interval | Recurrence | None:
    from ...limits import Recurrence

    if every is None:
        return None
    interval = cast("Interval", every.name)
    if anchor is None and zone == "UTC":
        # From when on it holds, by the clock of the store.
        return interval
    return Recurrence(interval=interval, anchor=anchor or now, time_zone=zone)


def _granted(subject: str, made: GrantBalance, limits: Limits, unit: str) -> str:
    what = f"{shown(made.amount)} {limits.feature(unit).shown}"
    terms = when(made, datetime.now(UTC))
    return f"{plain(subject)} is granted {what}{f', {terms}' if terms else ''}: {plain(made.id)}"


def _voided(subject: str, grant: str, *, is_done: bool) -> str:
    if is_done:
        return f"What was left of {plain(grant)} is taken back"
    return f"{plain(subject)} has no grant {plain(grant)} that could be taken back"
