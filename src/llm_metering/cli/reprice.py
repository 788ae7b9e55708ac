"""`llm-metering reprice`: what was priced is priced again, by the prices of now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from ..errors import LedgerError, PriceError, QueryError
from ..meters.moments import rfc3339
from ..price_books import PriceBooks
from ..settings import load_settings
from .common import FormatOption, HomeOption, OutputFormat, exists, print_json, show
from .periods import moment_of
from .render import UNKNOWN, Listing, amount, plain
from .usage.answers import LedgerAnswers
from .usage.asking import FromOption, SubjectOption, ToOption
from .views import nothing_recorded

if TYPE_CHECKING:
    from ..ledger.repricing import Repriced

__all__ = ["reprice"]


class BookName(StrEnum):
    """What `--book` offers."""

    COST = "cost"
    CREDITS = "credits"


def reprice(
    start: FromOption = None,
    end: ToOption = None,
    subject: SubjectOption = None,
    unpriced_only: Annotated[
        bool,
        typer.Option("--unpriced-only", help="Only events that have no price."),
    ] = False,
    book: Annotated[
        BookName, typer.Option("--book", help="What they cost in money, or in credits.")
    ] = BookName.COST,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")
    ] = False,
    home: HomeOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Price events of the ledger again, by the prices of now, under a new version of prices."""
    settings = load_settings(home=home)
    if not settings.ledger:
        raise LedgerError(
            f"the ledger is switched off ({settings.origins['ledger']}), so there is nothing to price"
        )
    now = datetime.now(UTC)
    first, last = moment_of("--from", start, UTC, now), moment_of("--to", end, UTC, now)
    if first and last and first >= last:
        raise QueryError(f"--from ({rfc3339(first)}) must be before --to ({rfc3339(last)})")
    books = PriceBooks(settings)
    prices = books.list_of(book.value)
    if prices is None:
        raise PriceError(
            "there are no prices: name files with the setting prices"
            + (
                " that have credits"
                if book is BookName.CREDITS
                else ", or install the extra prices"
            )
        )
    path = settings.home / "ledger.db"
    with LedgerAnswers(settings) as answers:
        if answers.is_there and not dry_run:
            # What finished processes left is priced like the rest.
            answers.take_in()
    is_there = exists(settings.home) and path.exists()
    if not is_there and output is OutputFormat.TABLE:
        show([nothing_recorded(settings.home)])
        return
    # Imported here, so that `--help` and a mistyped option answer at once.
    from ..ledger import Ledger

    ledger = Ledger(path)
    try:
        if not dry_run:
            books.price(ledger, book.value)
        done = ledger.reprice(
            prices,
            book=book.value,
            start=first,
            end=last,
            subjects=subject or None,
            unpriced_only=unpriced_only,
            dry_run=dry_run,
        )
    finally:
        ledger.close()
    report = _report(done, name=prices.name, version=prices.version, dry_run=dry_run)
    if output is OutputFormat.JSON:
        print_json(report)
    else:
        show(_view(report))


def _report(done: Repriced, *, name: str, version: str, dry_run: bool) -> dict[str, Any]:
    return {
        "prices": name,
        "prices_version": version,
        "dry_run": dry_run,
        "version": done.version,
        "events": done.events,
        "unpriced": done.unpriced,
        "without_body": done.without_body,
        "changes": [
            {
                "provider": each.provider,
                "model": each.model,
                "currency": each.currency,
                "events": each.events,
                "before": format(each.before, "f"),
                "after": format(each.after, "f"),
                "difference": format(each.after - each.before, "f"),
                "newly_priced": each.newly_priced,
                "no_longer_priced": each.no_longer_priced,
            }
            for each in done.changes
        ],
    }


def _view(report: Mapping[str, Any]) -> Iterator[RenderableType]:
    changes = report["changes"]
    if changes:
        yield Listing(
            ("provider", "model", "currency"),
            ("before", "after", "difference", "events", "newly priced", "no longer priced"),
            [
                (
                    *(
                        UNKNOWN if each[what] is None else plain(each[what])
                        for what in ("provider", "model", "currency")
                    ),
                    *(each[what] for what in ("before", "after", "difference")),
                    *(
                        amount(each[what])
                        for what in ("events", "newly_priced", "no_longer_priced")
                    ),
                )
                for each in changes
            ],
        )
        yield Text()
    yield Text(
        f"{amount(report['events'])} event{'s'[: report['events'] != 1]} priced again by {plain(report['prices'])}; "
        f"{amount(report['unpriced'])} of them without a price"
    )
    if report["without_body"]:
        yield Text(
            f"{amount(report['without_body'])} events keep what they had, since their bodies were pruned"
        )
    if report["dry_run"]:
        yield Text("nothing was changed")
    elif report["version"] is None:
        yield Text("no price is another one, so there is no new version of prices")
    else:
        yield Text(f"version {report['version']} of prices has the changes")
