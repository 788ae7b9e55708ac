"""`llm-metering doctor`: what would lose or stop usage here, and what to do about it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..settings import Settings, load_settings
from .common import FormatOption, HomeOption, OutputFormat, print_json, show
from .render import plain

if TYPE_CHECKING:
    from ..checkup import Finding

__all__ = ["doctor"]

FAILED = 1
"""Exit code: something loses or stops usage."""

_STYLES = {"ok": "green", "warning": "yellow", "failure": "bold red"}
_INDENT = 9


def doctor(
    send: Annotated[
        bool | None,
        typer.Option(
            "--send/--no-send",
            help="Send one test event twice to each OpenMeter server, to see whether it counts once,"
            " and a batch without events to each cloudevents sink. In a terminal you are asked.",
        ),
    ] = None,
    wait: Annotated[
        float,
        typer.Option(
            "--wait", metavar="SECONDS", min=0.0, max=600.0, help="How long to look for it."
        ),
    ] = 20.0,
    home: HomeOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Look at this machine, the home and the sinks; exit code 1 if something loses or stops usage."""
    # Imported here, so that `--help` and a mistyped option answer at once.
    from ..checkup import examine, worst

    settings = load_settings(home=home)
    if send is None:
        send = output is OutputFormat.TABLE and _is_wanted(settings)
    findings = examine(settings, send=send, wait=wait)
    if output is OutputFormat.JSON:
        print_json(
            {
                "home": str(settings.home),
                "worst": worst(findings),
                "findings": [asdict(finding) for finding in findings],
            }
        )
    else:
        show(_view(findings))
    if worst(findings) == "failure":
        raise typer.Exit(FAILED)


def _is_wanted(settings: Settings) -> bool:
    """Ask whether test events may be sent, if somebody is there who could say so."""
    servers = [url for url in settings.sinks if url.startswith("openmeter+")]
    receivers = [url for url in settings.sinks if url.startswith("cloudevents+")]
    if not ((servers or receivers) and sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    which = "the OpenMeter server" if len(servers) == 1 else "each OpenMeter server"
    empty = "a batch without events to each cloudevents sink"
    if not servers:
        return typer.confirm(f"Send {empty}, to see whether it is taken?", err=True)
    also = f" And {empty}." if receivers else ""
    return typer.confirm(
        f"Send one test event twice to {which}, to see whether it counts once? It is on no bill and"
        f" stays in the server's list.{also}",
        err=True,
    )


def _view(findings: Sequence[Finding]) -> Iterator[RenderableType]:
    # What is worst stands last, beside the summary: the rest may have left the screen.
    for finding in sorted(findings, key=lambda each: list(_STYLES).index(each.level)):
        about = f"{finding.check} {plain(finding.sink)}" if finding.sink else finding.check
        line = Table.grid()
        line.add_column(width=_INDENT)
        line.add_column(overflow="fold")
        line.add_row(
            Text(finding.level, style=_STYLES[finding.level]),
            Text.assemble((about, "bold"), f": {plain(finding.found)}"),
        )
        yield line
        for title, text in (("it means", finding.means), ("to do", finding.advice)):
            if text:
                yield Padding(Text(f"{title}: {plain(text)}"), (0, 0, 0, _INDENT), expand=False)
    counts: Counter[str] = Counter(finding.level for finding in findings)
    yield Text()
    yield Text(", ".join(f"{level}: {counts[level]}" for level in _STYLES))
