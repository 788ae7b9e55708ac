"""Text, numbers and lists as a terminal shows them, made of plain data.

Subjects, models and reasons come from outside. They are shown as text: no markup of theirs is
interpreted, and a control character appears as its escape instead of reaching the terminal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeAlias

from rich import box
from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ..meters.labels import UNKNOWN, amount, plain

__all__ = [
    "UNKNOWN",
    "Listing",
    "Number",
    "amount",
    "duration",
    "lines_taken",
    "plain",
    "short_amount",
    "shortened",
]

Number: TypeAlias = Any
"""A value of a meter, or what was worked out of some. All of one meter are of a kind: whole numbers,
floats, or decimals, which no type can say where they are added up."""

_NARROWEST_TEXT = 10
_GAP = 2
_EXACT_BELOW = 10_000
_UNITS: Final = ("", " k", " M", " B", " T")


def shortened(text: str, width: int, dots: str = "…") -> str:
    """`text` in so many cells at most, without its middle: names differ at both ends.

    >>> shortened("gpt-5-mini-2026-08-07", 13)
    'gpt-5-…-08-07'
    """
    if cell_len(text) <= width:
        return text
    room = max(width - cell_len(dots), 0)
    head = chop_cells(text, (room + 1) // 2)[0] if room else ""
    tail = chop_cells(text[::-1], room // 2)[0][::-1] if room > 1 else ""
    return f"{head}{dots}{tail}"


def short_amount(value: float | Decimal | None) -> str:
    """A number in three digits, where it is large.

    >>> short_amount(9876), short_amount(1_234_567), short_amount(999_950)
    ('9,876', '1.23 M', '1.00 M')
    """
    if value is None or -_EXACT_BELOW < value < _EXACT_BELOW:
        return amount(value)
    # Rounded before the unit is chosen: 999,950 is no thousand thousands.
    digits, _, exponent = f"{value:.2e}".partition("e")
    unit, places = divmod(int(exponent), 3)
    if unit >= len(_UNITS):
        return amount(value)
    return f"{float(digits) * 10**places:.{2 - places}f}{_UNITS[unit]}"


def duration(seconds: float) -> str:
    """A time span in the two units that matter.

    >>> duration(7.6), duration(125), duration(7500), duration(200_000)
    ('7 s', '2 min 5 s', '2 h 5 min', '2 d 7 h')
    """
    rest = int(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append(f"{count} {unit}")
    shown = [part for part in parts[:2] if not part.startswith("0 ")]
    return " ".join(shown) or "0 s"


def lines_taken(parts: Sequence[RenderableType], width: int) -> int:
    """How many lines something takes in a window of this width."""
    paper = Console(width=width, color_system=None)
    return len(paper.render_lines(Group(*parts), pad=False)) if parts else 0


@dataclass(frozen=True, slots=True)
class Listing:
    """Rows with columns of text, which may wrap, and then of numbers, which are never cut.

    Where the numbers alone are wider than the terminal, each row becomes a block of lines.

    Attributes:
        texts: Titles of the columns of text.
        numbers: Titles of the columns of numbers.
        rows: A cell for each column.
        total: The cells of the last line, which stands apart.
        one_line: Whether text is cut in its middle instead of wrapped.
        bars: Which of the columns of numbers, if any, has bars: they stand left.
        lead: How many columns name a row, in a list that is never wrapped: where it is wider than
            the terminal, each row becomes a block of lines below these names.
    """

    texts: Sequence[str]
    numbers: Sequence[str]
    rows: Sequence[Sequence[str]]
    total: Sequence[str] | None = None
    one_line: bool = False
    bars: int | None = None
    lead: int | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widest = self._widest()
        room = options.max_width - _GAP * (len(widest) - 1)
        if any("\n" in cell for row in self.rows for cell in row[: len(self.texts)]):
            yield self._as_table()
        elif sum(widest) <= room:
            yield from self._as_lines(widest, console, options)
        elif self.lead or (self.numbers and not self.fits(options.max_width)):
            yield from self._as_blocks()
        elif self.one_line:
            rest = room - sum(widest[len(self.texts) :])
            yield from self._as_lines(self._cut(widest, rest), console, options)
        else:
            yield self._as_table()

    def fits(self, width: int) -> bool:
        """Whether it can be a table in so many cells."""
        widest = self._widest()
        count = len(self.texts)
        needed = sum(min(each, _NARROWEST_TEXT) for each in widest[:count]) + sum(widest[count:])
        return needed + _GAP * (len(widest) - 1) <= width

    def _widest(self) -> list[int]:
        lines = [(*self.texts, *self.numbers), *self.rows, *([self.total] if self.total else [])]
        return [max(map(cell_len, cells)) for cells in zip(*lines, strict=True)]

    def _cut(self, widths: list[int], room: int) -> list[int]:
        """Widths of the columns, with the widest of the texts narrowed until all have room."""
        texts, numbers = widths[: len(self.texts)], widths[len(self.texts) :]
        while sum(texts) > room and max(texts) > 1:
            texts[texts.index(max(texts))] -= 1
        return texts + numbers

    def _as_lines(
        self, widths: Sequence[int], console: Console, options: ConsoleOptions
    ) -> Iterator[Segment]:
        """Where nothing has to be wrapped: as the table, without its price for thousands of rows."""
        bold = console.get_style("bold")
        dots, rule = ("...", "-") if options.ascii_only else ("…", "─")
        last = len(widths) - 1
        lefts = [place < len(self.texts) for place in range(len(widths))]
        if self.bars is not None:
            lefts[len(self.texts) + self.bars] = True

        def line(cells: Sequence[str]) -> str:
            shown = []
            for place, (cell, width, left) in enumerate(zip(cells, widths, lefts, strict=True)):
                text = shortened(cell, width, dots) if place < len(self.texts) else cell
                blank = " " * (width - cell_len(text))
                shown.append(blank + text if not left else text if place == last else text + blank)
            return (" " * _GAP).join(shown)

        across = Segment(rule * (sum(widths) + _GAP * last) + "\n")
        yield Segment(line([*self.texts, *self.numbers]) + "\n", bold)
        yield across
        for row in self.rows:
            yield Segment(line(row) + "\n")
        if self.total is not None:
            yield across
            yield Segment(line(self.total) + "\n", bold)

    def _as_table(self) -> Table:
        # The gap is a padding of 1 and the box's own divider, a space.
        table = Table(
            box=box.SIMPLE,
            show_edge=False,
            pad_edge=False,
            collapse_padding=True,
            show_footer=self.total is not None,
            footer_style="bold",
        )
        titles = [*self.texts, *self.numbers]
        for title, total in zip(titles, self.total or [""] * len(titles), strict=True):
            if len(table.columns) < len(self.texts):
                table.add_column(Text(title), Text(total), overflow="fold")
            else:
                table.add_column(Text(title), Text(total), justify="right", no_wrap=True)
        for row in self.rows:
            table.add_row(*map(Text, row))
        return table

    def _as_blocks(self) -> Iterator[RenderableType]:
        lead = self.lead or len(self.texts)
        titles = [*self.texts, *self.numbers][lead:]
        widest = max(map(len, titles))
        for row in [*self.rows, *([self.total] if self.total else [])]:
            yield Text(" / ".join(cell for cell in row[:lead] if cell), style="bold")
            for title, cell in zip(titles, row[lead:], strict=True):
                yield Text(f"  {title:<{widest}}  {cell}")
