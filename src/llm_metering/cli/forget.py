"""`llm-metering forget`: settle the debt of a sink that will not be delivered to."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from ..errors import ConfigurationError
from ..settings import load_settings
from .common import (
    FormatOption,
    HomeOption,
    OutputFormat,
    existing_spool,
    living_json,
    on_disk,
    print_json,
    progress,
    show,
    sink_json,
)
from .drain import LEFT
from .render import amount, plain
from .views import forgotten_view, process_names

__all__ = ["forget"]


def forget(
    sink: Annotated[
        str,
        typer.Option(
            "--sink", metavar="SINK", help="The sink, by its name or URL.", show_default=False
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    leave_living: Annotated[
        bool,
        typer.Option(
            "--leave-living", help="Go on although living processes owe it events; leave these."
        ),
    ] = False,
    home: HomeOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Give up what is owed to a sink: its pending events count as dropped, and are not delivered to it."""
    from ..opening import retention_of
    from ..transport.operations import find_debt, forget_debt, read_books

    settings = load_settings(home=home)
    spool = existing_spool(settings.home, retention=retention_of(settings))
    if spool is None:
        raise ConfigurationError("sink", f"nothing was ever owed to {sink!r} here")
    debt = find_debt(spool, sink)
    with on_disk(spool.home):
        owed = read_books(spool)[debt.key]
    if owed.living and not leave_living:
        raise ConfigurationError(
            "sink",
            f"{amount(owed.in_living)} of {amount(owed.pending)} events are in the hands of living "
            f"processes ({process_names(living_json(owed))}); take the sink out of their settings and "
            "restart them, or leave these events to them with --leave-living",
        )
    if owed.pending - owed.in_living and not yes:
        _confirm(
            f"{amount(owed.pending - owed.in_living)} events will never be delivered to "
            f"{plain(debt.name)} ({plain(debt.url)}). Go on?"
        )
    with on_disk(spool.home), progress() as bars:
        task = bars.add_task(plain(debt.name), total=None)
        forgotten = forget_debt(
            spool,
            debt,
            on_progress=lambda done, total: bars.update(task, completed=done, total=total),
        )
        left = read_books(spool)[debt.key]
    report: dict[str, Any] = {
        **sink_json(debt),
        "forgotten": forgotten.events,
        "pending": left.pending,
        "living": living_json(left),
    }
    if output is OutputFormat.JSON:
        print_json(report)
    else:
        show(forgotten_view(report))
    if left.pending:
        raise typer.Exit(LEFT)


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise ConfigurationError("--yes", f"{question} Without a terminal, --yes says so")
    typer.confirm(question, err=True, abort=True)
