"""`llm-metering import`: files of usage into the ledger."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.progress import Progress, TaskID

from ..errors import ConfigurationError, LedgerError, MeteringError
from ..settings import Settings, load_settings
from .common import (
    FormatOption,
    HomeOption,
    OutputFormat,
    console,
    existing_spool,
    print_json,
    progress,
    show,
    take_in,
)
from .imported import imported_view
from .render import plain

if TYPE_CHECKING:
    from ..importing import Imported

__all__ = ["import_files"]

REFUSED: Final = 2
LEFT: Final = 3
"""Exit code: something was not taken, or may be missing."""

PATIENCE: Final = 10.0
"""Seconds that the ledger has to take in what finished processes left."""


def import_files(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="CloudEvents as JSON lines or a list, or the usage that OpenAI or Anthropic "
            "exports; also with gzip.",
            show_default=False,
        ),
    ],
    subject: Annotated[
        str | None,
        typer.Option(
            "--subject",
            metavar="SUBJECT",
            help="Who pays for a provider's usage, or for the rows of it that do not say so.",
            show_default=False,
        ),
    ] = None,
    subject_from: Annotated[
        str | None,
        typer.Option(
            "--subject-from",
            metavar="KEY",
            help="The key of a provider's rows that names who pays: project_id, user_id, "
            "api_key_id, workspace_id, ….",
            show_default=False,
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            metavar="SOURCE",
            help="The CloudEvents source of a provider's usage; import:openai or import:anthropic "
            "by default.",
            show_default=False,
        ),
    ] = None,
    beside_recorded: Annotated[
        bool,
        typer.Option(
            "--beside-recorded",
            help="Import a provider's usage although the ledger has other events of this provider "
            "and period, or the file has the same time in two ways; the same calls count twice.",
        ),
    ] = False,
    skip_unreadable: Annotated[
        bool,
        typer.Option("--skip-unreadable", help="Pass over lines that hold no event."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be imported, and import nothing.")
    ] = False,
    home: HomeOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Take files of usage into the ledger, each whole or not at all; exit code 3 if something is left."""
    settings = load_settings(home=home)
    if not settings.ledger:
        raise LedgerError(
            f"the ledger is switched off ({settings.origins['ledger']}), so there is nothing to "
            "import into"
        )
    for name, value in (("subject", subject), ("subject-from", subject_from), ("source", source)):
        if value is not None and not value.strip():
            raise ConfigurationError(f"--{name}", "it is empty")
    # Calls that are still in a journal would not be found beside a provider's usage, and count twice.
    is_complete = existing_spool(settings.home) is None or take_in(settings, PATIENCE)
    # Imported here, so that `--help` and a mistyped option answer at once.
    from ..importing import import_file
    from ..ledger import Ledger

    done: list[Imported] = []
    error: MeteringError | None = None
    with progress() as bars:
        for file in files:
            task = bars.add_task(plain(file.name), total=None)
            try:
                done.append(
                    import_file(
                        Ledger(settings.home / "ledger.db", keys=settings.ledger_keys),
                        file,
                        subject=subject,
                        subject_from=subject_from,
                        source=source,
                        beside_recorded=beside_recorded,
                        skip_unreadable=skip_unreadable,
                        dry_run=dry_run,
                        on_progress=partial(_advance, bars, task),
                    )
                )
            except MeteringError as refusal:
                error = refusal
                break
    report = _report(settings, done, files, error, is_dry_run=dry_run) | {"complete": is_complete}
    if output is OutputFormat.JSON:
        print_json(report)
    else:
        show(imported_view(report))
    if error is not None:
        # What was imported before it is in the report; the others were not begun.
        console(stderr=True).print(f"llm-metering: {plain(str(error))}")
        raise typer.Exit(REFUSED)
    if _is_left(done, is_complete=is_complete):
        raise typer.Exit(LEFT)


def _is_left(done: list[Imported], *, is_complete: bool) -> bool:
    usage = [each for each in done if each.shape != "cloudevents"]
    without_end = {each.shape for each in usage} - {
        each.shape for each in usage if not each.has_more
    }
    return bool(
        any(each.skipped or each.differing for each in done)
        or without_end
        or (any(each.new for each in usage) and not is_complete)
    )


def _advance(bars: Progress, task: TaskID, read: int) -> None:
    bars.update(task, completed=read)


def _report(
    settings: Settings,
    done: list[Imported],
    files: list[Path],
    error: MeteringError | None,
    *,
    is_dry_run: bool,
) -> dict[str, Any]:
    left = [str(file) for file in files[len(done) :]]
    return {
        "home": str(settings.home),
        "dry_run": is_dry_run,
        "files": [_file(each) for each in done],
        "error": None if error is None else str(error),
        "not_imported": left,
    }


def _file(each: Imported) -> dict[str, Any]:
    return {
        "path": each.path,
        "shape": each.shape,
        "read": each.read,
        "new": each.new,
        "known": each.known,
        "repeated": each.repeated,
        "differing": each.differing,
        "differing_places": list(each.differing_places),
        "skipped": each.skipped,
        "skipped_places": list(each.skipped_places),
        "empty": each.empty,
        "ignored": list(each.ignored),
        "has_more": each.has_more,
        "sums": [each._asdict() for each in each.sums],
    }
