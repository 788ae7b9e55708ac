"""A burn-down as a chart of Altair, which notebooks and pages show."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from ..errors import MissingExtraError
from ..meters.charts import COLOURS
from ..meters.labels import amount, plain
from ..meters.time_axis import ENGLISH, TickLabels, ticks
from ..meters.windows import time_zone_of

if TYPE_CHECKING:
    import altair

    from .burn_down import BurnDown

__all__ = ["plot_burn_down"]

_WIDTH: Final = 640
_HEIGHT: Final = 220
_AHEAD: Final = timedelta(days=30)
_ZONE: Final = "UTC"


def plot_burn_down(found: BurnDown, *, labels: TickLabels | None = None) -> altair.LayerChart:
    """The work of `BurnDown.plot`."""
    try:
        import altair
    except ImportError as error:
        raise MissingExtraError("altair", "notebook") from error
    from ..meters import chart_classes as classes

    alt: Any = altair
    balance = found.balance
    was = [_dot(each.moment, each.left) for each in found.points]
    will = _ahead(found)
    first, last = was[0]["moment"], max(each["moment"] for each in [*was, *will])
    start, end = (
        found.points[0].moment,
        found.points[0].moment + timedelta(milliseconds=last - first),
    )
    shown = ticks(start, end, time_zone_of(_ZONE), labels=labels or ENGLISH)
    names = {str(_milliseconds(moment)): label for moment, label in shown}
    x = alt.X(
        "moment:T",
        scale=alt.Scale(type="utc", domain=[first, max(last, first + 1)], nice=False),
        axis=alt.Axis(
            title=f"time ({_ZONE})",
            values=[_milliseconds(moment) for moment, _ in shown],
            labelExpr=f"({json.dumps(names)})[toString(toNumber(datum.value))]",
            labelOverlap=True,
            grid=False,
        ),
    )
    unit = plain(balance.unit)
    y = alt.Y(
        "left:Q",
        scale=alt.Scale(zero=True),
        axis=alt.Axis(
            title=f"{unit} left",
            labelExpr="replace(format(datum.value, '.3~s'), 'G', 'B')",
            tickCount=5,
        ),
    )
    tooltip = [alt.Tooltip("left_text:N", title=f"{unit} left")]
    before: Any = classes.Chart(alt.Data(values=was)).mark_line(color=COLOURS[0], strokeWidth=2)
    layers = [before.encode(x=x, y=y, tooltip=tooltip)]
    if will:
        after: Any = classes.Chart(alt.Data(values=will)).mark_line(
            color=COLOURS[2], strokeWidth=2, strokeDash=[5, 4]
        )
        layers.append(after.encode(x=x, y=y, tooltip=tooltip))
    title = alt.TitleParams(
        f"{plain(balance.feature)} left of {plain(balance.subject)}",
        subtitle=[f"as of {balance.as_of:%Y-%m-%d %H:%M} (UTC)", *_notes(found)],
        anchor="start",
    )
    made: altair.LayerChart = classes.LayerChart(layer=layers).properties(
        width=_WIDTH, height=_HEIGHT, title=title, background="white"
    )
    return made


def _ahead(found: BurnDown) -> list[dict[str, Any]]:
    """What is to come: to the end of the balance, or to its renewal."""
    balance, now = found.balance, found.balance.as_of
    if not found.rate or balance.available <= 0:
        return []
    until = found.exhausted_at or balance.resets_at
    if until is None or until <= now:
        return []
    # What ends in ten years is no picture of this month.
    until = min(until, now + max(_AHEAD, now - found.points[0].moment))
    hours = (until - now).total_seconds() / 3600
    left = max(float(balance.available) - float(found.rate) * hours, 0.0)
    return [_dot(now, balance.available), _dot(until, left)]


def _notes(found: BurnDown) -> list[str]:
    return ["dashed: what is to come, at the rate of late"] if _ahead(found) else []


def _dot(moment: datetime, left: float | Decimal) -> dict[str, Any]:
    return {"moment": _milliseconds(moment), "left": float(left), "left_text": amount(left)}


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
