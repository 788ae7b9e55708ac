"""Reports as Altair charts, for notebooks, pages and files alike.

A chart holds its data, so that it is drawn without another request. Sources: Vega-Lite 6.1 as Altair
6.3 writes it; the colours are the qualitative scheme *muted* of Paul Tol's technical note
SRON/EPS/TN/09-002, issue 3.2, which people with any of the common colour blindnesses tell apart.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from ..errors import MissingExtraError, QueryError
from .chart_data import Groups, bars, groups_of, intervals
from .html import about, period_of
from .labels import plain
from .time_axis import ENGLISH, TickLabels, ticks
from .windows import time_zone_of

if TYPE_CHECKING:
    import altair

    from .reports import UsageReport

__all__ = ["COLOURS", "MOST_BARS", "MOST_COLOURS", "plot"]

COLOURS: Final = (
    *("#332288", "#88CCEE", "#CC6677", "#117733", "#DDCC77"),
    *("#882255", "#44AA99", "#999933", "#AA4499"),
)
"""Of series, in this order."""
_OTHER: Final = "#BBBBBB"
MOST_COLOURS: Final = len(COLOURS)
"""Groups that colours tell apart."""
MOST_BARS: Final = 20
"""Groups that have a bar of their own where there are no windows, if nothing else is said."""
_MOST_MARKS: Final = 20_000
"""More would be bars of less than a pixel, and a page that is slow."""
_WIDTH: Final = 640
_HEIGHT: Final = 280
_NAMES: Final = 260
"""Pixels of a group's name."""
_TALL: Final = 10_000
_MOST_APART: Final = 200
"""Windows between which a pixel can be spared."""
_UNITS: Final = {"tokens": "tokens", "calls": "calls", "credits": "credits"}


def plot(
    report: UsageReport, *, top: int | None = None, labels: TickLabels = ENGLISH
) -> altair.Chart | altair.LayerChart:
    """The work of `UsageReport.plot`; for who reads another language, with labels of theirs."""
    try:
        import altair
    except ImportError as error:
        raise MissingExtraError("altair", "notebook") from error
    over_time = report.query.window is not None
    most = MOST_COLOURS if over_time else MOST_BARS
    if top is None:
        top = most
    if not isinstance(top, int) or top < 1 or (over_time and top > most):
        raise QueryError(
            f"top is a number of groups from 1{f' to {most}' if over_time else ''}, got {top!r}"
            + ("; colours tell no more of them apart" if over_time else "")
        )
    from . import chart_classes

    groups = groups_of(report, top)
    chart: altair.Chart | altair.LayerChart
    if not report.rows:
        chart = _empty(altair, chart_classes, report)
    elif over_time:
        chart = _over_time(altair, chart_classes, report, groups, labels)
    else:
        chart = _by_group(altair, chart_classes, report, groups)
    return chart


def _over_time(
    alt: Any, classes: Any, report: UsageReport, groups: Groups, tick_labels: TickLabels
) -> Any:
    query = report.query
    data = intervals(report, groups)
    if len(data) > _MOST_MARKS:
        raise QueryError(
            f"a chart of {len(data):,} bars cannot be read; ask for a larger window than "
            f"{query.window}, or for a shorter period"
        )
    first = min(each["start"] for each in data)
    last = max(each["end"] for each in data)
    start = query.start or _moment(first)
    end = query.end or _moment(last)
    # A window may begin before the period that was asked for, and end after it.
    domain = [min(first, _milliseconds(start)), max(last, _milliseconds(end))]
    zone = time_zone_of(query.time_zone)
    shown = ticks(_moment(domain[0]), _moment(domain[1]), zone, labels=tick_labels)
    labels = {str(_milliseconds(moment)): label for moment, label in shown}
    windows = (query.window or "").lower()
    axis = alt.Axis(
        title=f"{windows} ({query.time_zone})",
        values=[_milliseconds(moment) for moment, _ in shown],
        labelExpr=f"({json.dumps(labels)})[toString(toNumber(datum.value))]",
        labelOverlap=True,
        grid=False,
    )
    base = classes.Chart(alt.Data(values=data)).encode(
        x=alt.X("start:T", scale=alt.Scale(type="utc", domain=domain, nice=False), axis=axis),
        x2="end:T",
        tooltip=[
            alt.Tooltip("window:N", title=axis.title),
            *_group_tooltip(alt, groups),
            alt.Tooltip("value:N", title=_unit(report)),
        ],
    )
    y_axis = _number_axis(alt, _per_window(report, windows), data, ("low", "high"))
    if report.adds_up:
        y = alt.Y("low:Q", axis=y_axis, stack=None)
        chart = base.mark_bar(x2Offset=-1 if _is_wide(data, domain) else 0)
        chart = chart.encode(y=y, y2="high:Q")
    else:
        y = alt.Y("high:Q", axis=y_axis, scale=alt.Scale(zero=True))
        chart = base.mark_rule(strokeWidth=3).encode(y=y)
    return _finished(alt, chart.encode(color=_colours(alt, groups)), report, groups)


