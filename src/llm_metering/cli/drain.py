"""`llm-metering drain`: deliver what finished processes left, now."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ..errors import ConfigurationError
from ..settings import Settings, load_settings
from ..sinks.base import Sink
from .common import (
    FormatOption,
    HomeOption,
    OutputFormat,
    exists,
    living_json,
    on_disk,
    print_json,
    progress,
    show,
    sink_json,
)
from .render import plain
from .views import drained_view, nothing_recorded

if TYPE_CHECKING:
    from ..transport.operations import Drained, Owed

__all__ = ["drain"]

LEFT: Final = 3
"""Exit code: something is left."""


def drain(
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0.0, help="How long to try.")
    ] = 60.0,
    sink: Annotated[
        str | None,
        typer.Option(
            "--sink",
            metavar="SINK",
            help="This sink alone, by its name or URL.",
            show_default=False,
        ),
    ] = None,
    home: HomeOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Deliver what finished processes left, to the sinks of the settings; exit code 3 if something is left."""
    # Imported here, so that `--help` and a mistyped option answer at once.
    from ..opening import retention_of
    from ..transport.operations import drain_home

    settings = load_settings(home=home)
    sinks = _open(settings, sink)
    if not exists(settings.home):
        if output is OutputFormat.JSON:
            print_json({"home": str(settings.home), "complete": True, "sinks": []})
        else:
            show([nothing_recorded(settings.home)])
        return
    # The report says what the shippers would log, and a bar is no place for log lines.
    logging.getLogger("llm_metering").addHandler(logging.NullHandler())
    with on_disk(settings.home), progress() as bars:
        tasks: dict[str, Any] = {}

        def begin(books: Mapping[str, Owed]) -> None:
            for key, owed in books.items():
                waiting = owed.pending - owed.in_living
                if waiting:
                    tasks[key] = bars.add_task(plain(owed.debt.name), total=waiting)

        def advance(key: str, delivered: int) -> None:
            if key in tasks:
                bars.update(tasks[key], completed=delivered)

        drained = drain_home(
            settings.home,
            source=settings.source,
            sinks=sinks,
            timeout=timeout,
            retention=retention_of(settings),
            on_start=begin,
            on_progress=advance,
        )
    if sink is not None:
        drained = [each for each in drained if each.configured]
    report = _report(settings, drained)
    if output is OutputFormat.JSON:
        print_json(report)
    else:
        show(drained_view(report))
    if not report["complete"]:
        raise typer.Exit(LEFT)


def _open(settings: Settings, wanted: str | None) -> list[Sink]:
    from ..limiting import own_sinks
    from ..opening import open_sinks

    sinks = open_sinks(settings, own_sinks(settings), ())
    if wanted is None:
        return sinks
    chosen = [each for each in sinks if wanted in (each.name, each.url)]
    if not chosen:
        known = ", ".join(each.name for each in sinks) or "none"
        raise ConfigurationError(
            "sink",
            f"no sink {wanted!r} is configured, so there is nowhere to deliver to; "
            f"there are: {known}; `llm-metering forget` settles the debt of a sink that is gone",
        )
    return chosen


def _report(settings: Settings, drained: Sequence[Drained]) -> dict[str, Any]:
    return {
        "home": str(settings.home),
        "complete": not any(each.owed.pending for each in drained),
        "sinks": [
            {
                **sink_json(each.owed.debt),
                "configured": each.configured,
                "state": each.state,
                "reason": each.reason,
                "delivered": each.delivered,
                "pending": each.owed.pending,
                "dead": each.owed.dead,
                "living": living_json(each.owed),
            }
            for each in drained
        ],
    }
