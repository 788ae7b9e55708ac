"""How a ranking looks, once or again and again."""

from __future__ import annotations

import json
import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from ...meters import UsageReport
from ..render import UNKNOWN, Listing, Number, amount, duration, lines_taken, plain, short_amount
from ..usage.answers import Answers
from ..usage.tables import exactly
from ..usage.watched import change
from ..views import no_usage_found, remarks_view
from ..watching.changes import Changes
from .ranking import Place, Ranking, Sums, Top

__all__ = ["RankingTable", "WatchedTop", "ranking_view"]

_EIGHTHS: Final = "▏▎▍▌▋▊▉█"
_LONGEST_BAR: Final = 20
_SHORTEST_BAR: Final = 4
_NARROWEST_NAME: Final = 10
_GAP: Final = 2
_TENFOLD: Final = 10


def bar(part: float, width: int, *, ascii_only: bool = False) -> str:
    """A bar of so many cells at most, to an eighth of a cell; something is never nothing.

    >>> bar(0.5, 3), bar(1, 3), bar(0, 3)
    ('█▌', '███', '')
    """
    if ascii_only:
        return "#" * (max(round(part * width), 1) if part > 0 else 0)
    eighths = max(round(part * width * 8), 1) if part > 0 else 0
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8 - 1] if eighths % 8 else "")


