"""`llm-metering bill`: what customers owe."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import quote

import typer

from ..errors import BillError, LedgerError
from ..price_books import PriceBooks
from ..settings import load_settings
from .billed import bill_view, bills_view
from .common import HomeOption, console, exists, show, take_in
from .render import plain

if TYPE_CHECKING:
    from ..bills import Bill
    from ..bills.asking import Bills

__all__ = ["bill"]

INCOMPLETE: Final = 1
"""Exit code: more may be owed than a bill says, or somebody with usage cannot be billed."""

LEFT: Final = 3
"""Exit code: what was recorded is not all in the ledger yet, and so on no bill."""

_LONGEST_NAME: Final = 150


class BillFormats(StrEnum):
    """What `--format` offers here."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    HTML = "html"


def bill(
    subject: Annotated[
        str | None,
        typer.Argument(metavar="[SUBJECT]", help="Who pays.", show_default=False),
    ] = None,
    month: Annotated[
        str | None,
        typer.Option(
            "--month", metavar="MONTH", help="Which month, such as 2026-11.", show_default=False
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="DAY",
            help="The first day, instead of a month; the last one is of the same month.",
            show_default=False,
        ),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option("--to", metavar="DAY", help="The first day behind.", show_default=False),
    ] = None,
    all_subjects: Annotated[
        bool, typer.Option("--all", help="Everybody with a plan or with usage.")
    ] = False,
    output: Annotated[
        BillFormats,
        typer.Option("--format", help="For people, for programs, for spreadsheets, to be printed."),
    ] = BillFormats.TABLE,
    file: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE",
            help="Where to, instead of the standard output; with --all a folder, for a file each.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite files that hold other bills.")
    ] = False,
    costs: Annotated[
        bool,
        typer.Option(
            "--costs", help="With HTML: show costs and margin, which are not for the customer."
        ),
    ] = False,
    version: Annotated[
        int | None,
        typer.Option(
            "--version",
            metavar="NUMBER",
            help="Costs by this version of the prices; by default by the last one.",
            show_default=False,
        ),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Show what customers owe; exit code 1 if a bill is incomplete, 3 if the ledger lacks some usage."""
    if (subject is None) != all_subjects:
        raise BillError("name a subject, or --all")
    if all_subjects and file is None and output is BillFormats.HTML:
        raise BillError("pages of HTML go into files; name a folder with --output")
    if output is BillFormats.TABLE and file is not None:
        raise BillError("a table is for the terminal; choose --format json, csv or html")
    settings = load_settings(home=home)
    if not settings.ledger:
        raise LedgerError(
            f"the ledger is switched off ({settings.origins['ledger']}), so there is nothing to bill"
        )
    # Imported here, so that `--help` and a mistyped option answer at once.
    from ..bills.biller import PATIENCE, Biller
    from ..ledger import Ledger

    biller = Biller(settings, Ledger(settings.home / "ledger.db"))
    biller.plans()
    is_complete = not exists(settings.home) or take_in(settings, PATIENCE)
    made = biller.bills(
        PriceBooks(settings).lists_of("cost", "credits") if version is None else {},
        None if subject is None else [subject],
        month,
        start=start,
        end=end,
        version=version,
    )
    shapes: Mapping[BillFormats, Callable[[Bill], str]] = {
        BillFormats.JSON: lambda each: each.to_json(),
        BillFormats.CSV: lambda each: each.to_csv(),
        BillFormats.HTML: lambda each: each.to_html(costs=costs),
    }
    if output is BillFormats.TABLE:
        show(bills_view(made) if all_subjects else bill_view(made.bills[0]))
    elif file is None:
        _write_out(made, output, shapes[output], is_many=all_subjects)
    else:
        for each in made:
            name = f"{_file_name(each.subject)}.{output.value}"
            _put(file / name if all_subjects else file, shapes[output](each), force=force)
    _say(made, is_complete=is_complete, asked=version)
    if not is_complete:
        raise typer.Exit(LEFT)
    if made.refused or not all(each.is_complete for each in made):
        raise typer.Exit(INCOMPLETE)


def _write_out(
    made: Bills, output: BillFormats, shape: Callable[[Bill], str], *, is_many: bool
) -> None:
    out = sys.stdout
    if not is_many:
        out.write(shape(made.bills[0]))
    elif output is BillFormats.JSON:
        for each in made:
            out.write(json.dumps(each.to_dict()) + "\n")
    else:
        # One line of titles: each line names its subject.
        for place, each in enumerate(made):
            out.write("".join(shape(each).splitlines(keepends=True)[bool(place) :]))


def _say(made: Bills, *, is_complete: bool, asked: int | None) -> None:
    """What is said beside the bills, on the standard error: it may be another thing tomorrow."""
    out = console(stderr=True)
    now = datetime.now(UTC)
    periods = {each.period for each in made}
    for period in sorted(periods, key=lambda period: period.time_zone):
        if period.end_moment > now:
            out.print(
                f"so far: {period.end} has not begun in {period.time_zone}, and usage may still come"
            )
    if len(made) == 1 and not any(each.costs or each.unpriced for each in made):
        # Its name may be mistyped; the default plan takes any.
        out.print(f"nothing was recorded for {plain(made.bills[0].subject)} on these days")
    versions = sorted({each.price_version for each in made if each.price_version})
    if versions and asked is None:
        out.print(f"costs by version {versions[-1]} of the prices")
    for subject, reason in made.refused.items():
        out.print(f"not billed: {plain(subject)}: {plain(reason)}")
    incomplete = [each for each in made if not each.is_complete]
    for each in incomplete:
        for reason in each.incomplete:
            out.print(f"incomplete: {plain(each.subject)}: {plain(reason)}")
    if not is_complete:
        out.print(
            "what was recorded is not all in the ledger, and so not on the bill; "
            "`llm-metering status` says why"
        )


def _file_name(subject: str) -> str:
    """A subject as the name of a file: no path, and no other subject's."""
    # A dot is quoted as well: a name such as `..` would be a folder.
    name = quote(subject, safe=" @+,=~").replace(".", "%2E")
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(subject.encode()).hexdigest()[:16]
    return f"{name[:_LONGEST_NAME].rstrip('%')}~{digest}"


def _put(path: Path, text: str, *, force: bool) -> None:
    content = text.encode()
    try:
        if not force and path.exists() and path.read_bytes() != content:
            raise BillError(
                f"{path} holds another bill, and a bill that was sent should be kept; move it away, "
                "or overwrite it with --force"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all.
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        # For its owner alone: it says what a customer pays.
        beside.touch(mode=0o600)
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        raise BillError(f"cannot write {path}: {error.strerror or error}") from error
