"""Charts on a page: those of a notebook, as SVG without colours of their own, once wide and once for a phone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import altair
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool

from ...errors import QueryError
from ...meters import UsageReport
from ...meters.chart_data import groups_of, named_rows
from ...meters.charts import MOST_COLOURS, plot
from .drawing import Drawing
from .views import MOST_WINDOWS
from .words import Words

__all__ = ["Picture", "Pivot", "picture_of", "picture_of_spec", "pivot_of"]

_VERSION: Final = altair.SCHEMA_VERSION.removeprefix("v").rpartition(".")[0]
MOST_MARKS: Final = 2500
"""Bars of a chart; each is some hundred bytes of the page."""

_FEW: Final = 3
_MOST_ROWS: Final = 200
_WIDE: Final = {"width": 720, "height": 260}
_NARROW: Final = {"width": 280, "height": 220}
_CONFIG: Final[dict[str, Any]] = {
    # What a screen reader is told is the title and the table behind the chart.
    "aria": False,
    "mark": {"aria": False},
    "view": {"stroke": None},
    "axis": {
        "domainColor": "#888",
        "gridColor": "#ddd",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titlePadding": 12,
    },
    # The reader's letters may be wider than those it was measured with.
    "padding": {"left": 8, "top": 4, "right": 32, "bottom": 4},
    "legend": {"labelFontSize": 11, "titleFontSize": 11},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A chart on a page.

    Attributes:
        title: What it shows.
        wide: As SVG; `None` if it could not be drawn.
        narrow: The same for a phone.
        notes: What is to be read with it.
        problem: Why there is none, where that is the reader's to mend.
    """

    title: str
    wide: Markup | None = None
    narrow: Markup | None = None
    notes: tuple[str, ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pivot:
    """The table behind a chart: a row for each window, and a column for each group.

    Attributes:
        groups: The titles of the columns.
        rows: What a window is called, its values, and their sum if they add up.
        left_out: How many windows are not shown, the oldest ones.
    """

    groups: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Any, ...], Any], ...]
    left_out: int = 0


async def picture_of(report: UsageReport, title: str, drawing: Drawing, words: Words) -> Picture:
    """The chart of a report.

    Args:
        report: The report.
        title: What it shows.
        drawing: Draws it.
        words: Of the reader.
    """
    windows = len({row.window_start for row in report.rows})
    if windows > MOST_WINDOWS:
        return Picture(
            title=title,
            problem=f"{words.number(windows)} bars cannot be read: choose longer windows, or a shorter "
            "period. The CSV file has all of them.",
        )
    top = max(min(MOST_COLOURS, MOST_MARKS // max(windows, 1) - 1), 1)
    try:
        # In a thread, as all that takes milliseconds: what comes in meanwhile is not to wait for it.
        spec = await run_in_threadpool(
            lambda: plot(report, top=top, labels=words.tick_labels).to_dict()
        )
    except QueryError as error:
        return Picture(title=title, problem=str(error))
    return await picture_of_spec(spec, title, drawing, words)


async def picture_of_spec(
    spec: dict[str, Any], title: str, drawing: Drawing, words: Words
) -> Picture:
    """A chart of Altair, as Vega-Lite, on a page."""
    heading = spec.pop("title", {})
    subtitle = heading.get("subtitle", []) if isinstance(heading, Mapping) else []
    wide, narrow = [
        await drawing.svg(each, _VERSION, words.axis_numbers)
        for each in (_wide(spec), _narrow(spec))
    ]
    return Picture(
        title=title,
        # It is made of what we have drawn, in which Vega has escaped every text.
        wide=None if wide is None else Markup(wide),
        narrow=None if narrow is None else Markup(narrow),
        notes=tuple(subtitle[1:]),
    )


def pivot_of(report: UsageReport, words: Words) -> Pivot:
    """The table of a report that has windows."""
    query = report.query
    assert query.window is not None
    groups = groups_of(report, MOST_COLOURS)
    shown = groups.shown
    windows: dict[Any, dict[str, Any]] = {}
    for row, name in named_rows(report, groups):
        values = windows.setdefault(row.window_start, {})
        values[name] = row.value + values[name] if name in values else row.value
    latest = sorted(windows)[-_MOST_ROWS:]
    return Pivot(
        groups=tuple(shown),
        rows=tuple(
            (
                words.window(start, query.window, query.time_zone),
                tuple(windows[start].get(name) for name in shown),
                sum(windows[start].values()) if report.adds_up else None,
            )
            for start in reversed(latest)
        ),
        left_out=len(windows) - len(latest),
    )


def _wide(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {**spec, **_size(spec, _WIDE), "background": "transparent", "config": _CONFIG}


def _narrow(spec: Mapping[str, Any]) -> dict[str, Any]:
    made = {**spec, **_size(spec, _NARROW), "background": "transparent", "config": _CONFIG}
    encoding = dict(made.get("encoding", {}))
    colour = encoding.get("color")
    if isinstance(colour, Mapping) and isinstance(colour.get("legend"), Mapping):
        legend = {**colour["legend"], "orient": "bottom", "columns": 2, "labelLimit": 120}
        encoding["color"] = {**colour, "legend": legend}
    for name in ("x", "y"):
        channel = encoding.get(name)
        if isinstance(channel, Mapping) and isinstance(channel.get("axis"), Mapping):
            encoding[name] = {**channel, "axis": {**channel["axis"], "title": None}}
    return {**made, "encoding": encoding} if encoding else made


def _size(spec: Mapping[str, Any], wanted: Mapping[str, int]) -> dict[str, int]:
    # What is as high as it has rows stays so.
    height = spec.get("height", wanted["height"])
    return {
        "width": wanted["width"],
        "height": wanted["height"] if height > wanted["height"] / _FEW else height,
    }