def _by_group(alt: Any, classes: Any, report: UsageReport, groups: Groups) -> Any:
    data = bars(report, groups)
    names = alt.Axis(title=" / ".join(groups.titles) or None, labelLimit=_NAMES, ticks=False)
    values = [each["high"] for each in data]
    low, high = min(0.0, *values), max(0.0, *values)
    # Room for the number behind the longest bar.
    scale = alt.Scale(domain=[low, high + (high - low or 1) * 0.1], nice=False)
    base = alt.Chart().encode(
        y=alt.Y("group:N", sort=[each["group"] for each in data], axis=names),
        x=alt.X("high:Q", scale=scale, axis=_number_axis(alt, _unit(report), data, ("high",))),
        tooltip=[
            *_group_tooltip(alt, groups),
            alt.Tooltip("value:N", title=_unit(report)),
        ],
    )
    is_other = alt.datum.group == (groups.other or "")
    colour = alt.condition(is_other, alt.value(_OTHER), alt.value(COLOURS[0]))
    drawn = base.mark_bar().encode(color=colour)
    # The numbers themselves: a short bar beside a long one has no height to be read.
    text = base.mark_text(align="left", dx=4, clip=False).encode(text="value:N")
    chart = classes.LayerChart(layer=[drawn, text], data=alt.Data(values=data))
    return _finished(alt, chart, report, groups, height=max(24 * len(data), 48))


def _empty(alt: Any, classes: Any, report: UsageReport) -> Any:
    words = "nothing has a price" if report.unpriced else "nothing was used"
    chart = classes.Chart(alt.Data(values=[{"text": words}])).mark_text(fontSize=14)
    nobody = Groups(titles=(), names={})
    return _finished(alt, chart.encode(text="text:N"), report, nobody, height=80)


def _finished(
    alt: Any, chart: Any, report: UsageReport, groups: Groups, *, height: int = _HEIGHT
) -> Any:
    subtitle = [period_of(report.query)]
    if groups.rest and groups.other is None:
        subtitle.append(
            f"the {len(groups.names):,} groups with the highest values; "
            f"{groups.rest:,} more are not shown"
        )
    unpriced = report.unpriced
    if unpriced:
        subtitle.append(
            f"without {unpriced:,} {'event' if unpriced == 1 else 'events'} of no price"
        )
    title = alt.TitleParams(about(report.query), subtitle=subtitle, anchor="start")
    # White, since text and grid are dark: a page in the dark shows a card.
    return chart.properties(width=_WIDTH, height=height, title=title, background="white")


def _colours(alt: Any, groups: Groups) -> Any:
    if not groups.titles:
        return alt.value(COLOURS[0])
    colours = [*COLOURS[: len(groups.names)], *([_OTHER] if groups.other else [])]
    return alt.Color(
        "group:N",
        scale=alt.Scale(domain=groups.shown, range=colours),
        legend=alt.Legend(title=" / ".join(groups.titles), labelLimit=_NAMES),
    )


def _group_tooltip(alt: Any, groups: Groups) -> list[Any]:
    return [alt.Tooltip("group:N", title=" / ".join(groups.titles))] if groups.titles else []


def _number_axis(alt: Any, title: str, data: list[dict[str, Any]], ends: tuple[str, ...]) -> Any:
    most = max(abs(each[end]) for each in data for end in ends)
    if most < _TALL:
        return alt.Axis(title=title, format=",.10~g" if most < 1 else ",.10~f", tickCount=5)
    # SI's G is what people call a billion.
    label = "replace(format(datum.value, '.3~s'), 'G', 'B')"
    return alt.Axis(title=title, labelExpr=label, tickCount=5)


def _unit(report: UsageReport) -> str:
    """What the values are counted in, as an axis says it."""
    meter = report.query.meter
    currency = report.currency
    if currency:
        return plain(str(currency))
    word = _UNITS.get(meter.slug.partition("_")[0], meter.slug)
    return word if meter.adds_up else f"{meter.slug} ({meter.aggregation})"


def _per_window(report: UsageReport, window: str) -> str:
    unit = _unit(report)
    return f"{unit} per {window}" if report.adds_up else unit


def _is_wide(data: list[dict[str, Any]], domain: list[int]) -> bool:
    """Whether a pixel between two bars can be spared."""
    shortest: int = min(each["end"] - each["start"] for each in data)
    return domain[1] - domain[0] <= shortest * _MOST_APART


def _moment(milliseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
