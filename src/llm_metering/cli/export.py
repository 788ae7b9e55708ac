"""`llm-metering export`: the events of the ledger in a file."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ..errors import ExportError, LedgerError, QueryError
from ..meters import rfc3339
from ..settings import load_settings
from .common import HomeOption, console, exists, progress, take_in
from .periods import moment_of
from .render import amount, plain

if TYPE_CHECKING:
    from ..exporting import Exported

__all__ = ["export"]

LEFT: Final = 3
"""Exit code: what was recorded is not all in the ledger yet, and so not in the file."""

PATIENCE: Final = 10.0
"""Seconds that the ledger has to take in what finished processes left."""


class ExportFormats(StrEnum):
    """What `--format` offers here."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


def export(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Where to: .jsonl, .csv or .parquet, the first two also with .gz; - is the "
            "standard output.",
            show_default=False,
        ),
    ],
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="TIME",
            help="First moment: a day or a month (2026-11) in UTC, today, yesterday, now, -7d, -24h, "
            "-30m, or ISO 8601 with offset.",
            show_default=False,
        ),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="TIME", help="First moment after the period.", show_default=False
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
    type: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="Only events of this CloudEvents type; may be repeated.",
            show_default=False,
        ),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            metavar="SOURCE",
            help="Only events of this CloudEvents source; may be repeated.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    output: Annotated[
        ExportFormats | None,
        typer.Option(
            "--format",
            help="The format, where the file's name does not say it.",
            show_default=False,
        ),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Write the events of the ledger into a file; exit code 3 if the ledger lacks some of what was recorded."""
    settings = load_settings(home=home)
    if not settings.ledger:
        raise LedgerError(
            f"the ledger is switched off ({settings.origins['ledger']}), so there are no events to export"
        )
    now = datetime.now(UTC)
    first, last = moment_of("--from", start, UTC, now), moment_of("--to", end, UTC, now)
    if first and last and first >= last:
        raise QueryError(f"--from ({rfc3339(first)}) must be before --to ({rfc3339(last)})")
    # Imported here, so that `--help` and a mistyped option answer at once.
    from ..exporting import export_events
    from ..ledger import Ledger

    to_output = file == "-"
    if to_output and output is ExportFormats.PARQUET and sys.stdout.isatty():
        raise ExportError("Parquet is nothing to read in a terminal; name a file")
    is_complete = not exists(settings.home) or take_in(settings, PATIENCE)
    with (
        progress() as bars,
        _dropping_output_on_failure() if to_output else contextlib.nullcontext(),
    ):
        task = bars.add_task("events of the ledger", total=None)
        exported = export_events(
            Ledger(settings.home / "ledger.db"),
            None if to_output else file,
            format=output.value if output else None,
            start=first,
            end=last,
            subjects=subject or None,
            types=type or None,
            sources=source or None,
            overwrite=force,
            on_progress=lambda done, total: bars.update(task, completed=done, total=total),
        )
    # The standard output may be the file.
    out = console(stderr=True)
    out.print(f"{_events(exported.events)} exported" + ("" if to_output else f" to {plain(file)}"))
    for note in _notes(exported, is_complete):
        out.print(note)
    if not is_complete:
        raise typer.Exit(LEFT)


@contextlib.contextmanager
def _dropping_output_on_failure() -> Iterator[None]:
    """After a failure, write nothing more of what the standard output still holds back.

    The interpreter tries it again at its end, which would print a second error and make the exit
    code 120 (https://docs.python.org/3/library/sys.html#sys.exit).
    """
    try:
        yield
    except ExportError:
        with contextlib.suppress(OSError, ValueError):  # there is none, or it is no file
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
        raise


def _notes(exported: Exported, is_complete: bool) -> list[str]:
    notes = []
    if exported.pruned:
        notes.append(
            f"of {_events(exported.pruned)} the body was pruned: there are the columns that the "
            "ledger keeps"
        )
    if not is_complete:
        notes.append(
            "what was recorded is not all in the ledger, and so not in the file; "
            "`llm-metering status` says why"
        )
    return notes


def _events(count: int) -> str:
    return f"{amount(count)} event" + ("" if count == 1 else "s")
