"""What the demo shows: a progress bar, then its result in tables."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from .result import AbandonedStream, DemoResult
from .scenario import CALLS

__all__ = ["ProgressBar", "show"]


class ProgressBar:
    """A bar that fills with each call and names what comes next.

    Args:
        console: Where it is drawn; nowhere but on a terminal it moves.
    """

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
        )
        # The abandoned stream is a call, too.
        self._task = self._progress.add_task("starting the model server", total=CALLS + 1)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._progress.update(self._task, description="done")
        self._progress.stop()

    def __call__(self, done: int, following: str) -> None:
        """Say how many calls have ended, and what comes next."""
        self._progress.update(self._task, completed=done, description=following)


def show(console: Console, result: DemoResult, home: Path) -> None:
    """Print the result for people."""
    console.print(_usage_table(result))
    console.print(_abandoned_line(result.abandoned), soft_wrap=True)
    console.print()
    console.print(Text(f"The usage is kept in {home}. Look at it again:"), soft_wrap=True)
    groups = "--group-by subject --group-by model"
    command = f"llm-metering usage --home {shlex.quote(str(home))} {groups}"
    console.print(Text(f"  {command}"), soft_wrap=True)
    console.print()
    # Last, where the eye is when the command returns.
    console.print(_comparison_table(result))
    console.print(_verdict(result))


def _usage_table(result: DemoResult) -> Table:
    table = _table("Usage by subject and model", "subject", "model")
    for heading in ("calls", "input", "output", "total"):
        table.add_column(heading, justify="right")
    for line in result.lines:
        counts = (line.calls, line.input_tokens, line.output_tokens, line.total_tokens)
        table.add_row(Text(line.subject), Text(line.model), *(f"{count:,}" for count in counts))
    return table


def _comparison_table(result: DemoResult) -> Table:
    table = _table("Completed calls, counted twice", "")
    for heading in ("metered", "server's /metrics"):
        table.add_column(heading, justify="right")
    server = result.server
    table.add_row("calls", f"{result.metered_calls:,}", f"{result.calls:,} made")
    table.add_row(
        "input tokens",
        f"{result.input_tokens:,}",
        f"{server.prompt:,} = {server.prompt_evaluated:,} evaluated + {server.prompt_cached:,} cached",
    )
    table.add_row("output tokens", f"{result.output_tokens:,}", f"{server.predicted:,}")
    return table


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for heading in headings:
        table.add_column(heading)
    return table


def _verdict(result: DemoResult) -> Text:
    if result.agree:
        return Text("totals agree", style="bold green")
    reasons = []
    if not result.delivered:
        reasons.append("not every event had reached the ledger")
    if result.metered_calls != result.calls:
        reasons.append(f"{result.calls} calls were made, {result.metered_calls} are in the ledger")
    if result.input_tokens != result.server.prompt:
        reasons.append(_difference("input", result.input_tokens, result.server.prompt))
    if result.output_tokens != result.server.predicted:
        reasons.append(_difference("output", result.output_tokens, result.server.predicted))
    if result.abandoned is None:
        reasons.append("the abandoned stream is not in the ledger exactly once")
    return Text(f"TOTALS DISAGREE: {'; '.join(reasons)}", style="bold red")


def _difference(kind: str, metered: int, counted: int) -> str:
    return (
        f"{kind} tokens differ by {metered - counted:+,} (metered {metered:,}, server {counted:,})"
    )


def _abandoned_line(stream: AbandonedStream | None) -> Text:
    if stream is None:
        return Text("Abandoned stream: not metered.", style="red")
    how = f", counted by {stream.count_method}" if stream.count_method else ""
    return Text(
        f"Abandoned stream of {stream.subject} (status {stream.status}): "
        f"provenance {stream.provenance}{how}; "
        f"{stream.input_tokens} in and {stream.output_tokens} out, "
        f"where the server read {stream.server.prompt} and generated {stream.server.predicted}."
    )