def growth(value: Number | None, before: Number | None) -> str:
    """How much more than before, in per cent.

    >>> growth(150, 100), growth(5, None), growth(99, 1), growth(100, 100)
    ('+50 %', 'new', 'x 99', '0 %')
    """
    if value is None or before is None or before <= 0:
        return "new" if value and not before else UNKNOWN
    times = value / before
    if times >= _TENFOLD:
        return f"x {times:,.0f}"
    shown = f"{(times - 1) * 100:+.0f} %"
    return "0 %" if shown in ("+0 %", "-0 %") else shown


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingTable:
    """A line for each place, with a bar where there is room, the others, and the total.

    Attributes:
        ranking: What was asked.
        top: The answer.
        human: Whether large numbers are shown in three digits.
        changes: What has changed since the look before, if there was one.
    """

    ranking: Ranking
    top: Top
    human: bool = False
    changes: Changes | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        exact = self.listing(options)
        wants_less = self.changes is not None and not exact.fits(options.max_width)
        yield replace(self, human=True).listing(options) if wants_less else exact

    def listing(self, options: ConsoleOptions) -> Listing:
        """The table for a window of this width."""
        top, key = self.top, plain(self.ranking.key)
        rows = [self._place(each) for each in top.places]
        if top.others:
            noun = "other" if top.others == 1 else "others"
            rows.append(self._cells("", f"{amount(top.others)} {noun}", top.rest))
        titles = (self.ranking.meter, "share", "calls", "change", *self._more_titles())
        total = self._cells("", "total", top.total) if self.ranking.adds_up else None
        lines = [("#", key, *titles), *rows, *([total] if total else [])]
        wide = self._bar_width(lines, options.max_width)
        if wide:
            largest = max((float(each.value) for each in top.places), default=0.0)
            values = [each.value for each in top.places]
            bars = [
                bar(
                    float(value) / largest if largest > 0 else 0.0,
                    wide,
                    ascii_only=options.ascii_only,
                )
                for value in values
            ]
            bars += [""] * (len(rows) - len(bars))
            rows = [(*row[:3], each, *row[3:]) for row, each in zip(rows, bars, strict=True)]
            titles = (titles[0], "", *titles[1:])
            total = total and (*total[:3], "", *total[3:])
        return Listing(("#", key), titles, rows, total, one_line=True, bars=1 if wide else None)

    def _bar_width(self, lines: Sequence[Sequence[str]], width: int) -> int:
        """How wide bars may be; 0, where names need the room."""
        rank, name, *numbers = (max(map(cell_len, cells)) for cells in zip(*lines, strict=True))
        room = width - rank - sum(numbers) - _GAP * (len(numbers) + 2)
        wide = min(room - min(name, max(_NARROWEST_NAME, room // 2)), _LONGEST_BAR)
        return wide if wide >= _SHORTEST_BAR else 0

    def _place(self, each: Place) -> tuple[str, ...]:
        name = UNKNOWN if each.name is None else plain(each.name)
        sums = Sums(value=each.value, calls=each.calls or 0, before=each.before)
        return self._cells(str(each.rank).rjust(self._rank_width()), name, sums, group=(each.name,))

    def _cells(self, rank: str, name: str, sums: Sums, group: Hashable = None) -> tuple[str, ...]:
        number = short_amount if self.human else amount
        share = self.top.share(sums.value)
        more: list[str] = []
        if self.changes is not None:
            is_known = bool(group) or name == "total"
            more = [
                change(self.changes.since(group), human=self.human) if is_known else "",
                change(self.changes.per_minute(group), human=self.human) if is_known else "",
            ]
        return (
            rank,
            name,
            number(sums.value),
            UNKNOWN if share is None else f"{share * 100:.1f} %",
            number(sums.calls),
            growth(sums.value, sums.before),
            *more,
        )

    def _rank_width(self) -> int:
        return max((len(str(each.rank)) for each in self.top.places), default=1)

    def _more_titles(self) -> Sequence[str]:
        return ("new", "a minute") if self.changes is not None else ()


def ranking_view(
    ranking: Ranking, top: Top, remarks: Sequence[str], *, human: bool
) -> Iterator[RenderableType]:
    """The ranking, and what must be known about it."""
    if not top.places:
        yield no_usage_found()
    else:
        yield RankingTable(ranking=ranking, top=top, human=human)
        if human and ranking.adds_up:
            yield exactly({ranking.meter: ranking.meter}, {ranking.meter: top.total.value or 0})
        yield Text()
        yield period_of(ranking)
    yield from remarks_view(remarks)


def period_of(ranking: Ranking) -> Text:
    """What the numbers are about."""
    zone = ranking.question.zone
    start, end, before = (
        None if each is None else f"{each.astimezone(zone):%Y-%m-%d %H:%M}"
        for each in (ranking.start, ranking.end, ranking.before)
    )
    until = "now" if ranking.question.end is None else end
    compared = f"; change from the {_span(ranking)} before" if before else ""
    return Text(f"from {start} to {until} ({ranking.question.time_zone}){compared}", style="dim")


def _span(ranking: Ranking) -> str:
    return duration((ranking.end - ranking.start).total_seconds())


class WatchedTop:
    """A ranking that is asked for again and again.

    Args:
        answers: Whom to ask.
        ranking: What to ask.
    """

    def __init__(self, answers: Answers, ranking: Ranking, *, human: bool) -> None:
        self._answers = answers
        self._ranking = ranking
        self._human = human
        self._state: object = None
        self._reports: list[UsageReport] = []
        self._top: Top | None = None
        self._remarks: list[str] = []
        self._changes = Changes()

    def look(self) -> None:
        self._answers.take_in()
        # Before the answers are read: what is written meanwhile is news the next time.
        state = self._answers.state()
        if state is None or state != self._state:
            self._reports = self._answers.ask(self._ranking.queries())
            self._top = self._ranking.top(self._reports)
            self._state = state
        self._remarks = [*self._ranking.remarks(self._reports), *self._answers.remarks()]
        values: dict[Hashable, Number] = {
            (name,): value for name, value in self._ranking.by_name(self._reports[0]).items()
        }
        if self._ranking.adds_up:
            values[None] = sum(values.values())
        self._changes.observe(values, time.monotonic())

    def line(self) -> str:
        top = self._top
        if top is None:
            return ""
        first = top.places[0] if top.places else None
        facts = [f"{self._ranking.meter}={top.total.value}", f"calls={top.total.calls}"]
        if first is not None:
            facts.append(f"first={json.dumps(first.name)} value={first.value}")
        since = self._changes.since(None)
        if since is not None and self._ranking.adds_up:
            facts += [f"change={since:+}", f"per_minute={self._changes.per_minute(None)}"]
        return " ".join(facts)

    def frame(self, width: int, height: int) -> Iterator[RenderableType]:
        top = self._top
        remarks = list(remarks_view(self._remarks))
        if top is None or not top.places:
            yield no_usage_found()
            yield from remarks
            return
        tail = [Text(), period_of(self._ranking), *remarks]
        # Two lines above the places, the others, two below.
        room = max(height - lines_taken(tail, width) - 5, 1)
        yield RankingTable(
            ranking=self._ranking, top=top.cut(room), human=self._human, changes=self._changes
        )
        yield from tail
