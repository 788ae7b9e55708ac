"""Usage over time, a line for each group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Final, assert_never

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from ...meters import Window, window_bounds
from ...meters.labels import window_label
from ..render import UNKNOWN, Listing, Number, shortened

__all__ = ["Axis", "Series", "Sparklines", "bars", "slot_of"]

LADDER: Final = "▁▂▃▄▅▆▇"
ASCII_LADDER: Final = "_-=+*#"
EMPTY: Final = "·"
ASCII_EMPTY: Final = "."
_MOST: Final = 60
_FEWEST: Final = 8
_NARROWEST_NAME: Final = 10  # as narrow as a table makes them
_GAP: Final = 2
_INSTANT: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Usage of one group.

    Attributes:
        names: What the group is called, a text for each key.
        values: By the start of the window; a window without usage is absent.
        total: Of all windows, if anybody knows.
    """

    names: tuple[str, ...]
    values: Mapping[datetime, Number]
    total: Number | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """The windows to show.

    Attributes:
        window: How long one is.
        zone: Whose days these are.
        start: A moment in the first.
        end: The first moment after the last.
    """

    window: Window
    zone: tzinfo
    start: datetime
    end: datetime

    @property
    def slots(self) -> range:
        """Their numbers, as `slot_of` gives them."""
        last = self.end - _INSTANT
        return range(
            slot_of(self.start, self.window, self.zone), slot_of(last, self.window, self.zone) + 1
        )

    def label(self, start: datetime) -> str:
        """What a window is called, without the year if all are in one."""
        last = self.end - _INSTANT
        short = self.start.astimezone(self.zone).year == last.astimezone(self.zone).year
        return window_label(start, self.window, self.zone, short=short)

    def long_label(self, moment: datetime) -> str:
        """What the window of a moment is called, with the year."""
        start, _ = window_bounds(moment, self.window, self.zone)
        return window_label(start, self.window, self.zone)

    def line(self, series: Series, width: int, *, adds_up: bool, ascii_only: bool) -> str:
        """Its bars, in so many cells at most; where there are more windows, several share one."""
        slots, each = self.slots, self.windows_each(width)
        found: list[Number | None] = [None] * -(-len(slots) // each)
        for start, value in series.values.items():
            place = (slot_of(start, self.window, self.zone) - slots.start) // each
            if 0 <= place < len(found):
                so_far = found[place]
                if so_far is not None:
                    value = so_far + value if adds_up else max(so_far, value)
                found[place] = value
        return bars(found, ascii_only=ascii_only)

    def windows_each(self, width: int) -> int:
        """How many windows a bar stands for."""
        return -(-len(self.slots) // max(width, 1))


def slot_of(start: datetime, window: Window, zone: tzinfo) -> int:
    """The number of a window among those of its size, in the order of time."""
    if window == "MINUTE":
        return int(start.timestamp()) // 60
    if window == "HOUR":
        # A zone that is half an hour off has windows that begin in the middle of these.
        return int(start.timestamp()) // 3600
    local = start.astimezone(zone)
    if window == "DAY":
        return local.toordinal()
    if window == "MONTH":
        return local.year * 12 + local.month - 1
    assert_never(window)


def bars(values: Sequence[Number | None], *, ascii_only: bool = False) -> str:
    """A bar for each value, on a scale of their own; `None` is a window without usage.

    >>> bars([1, 4, None, 8])
    '▂▄·▇'
    """
    ladder, empty = (ASCII_LADDER, ASCII_EMPTY) if ascii_only else (LADDER, EMPTY)
    known = [value for value in values if value is not None]
    low, high = min([0, *known]), max([0, *known])
    steps = len(ladder) - 1
    return "".join(
        empty if value is None else ladder[round((value - low) / ((high - low) or 1) * steps)]
        for value in values
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparklines:
    """A line for each group: its name, its total, its bars, its peak.

    Attributes:
        titles: Of the columns of names.
        unit: Title of the total.
        series: The groups.
        total: All groups together, if they add up.
        axis: The windows.
        number: How to write a value.
        adds_up: Whether several windows are worth their sum; else the largest of them.
    """

    titles: tuple[str, ...]
    unit: str
    series: Sequence[Series]
    total: Series | None
    axis: Axis
    number: Callable[[Number | None], str]
    adds_up: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = [*self.series, *([self.total] if self.total else [])]
        numbers = [self._numbers(each) for each in rows]
        heads = (self.unit, "peak", "at")
        fixed = sum(
            max(map(cell_len, cells)) for cells in zip(heads, *numbers, strict=True)
        ) + _GAP * (len(heads) + len(self.titles))
        slots = len(self.axis.slots)
        room = options.max_width - fixed
        names, left = self._names(rows, room, min(slots, _FEWEST), options)
        if left < min(slots, _FEWEST):
            width = min(slots, options.max_width - _GAP, _MOST)
            yield from self._as_blocks(rows, numbers, width, options)
        else:
            width = min(slots, left, _MOST)
            lines = [
                (*name, number[0], self._line(each, width, options), *number[1:])
                for name, number, each in zip(names, numbers, rows, strict=True)
            ]
            total = lines.pop() if self.total else None
            yield Listing(self.titles, (heads[0], "", *heads[1:]), lines, total)
        yield Text()
        yield Text(self._caption(width), style="dim")

    def _numbers(self, series: Series) -> tuple[str, str, str]:
        if not series.values:
            return self.number(series.total), UNKNOWN, UNKNOWN
        start, peak = max(series.values.items(), key=lambda item: (item[1], -item[0].timestamp()))
        return self.number(series.total), self.number(peak), self.axis.label(start)

    def _names(
        self, rows: Sequence[Series], room: int, bars_least: int, options: ConsoleOptions
    ) -> tuple[list[list[str]], int]:
        """Names as short as need be, and the cells that they leave."""
        widths = [
            max(map(cell_len, cells))
            for cells in zip(self.titles, *(each.names for each in rows), strict=True)
        ]
        while sum(widths) > room - bars_least and max(widths) > _NARROWEST_NAME:
            widths[widths.index(max(widths))] -= 1
        dots = "..." if options.ascii_only else "…"
        names = [
            [shortened(*each, dots) for each in zip(row.names, widths, strict=True)] for row in rows
        ]
        return names, room - sum(widths)

    def _line(self, series: Series, width: int, options: ConsoleOptions) -> str:
        return self.axis.line(series, width, adds_up=self.adds_up, ascii_only=options.ascii_only)

    def _as_blocks(
        self,
        rows: Sequence[Series],
        numbers: Sequence[tuple[str, str, str]],
        width: int,
        options: ConsoleOptions,
    ) -> Iterator[RenderableType]:
        for series, (total, peak, at) in zip(rows, numbers, strict=True):
            yield Text(" / ".join(filter(None, series.names)), style="bold")
            yield Text(f"  {self._line(series, width, options)}")
            yield Text(f"  {self.unit} {total}, peak {peak} at {at}", overflow="fold")

    def _caption(self, width: int) -> str:
        axis = self.axis
        count, size = axis.windows_each(width), axis.window.lower()
        each = f"a bar is {count} {size}s" if count > 1 else f"a bar is a {size}"
        first, last = map(axis.long_label, (axis.start, axis.end - _INSTANT))
        return f"{first} to {last} ({axis.zone}); {each}; each line has its own scale"
