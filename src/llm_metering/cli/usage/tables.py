"""The table of `llm-metering usage`: what it asks, and how the answers look."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.text import Text

from ...meters import METERS, UsageQuery, UsageReport, Window
from ...meters.labels import period_label, window_label
from ..render import UNKNOWN, Listing, Number, amount, plain, short_amount
from ..tally import (
    CALLS,
    Line,
    call_notes,
    key_notes,
    note_queries,
    price_notes,
    tally,
    total_notes,
    totals,
)
from ..views import remarks_view
from .asking import Question

__all__ = ["COLUMNS", "COST", "DEFAULT_METER", "UsageTable", "exactly", "notes_on"]

DEFAULT_METER = "tokens_total"
COST = "cost_total"
COLUMNS: Mapping[str, str] = {
    "tokens_input": "input",
    "tokens_output": "output",
    "tokens_cached": "cached",
    "tokens_reasoning": "reasoning",
    DEFAULT_METER: "total",
    CALLS: "calls",
}
"""Meters of the table that is shown when no meter is asked for, with their titles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageTable:
    """Meters side by side, a line for each group.

    Attributes:
        question: Which events to count.
        columns: Title of each meter's column by the meter's slug.
        keys: What the groups are by.
        window: Size of the windows, if there are any.
        human: Whether large numbers are shown in three digits.
    """

    question: Question
    columns: Mapping[str, str]
    keys: tuple[str, ...]
    window: Window | None = None
    human: bool = False

    @property
    def adds_up(self) -> bool:
        """Whether a sum of each column means anything."""
        return all(self.question.meters[slug].adds_up for slug in self.columns)

    @property
    def main(self) -> str:
        """The meter that changes are told of."""
        return DEFAULT_METER if DEFAULT_METER in self.columns else next(iter(self.columns))

    @property
    def main_place(self) -> int:
        """Its place among `queries`."""
        return list(self.columns).index(self.main)

    def queries(self) -> list[UsageQuery]:
        """What to ask: the columns, then what the notes say."""
        about = self.question.about
        columns = [about(slug, self.keys, window=self.window) for slug in self.columns]
        return columns + notes_on(self.question, self.columns)

    def lines(self, reports: Sequence[UsageReport]) -> list[Line]:
        """The groups, from the answers to `queries`."""
        columns = dict(zip(self.columns, reports, strict=False))
        return tally(columns, self.keys, windowed=self.window is not None)

    def remarks(self, reports: Sequence[UsageReport], lines: Sequence[Line]) -> list[str]:
        """Sentences to be read with the numbers, from the answers to `queries`."""
        return [
            *key_notes(lines, self.keys),
            *call_notes(
                reports[len(self.columns) :],
                [self.question.meters[slug] for slug in self.columns],
            ),
            *(total_notes(totals(lines)) if len(self.columns) > 1 else ()),
            *price_notes(reports[: len(self.columns)]),
        ]

    def view(
        self, _: Sequence[UsageReport], lines: Sequence[Line], remarks: Sequence[str]
    ) -> Iterator[RenderableType]:
        """The groups, the sums, and the remarks."""
        yield self.listing(lines, totals(lines))
        if self.human and self.adds_up:
            yield exactly(self.columns, totals(lines))
        yield from self.period()
        yield from remarks_view(remarks)

    def period(self) -> Iterator[RenderableType]:
        """What was asked for, where it was not everything: a day in `--to` is not in it."""
        start, end = self.question.start, self.question.end
        if start or end:
            yield Text()
            yield Text(period_label(start, end, self.question.time_zone), style="dim")

    def listing(
        self,
        lines: Sequence[Line],
        sums: Mapping[str, Number],
        *,
        more: Mapping[str, Callable[[Line | None], str]] | None = None,
        one_line: bool = False,
        human: bool | None = None,
    ) -> Listing:
        """The groups and the sums alone.

        Args:
            lines: The groups to show.
            sums: By meter, of all groups.
            more: By title, what stands in further columns; of `None`, in the line of the sums.
            one_line: Whether long names are cut.
            human: Whether large numbers are shown in three digits, where it is not as usual.
        """
        number = short_amount if (self.human if human is None else human) else amount
        headings = [*([self.window_title()] if self.window else []), *map(plain, self.keys)]
        further = more or {}
        sum_cells = [number(sums.get(slug)) for slug in self.columns]
        return Listing(
            headings,
            [*self.columns.values(), *further],
            [
                (
                    *self.labels(line),
                    *(number(line.values.get(slug)) for slug in self.columns),
                    *(cell(line) for cell in further.values()),
                )
                for line in lines
            ],
            total=(
                *["total", *[""] * (len(headings) - 1)],
                *sum_cells,
                *(cell(None) for cell in further.values()),
            )
            if self.adds_up
            else None,
            one_line=one_line,
        )

    def labels(self, line: Line) -> list[str]:
        """What a group is called, one text for each column."""
        names = [UNKNOWN if name is None else plain(name) for name in line.keys]
        if line.window_start is None or self.window is None:
            return names
        return [
            window_label(line.window_start, self.window, self.question.zone),
            *names,
        ]

    def window_title(self) -> str:
        """Title of the column with the windows."""
        return f"{(self.window or '').lower()} ({self.question.time_zone})"


def notes_on(question: Question, slugs: Iterable[str]) -> list[UsageQuery]:
    """What to ask for the notes below numbers of these meters; `call_notes` reads the answers."""
    # They are about LLM calls, which a meter of another type of event knows nothing of.
    calls = METERS[CALLS]
    types = {question.meters[slug].event_type for slug in slugs}
    return note_queries(question.about(CALLS)) if calls.event_type in types else []


def exactly(titles: Mapping[str, str], sums: Mapping[str, Number]) -> Text:
    """The sums in full, below numbers that are not.

    Args:
        titles: What to call each meter, by slug.
        sums: By the meter's slug.
    """
    parts = [f"{title} {amount(sums.get(slug))}" for slug, title in titles.items()]
    return Text("exactly: " + ", ".join(parts))
