"""Usage over time: what `llm-metering usage --sparkline` asks, and what it makes of the answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.console import RenderableType

from ...meters import UsageQuery, UsageReport, Window
from ..render import UNKNOWN, Number, amount, plain, short_amount
from ..tally import Line, call_notes, key_notes, names_of, price_notes, tally
from ..views import remarks_view
from .asking import Question
from .sparks import Axis, Series, Sparklines
from .tables import exactly, notes_on

__all__ = ["OverTime"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OverTime:
    """One meter, a line for each group with a bar for each window.

    Attributes:
        question: Which events to count.
        meter: The meter's slug.
        title: What to call it.
        keys: What the groups are by.
        window: Size of the windows.
        human: Whether large numbers are shown in three digits.
    """

    question: Question
    meter: str
    title: str
    keys: tuple[str, ...]
    window: Window
    human: bool = False

    @property
    def adds_up(self) -> bool:
        """Whether a sum of values means anything."""
        return self.question.meters[self.meter].adds_up

    def queries(self) -> list[UsageQuery]:
        """What to ask: the windows, then the whole where it is not their sum."""
        about = self.question.about
        queries = [about(self.meter, self.keys, window=self.window)]
        if not self.adds_up:
            queries.append(about(self.meter, self.keys))
        return queries + notes_on(self.question, [self.meter])

    main_place = 0

    @property
    def main(self) -> str:
        """The meter that changes are told of."""
        return self.meter

    def lines(self, reports: Sequence[UsageReport]) -> list[Line]:
        """The groups, with their totals, from the answers to `queries`."""
        if not self.adds_up:
            return tally({self.meter: reports[1]}, self.keys, windowed=False)
        sums: dict[tuple[str | None, ...], Number] = {}
        for row in reports[0]:
            names = names_of(row, self.keys)
            sums[names] = sums.get(names, 0) + row.value
        # Any row of a group, for its place among the others.
        groups = tally({self.meter: reports[0]}, self.keys, windowed=False)
        return [Line(None, each.keys, {self.meter: sums[each.keys]}) for each in groups]

    def remarks(self, reports: Sequence[UsageReport], lines: Sequence[Line]) -> list[str]:
        """Sentences to be read with the numbers, from the answers to `queries`."""
        notes = reports[1 if self.adds_up else 2 :]
        return [
            *key_notes(lines, self.keys),
            *call_notes(notes, [self.question.meters[self.meter]]),
            *price_notes(reports[:1]),
        ]

    def view(
        self, reports: Sequence[UsageReport], lines: Sequence[Line], remarks: Sequence[str]
    ) -> Iterator[RenderableType]:
        """The groups, and the remarks.

        Args:
            reports: The answers to `queries`.
            lines: The groups to show.
            remarks: Sentences to be read with the numbers.
        """
        values: dict[tuple[str | None, ...], dict[datetime, Number]] = {}
        together: dict[datetime, Number] = {}
        for row in reports[0]:
            values.setdefault(names_of(row, self.keys), {})[row.window_start] = row.value
            together[row.window_start] = together.get(row.window_start, 0) + row.value
        yield Sparklines(
            titles=tuple(map(plain, self.keys)),
            unit=self.title,
            series=[
                Series(
                    names=tuple(UNKNOWN if name is None else plain(name) for name in line.keys),
                    values=values.get(line.keys, {}),
                    total=line.values.get(self.meter),
                )
                for line in lines
            ],
            total=Series(
                names=("total", *[""] * (len(self.keys) - 1)),
                values=together,
                total=sum(together.values()),
            )
            if self.adds_up
            else None,
            axis=self._axis(reports[0]),
            number=short_amount if self.human else amount,
            adds_up=self.adds_up,
        )
        if self.human and self.adds_up:
            yield exactly({self.meter: self.title}, {self.meter: sum(together.values())})
        yield from remarks_view(remarks)

    def _axis(self, report: UsageReport) -> Axis:
        asked = self.question
        start = asked.start or report.rows[0].window_start
        # To this moment, so that a silence shows; what lies in the future does where there is some.
        end = min(asked.end or asked.asked_at, asked.asked_at)
        end = max(end, report.rows[-1].window_end)
        if asked.end is not None:
            end = min(end, asked.end)
        return Axis(window=self.window, zone=asked.zone, start=start, end=end)
