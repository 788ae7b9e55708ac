"""Usage that is kept up to date, as a terminal shows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Protocol

from rich.console import RenderableType
from rich.text import Text

from ..cli.render import Listing
from ..errors import LedgerError
from ..meters.html import about, cells_of, period_of, text_titles, value_title
from ..meters.labels import amount

if TYPE_CHECKING:
    from ..meters import UsageReport

__all__ = ["InTerminal"]

_AROUND: Final = 6
"""Lines of a table that are no rows, and the one that says how many rows are left."""


class Looked(Protocol):
    """What is looked at, and what was seen."""

    report: UsageReport | None
    trouble: str | None

    def look(self) -> None: ...


class InTerminal:
    """What `llm_metering.cli.watching.looking.watch` shows.

    Args:
        looked: What is looked at.
    """

    def __init__(self, looked: Looked) -> None:
        self._looked = looked

    def look(self) -> None:
        """Ask anew.

        Raises:
            QueryError: If the question makes no sense.
            LedgerError: If there is no answer now.
        """
        self._looked.look()
        if self._looked.trouble is not None:
            raise LedgerError(self._looked.trouble)

    def line(self) -> str:
        """What was seen, in a line for a file."""
        report = self._looked.report
        if report is None:
            return "rows=0"
        total = f" {report.query.meter.slug}={report.total}" if report.adds_up else ""
        return f"rows={len(report)}{total}"

    def frame(self, width: int, height: int) -> Iterator[RenderableType]:
        """What was seen, for a window of this size."""
        report = self._looked.report
        if report is None:
            return
        query = report.query
        yield Text(f"{about(query)}, {period_of(query)}", style="bold")
        if not report.rows:
            yield Text("nothing was used")
            return
        room = max(height - _AROUND, 1)
        rows = report.rows
        if query.window is None:
            rows = tuple(sorted(rows, key=lambda row: row.value, reverse=True)[:room])
        rows = rows[-room:]
        titles = list(text_titles(query))
        blank = [""] * (len(titles) - 1)
        adds_up = bool(titles) and report.adds_up
        yield Listing(
            texts=titles,
            numbers=[value_title(report)],
            rows=[cells_of(query, row) for row in rows],
            total=["total", *blank, amount(report.total)] if adds_up else None,
            one_line=True,
        )
        left = len(report) - len(rows)
        if left:
            yield Text(f"and {amount(left)} more {'row' if left == 1 else 'rows'}", style="dim")
