"""What `llm-metering usage --watch` shows: as much as fits the window, and what has changed."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator
from dataclasses import replace
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from ...meters import UsageReport
from ..render import UNKNOWN, Listing, Number, amount, lines_taken, short_amount
from ..tally import CALLS, Line, totals
from ..views import no_usage_found, nothing_recorded, remarks_view
from ..watching.changes import Changes
from .answers import Answers
from .overtime import OverTime
from .tables import COLUMNS, UsageTable

__all__ = ["WatchedUsage", "change"]

_TOGETHER = None
"""The group of all groups."""

_LESS_TELLING = frozenset(["tokens_cached", "tokens_reasoning"])
"""Columns that a narrow window does without: they are part of others."""


def change(value: Number | None, *, human: bool = False) -> str:
    """How much more, with a sign; nothing where nothing has changed.

    >>> change(1200), change(0), change(None)
    ('+1,200', '', '-')
    """
    if not value:
        return UNKNOWN if value is None else ""
    return ("+" if value > 0 else "-") + (short_amount if human else amount)(abs(value))


class WatchedUsage:
    """Usage that is asked for again and again.

    Args:
        answers: Whom to ask.
        shown: What to ask, and how to show it.
        home: Where usage is recorded.
    """

    def __init__(self, answers: Answers, shown: UsageTable | OverTime, home: Path) -> None:
        self._answers = answers
        self._shown = shown
        self._home = home
        self._adds_up = shown.adds_up
        self._state: object = None
        self._reports: list[UsageReport] = []
        self._lines: list[Line] = []
        self._remarks: list[str] = []
        self._changes = Changes()

    def look(self) -> None:
        self._answers.take_in()
        # Before the answers are read: what is written meanwhile is news the next time.
        state = self._answers.state()
        if state is None or state != self._state:
            self._reports = self._answers.ask(self._shown.queries(), main=self._shown.main_place)
            self._lines = self._shown.lines(self._reports)
            self._state = state
        found = self._shown.remarks(self._reports, self._lines)
        self._remarks = [*found, *self._answers.remarks()]
        main = self._shown.main
        values: dict[Hashable, Number] = {
            _group(line): line.values[main] for line in self._lines if main in line.values
        }
        if self._adds_up:
            values[_TOGETHER] = sum(values.values())
        self._changes.observe(values, time.monotonic())

    def line(self) -> str:
        main = self._shown.main
        sums = totals(self._lines) if self._adds_up else {}
        facts = [
            f"groups={len(self._lines)}",
            *(f"{slug}={sums.get(slug, 0)}" for slug in (main, CALLS) if slug in sums),
        ]
        since = self._changes.since(_TOGETHER)
        if self._adds_up and since is not None:
            facts += [f"change={since:+}", f"per_minute={self._changes.per_minute(_TOGETHER)}"]
        return " ".join(facts)

    def frame(self, width: int, height: int) -> Iterator[RenderableType]:
        remarks = list(remarks_view(self._remarks))
        if not self._lines:
            is_asked = self._shown.question.is_narrow or self._remarks
            yield no_usage_found() if is_asked else nothing_recorded(self._home)
            yield from remarks
            return
        period = self._shown.period() if isinstance(self._shown, UsageTable) else ()
        tail = [*self._summary(), *period, *remarks]
        room = height - lines_taken(tail, width) - 1
        if isinstance(self._shown, UsageTable):
            lines, body = self._table(self._shown, width, room)
        else:
            # Two lines each around the groups, and what is said below them.
            lines = self._busiest(max(room - 7, 1))
            body = list(self._shown.view(self._reports, lines, ()))
        yield from body
        if len(lines) < len(self._lines):
            yield Text(f"and {amount(len(self._lines) - len(lines))} more", style="dim")
        yield from tail

    def _summary(self) -> Iterator[RenderableType]:
        since = self._changes.since(_TOGETHER)
        if self._adds_up and since is not None:
            rate = self._changes.per_minute(_TOGETHER)
            yield Text(f"{change(since) or '0'} since the look before, {amount(rate)} a minute")

    def _table(
        self, table: UsageTable, width: int, room: int
    ) -> tuple[list[Line], list[RenderableType]]:
        few = {slug: title for slug, title in COLUMNS.items() if slug not in _LESS_TELLING}
        tried = [(table, table.human)]
        if table.columns == COLUMNS:
            tried.append((replace(table, columns=few), table.human))
        tried.append((tried[-1][0], True))
        for each, human in tried:
            lines, listing = self._listing(each, width, room, human=human)
            if listing.fits(width):
                break
        return lines, [listing]

    def _listing(
        self, table: UsageTable, width: int, room: int, *, human: bool
    ) -> tuple[list[Line], Listing]:
        sums = totals(self._lines)

        def new(line: Line | None) -> str:
            return change(self._changes.since(line and _group(line)), human=human)

        def rate(line: Line | None) -> str:
            return change(self._changes.per_minute(line and _group(line)), human=human)

        more = {"new": new, "a minute": rate} if self._adds_up else {"change": new}
        # Two lines above the groups, two below.
        lines = self._busiest(max(room - 4, 1))
        listing = table.listing(lines, sums, more=more, one_line=True, human=human)
        if not listing.fits(width):
            lines = lines[: max(room // (len(listing.numbers) + 1) - 1, 1)]
            listing = table.listing(lines, sums, more=more, one_line=True, human=human)
        return lines, listing

    def _busiest(self, most: int) -> list[Line]:
        """So many groups: the latest windows, or those with the most to tell."""
        if len(self._lines) <= most:
            return self._lines
        if self._lines[0].window_start is not None:
            return self._lines[-most:]
        main = self._shown.main

        def telling(line: Line) -> tuple[float, float]:
            rate = self._changes.per_minute(_group(line)) or 0
            return rate, line.values.get(main, 0)

        return sorted(self._lines, key=telling, reverse=True)[:most]


def _group(line: Line) -> Hashable:
    return line.window_start, line.keys
