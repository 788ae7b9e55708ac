"""`llm-metering usage`: who used how much."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Final, Protocol, TypedDict

import typer
from rich.console import RenderableType

from ..errors import LedgerError
from ..meters import UsageReport, usage_query
from ..settings import Settings, load_settings
from .common import (
    FormatOption,
    HomeOption,
    OutputFormat,
    existing_spool,
    exists,
    print_json,
    show,
)
from .tally import CALLS, call_notes, delivery_notes, key_notes, tally, total_notes, totals
from .views import no_usage_found, nothing_recorded, remarks_view, usage_view

__all__ = ["moment", "usage", "usage_table"]

DEFAULT_METER: Final = "tokens_total"
COLUMNS: Final = {
    "tokens_input": "input",
    "tokens_output": "output",
    "tokens_cached": "cached",
    "tokens_reasoning": "reasoning",
    "tokens_total": "total",
    CALLS: "calls",
}
"""Meters of the table that is shown when no meter is asked for, with their titles."""

_ATTEMPTS = 5
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


class Question(TypedDict):
    """Which events to count, as `Meter.usage` takes it."""

    subject: list[str] | None
    window: str | None
    start: str | None
    end: str | None


class Reader(Protocol):
    """What the table needs of a `Meter`."""

    @property
    def settings(self) -> Settings: ...

    def usage(
        self,
        meter: str,
        subject: list[str] | None,
        window: str | None,
        start: str | None,
        end: str | None,
        group_by: tuple[str, ...],
        *,
        allow_incomplete: bool,
    ) -> UsageReport: ...

    def statistics(self) -> dict[str, Any]: ...


class WindowSize(StrEnum):
    """What `--window` offers."""

    MINUTE = "MINUTE"
    HOUR = "HOUR"
    DAY = "DAY"
    MONTH = "MONTH"


def usage(
    meter: Annotated[
        str | None,
        typer.Option(
            "--meter",
            metavar="METER",
            help="Show this meter alone, such as tokens_total; JSON shows tokens_total by default.",
            show_default=False,
        ),
    ] = None,
    subject: Annotated[
        list[str] | None,
        typer.Option(
            "--subject",
            metavar="SUBJECT",
            help="Only this subject; may be repeated.",
            show_default=False,
        ),
    ] = None,
    window: Annotated[
        WindowSize | None,
        typer.Option(
            "--window", help="One row per window, in UTC.", case_sensitive=False, show_default=False
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="TIME",
            help="First moment: a day in UTC, or ISO 8601 with offset.",
            show_default=False,
        ),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="TIME", help="First moment after the period.", show_default=False
        ),
    ] = None,
    group_by: Annotated[
        list[str] | None,
        typer.Option(
            "--group-by",
            metavar="KEY",
            help="One row per value of this key: subject, model, provider, provenance, status, "
            "a dimension; may be repeated. The table has subject and model by default.",
            show_default=False,
        ),
    ] = None,
    home: HomeOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Show the tokens and calls of each subject, from the ledger on this machine."""
    settings = load_settings(home=home)
    _require_ledger(settings)
    question = Question(
        subject=subject or None,
        window=window.value if window else None,
        start=moment(start),
        end=moment(end),
    )
    keys = tuple(group_by or ())
    # A question that makes no sense is refused even where there is nobody to ask.
    asked = usage_query(meter or DEFAULT_METER, group_by=keys, meters=settings.meters, **question)
    empty = UsageReport(query=asked)
    if not exists(settings.home):
        if output is OutputFormat.JSON:
            print_json(empty.to_dict())
        else:
            show([nothing_recorded(settings.home)])
        return
    # Imported here, so that `--help` and a mistyped option answer at once.
    from ..meter import Meter

    # It takes in what finished processes left, with the ledger alone: to look at usage must
    # send none of it anywhere. A home that only has a ledger, as `ingest` fills it, gets no journal:
    # it would be this user's, who may not be the one that an application runs as.
    has_journal = existing_spool(settings.home) is not None
    with Meter(
        home=settings.home,
        sinks=(),
        source=settings.source,
        ledger=True,
        durability="process" if has_journal else "memory",
    ) as reader:
        if output is OutputFormat.JSON:
            print_json(reader.usage(meter or DEFAULT_METER, group_by=keys, **question).to_dict())
        else:
            show(usage_table(reader, meter, keys, question))


def usage_table(
    reader: Reader, meter: str | None, keys: tuple[str, ...], question: Question
) -> Iterable[RenderableType]:
    """Ask for all columns of the table.

    Args:
        reader: Whom to ask.
        meter: The only column; the usual ones, if absent.
        keys: What to group by; subject and model, if empty.
        question: Which events to count.
    """
    columns = COLUMNS if meter is None else {meter: meter}
    keys = keys or ("subject", "model")
    if question["subject"]:
        # The rows tell chosen subjects apart, so the table has to as well.
        keys = tuple(dict.fromkeys(("subject", *keys)))
    groups = (*keys, "provenance")
    # A note says what is not in the ledger yet; a table for people is better than none.
    ask = partial(reader.usage, allow_incomplete=True)
    for _ in range(_ATTEMPTS):
        calls = ask(CALLS, group_by=("subject", *groups), **question)
        reports = {slug: ask(slug, group_by=groups, **question) for slug in columns}
        # Each meter is asked by itself. Calls recorded meanwhile would be in some of the answers
        # alone, and the columns of a row would contradict each other.
        if calls.rows == ask(CALLS, group_by=("subject", *groups), **question).rows:
            break
    lines = tally(reports, keys, windowed=question["window"] is not None)
    remarks = [
        *key_notes(lines, keys),
        *call_notes(calls),
        *(total_notes(totals(lines)) if meter is None else ()),
        *delivery_notes(reader.statistics()),
    ]
    if lines:
        return usage_view(lines, columns, keys, question["window"], remarks)
    if remarks or meter is not None or any(question.values()):
        return [no_usage_found(), *remarks_view(remarks)]
    return [nothing_recorded(reader.settings.home)]


def _require_ledger(settings: Settings) -> None:
    if not settings.ledger:
        raise LedgerError(
            f"the ledger is switched off ({settings.origins['ledger']}), so there is no usage to "
            "show here; ask the system the sinks deliver to"
        )


def moment(text: str | None) -> str | None:
    """What a person wrote, with the time and the offset that a day in UTC lacks."""
    # A day has no offset to write; windows are in UTC, and so is it.
    return f"{text}T00:00:00Z" if text and _DATE.fullmatch(text) else text
