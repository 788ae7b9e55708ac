"""Text, numbers and lists as a terminal shows them, made of plain data.

Subjects, models and reasons come from outside. They are shown as text: no markup of theirs is
interpreted, and a control character appears as its escape instead of reaching the terminal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

__all__ = ["UNKNOWN", "Listing", "amount", "duration", "plain"]

UNKNOWN: Final = "-"
"""Stands where a number would be and nobody knows it, which is not 0."""

_NARROWEST_TEXT = 10
_GAP = 2


def plain(text: str) -> str:
    r"""`text` with everything that is no visible character escaped.

    >>> print(plain("acme\x1b[31m"))
    acme\x1b[31m
    """
    shown = "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
    # In quotes where it could be mistaken for another, or for nothing.
    return shown if shown == shown.strip() and shown else f'"{shown}"'


def amount(value: object) -> str:
    """A number to be read by people; `None` is one that nobody knows.

    >>> amount(1234567), amount(None)
    ('1,234,567', '-')
    """
    return UNKNOWN if value is None else format(value, ",")


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


@dataclass(frozen=True, slots=True)
class Listing:
    """Rows with columns of text, which may wrap, and then of numbers, which are never cut.

    Where the numbers alone are wider than the terminal, each row becomes a block of lines.

    Attributes:
        texts: Titles of the columns of text.
        numbers: Titles of the columns of numbers.
        rows: A cell for each column.
        total: The cells of the last line, which stands apart.
    """

    texts: Sequence[str]
    numbers: Sequence[str]
    rows: Sequence[Sequence[str]]
    total: Sequence[str] | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self.numbers or self._narrowest() <= options.max_width:
            yield self._as_table()
        else:
            yield from self._as_blocks()

    def _narrowest(self) -> int:
        needed = 0
        lines = [(*self.texts, *self.numbers), *self.rows, *([self.total] if self.total else [])]
        for index, cells in enumerate(zip(*lines, strict=True)):
            widest = max(cell_len(cell) for cell in cells)
            is_text = index < len(self.texts)
            needed += min(widest, _NARROWEST_TEXT) if is_text else widest
        return needed + _GAP * (len(self.texts) + len(self.numbers) - 1)

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
        widest = max(map(len, self.numbers))
        for row in [*self.rows, *([self.total] if self.total else [])]:
            yield Text(" / ".join(cell for cell in row[: len(self.texts)] if cell), style="bold")
            for title, cell in zip(self.numbers, row[len(self.texts) :], strict=True):
                yield Text(f"  {title:<{widest}}  {cell}")
