"""`llm-metering prune`: give up the bodies of old events of the ledger."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.text import Text

from ..errors import ConfigurationError, LedgerError, QueryError
from ..meters.moments import rfc3339
from ..price_books import PriceBooks
from ..settings import Settings, load_settings
from .common import (
    FormatOption,
    HomeOption,
    OutputFormat,
    console,
    existing_spool,
    exists,
    on_disk,
    print_json,
    show,
)
from .periods import moment_of
from .render import amount, plain
from .views import nothing_recorded, remarks_view

if TYPE_CHECKING:
    from ..ledger.extracts import Bodies

__all__ = ["prune"]

_LOST: Final = (
    "their sums, and that they were recorded, stay; what only a body says is gone for good: export "
    "as JSON lines, replay and reconcile of that time, and questions about keys that the ledger has "
    "no column for"
)
_OLDER: Final = (
    "llm-metering with an older schema of the ledger (2 and before) can no longer use it"
)


def prune(
    before: Annotated[
        str,
        typer.Option(
            "--before",
            metavar="TIME",
            help="The first moment of which bodies stay: a day or a month (2026-11) in UTC, "
            "-90d, or ISO 8601 with offset.",
            show_default=False,
        ),
    ],
    compact: Annotated[
        bool,
        typer.Option(
            "--compact",
            help="Give the space back to the disk; all others wait for as long as that takes.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how much it would be, and change nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    home: HomeOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Give up the bodies of events of before a moment, and keep their ids and sums."""
    settings = load_settings(home=home)
    if not settings.ledger:
        raise LedgerError(
            f"the ledger is switched off ({settings.origins['ledger']}), so there is nothing to prune"
        )
    now = datetime.now(UTC)
    until = moment_of("--before", before, UTC, now)
    if until is None or until > now:
        raise QueryError(f"--before {before!r} is still to come; only what is over can be pruned")
    # Imported here, so that `--help` and a mistyped option answer at once.
    from ..ledger import Ledger
    from ..ledger.extracts import bodies_before

    path = settings.home / "ledger.db"
    is_there = exists(settings.home) and path.exists()
    if not is_there and output is OutputFormat.TABLE:
        show([nothing_recorded(settings.home)])
        return
    bodies = bodies_before(path, until)
    # To look at what is owed settles calls of processes that died: a dry run leaves them.
    notes = _owed(settings) if is_there and not dry_run else []
    report: dict[str, Any] = {
        "home": str(settings.home),
        "before": rfc3339(until),
        "dry_run": dry_run,
        "bodies": bodies.events,
        "bytes": bodies.size,
        "pruned": 0,
        "free": None,
        "size": path.stat().st_size if is_there else 0,
        "notes": notes,
    }
    if is_there and not dry_run and (bodies.events or compact):
        if bodies.events and not yes:
            _confirm(bodies, until, notes)
        # Without their bodies they could no longer be priced.
        lists = PriceBooks(settings).lists_of("cost", "credits")
        if not lists and bodies.events:
            notes.append(
                "there are no prices, so what these events cost will not be known; see the setting "
                "prices"
            )
        pruned = Ledger(path, keys=settings.ledger_keys).prune(until, compact=compact, lists=lists)
        report |= {"pruned": pruned.events, "free": pruned.free, "size": pruned.size}
    if output is OutputFormat.JSON:
        print_json(report)
        return
    show([Text(line) for line in _lines(report)])
    show(remarks_view(notes))


def _owed(settings: Settings) -> list[str]:
    """What other sinks have not had: it is in the journal, which is left as it is."""
    from ..ledger import Ledger
    from ..transport.operations import read_books
    from ..transport.spool import debt_of

    spool = existing_spool(settings.home)
    if spool is None:
        return []
    own = debt_of(Ledger(settings.home / "ledger.db")).key
    with on_disk(settings.home):
        books = read_books(spool)
    return [
        f"{plain(owed.debt.name)} is still owed {amount(owed.pending)} events; they are in the "
        "journal, and stay there, but the ledger could not send them again"
        for owed in books.values()
        if owed.pending and owed.debt.key != own
    ]


def _confirm(bodies: Bodies, until: datetime, notes: list[str]) -> None:
    question = (
        f"The bodies of {amount(bodies.events)} events before {rfc3339(until)} "
        f"({amount(bodies.size)} bytes) will be gone; {_LOST}. {_OLDER}."
    )
    if not sys.stdin.isatty():
        raise ConfigurationError("--yes", f"{question} Without a terminal, --yes says so")
    for note in notes:
        console(stderr=True).print(f"note: {note}")
    typer.confirm(f"{question} Go on?", err=True, abort=True)


def _lines(report: dict[str, Any]) -> list[str]:
    size = f"in a file of {amount(report['size'])} bytes"
    if report["dry_run"]:
        found = f"{amount(report['bodies'])} events before {report['before']} have bodies"
        return [f"{found} of {amount(report['bytes'])} bytes, {size}", "nothing was changed"]
    lines = [f"the bodies of {amount(report['pruned'])} events before {report['before']} are gone"]
    if report["free"] is not None:
        lines.append(f"{amount(report['free'])} bytes are free for new events, {size}")
    return lines
