"""Where a time axis has its ticks: at midnights, hours and months as clocks of a zone show them.

Vega draws times in UTC or in the zone of the machine that draws (vega-scale's `utc` and `time`),
in no third one. So the instants stay what they are, and ticks and their labels are made here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final, Literal

__all__ = ["ENGLISH", "Tick", "TickLabels", "ticks"]

Tick = tuple[datetime, str]
"""A moment in UTC, and what stands below it."""

_Unit = Literal["minute", "day", "month"]

_MONTHS: Final = [
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
]
"""English, whatever the locale: the same report is the same chart everywhere, unless somebody asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TickLabels:
    """What stands below the ticks of an axis.

    Attributes:
        day: Below the beginning of a day.
        month: Below that of a month.
        clock: Below a time of the day, which is aware and of the axis' zone.
    """

    day: Callable[[date], str]
    month: Callable[[date], str]
    clock: Callable[[datetime], str]


ENGLISH: Final = TickLabels(
    day=lambda day: f"{day.day} {_MONTHS[day.month - 1]}",
    month=lambda day: _MONTHS[day.month - 1],
    clock=lambda moment: f"{moment:%H:%M}",
)

_STEPS: Final[tuple[tuple[_Unit, int, timedelta], ...]] = (
    *(("minute", each, timedelta(minutes=each)) for each in (1, 2, 5, 10, 15, 30)),
    *(("minute", each * 60, timedelta(hours=each)) for each in (1, 2, 3, 6, 12)),
    *(("day", each, timedelta(days=each)) for each in (1, 2, 7, 14)),
    *(("month", each, timedelta(days=each * 31)) for each in (1, 2, 3, 6)),
)
_DAY: Final = timedelta(days=1)
_YEAR: Final = timedelta(days=366)


def ticks(
    start: datetime,
    end: datetime,
    zone: tzinfo,
    *,
    most: int = 10,
    labels: TickLabels = ENGLISH,
) -> list[Tick]:
    """Ticks between two moments, on round local times.

    >>> found = ticks(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC), UTC)
    >>> [label for _, label in found][:3]
    ['1 Nov', '03:00', '06:00']

    Args:
        start: The first moment of the axis, aware.
        end: The last one.
        zone: Whose clocks these are.
        most: About so many at most.
        labels: What stands below them.
    """
    span = end - start
    for unit, step, length in _STEPS:
        if span / length <= most:
            break
    else:
        unit, step = "month", 12 * max(1, -(-(span // _YEAR) // most))
    return [
        (moment, label)
        for moment, label in _candidates(start, end, zone, unit, step, labels)
        if start <= moment <= end
    ]


def _candidates(
    start: datetime, end: datetime, zone: tzinfo, unit: _Unit, step: int, labels: TickLabels
) -> Iterator[Tick]:
    first, last = start.astimezone(zone).date(), end.astimezone(zone).date()
    if unit == "month":
        year, month = first.year, 1
        while date(year, month, 1) <= last:
            begin = date(year, month, 1)
            yield _moment(begin, 0, zone), str(year) if month == 1 else labels.month(begin)
            years, month = divmod(month - 1 + step, 12)
            year, month = year + years, month + 1
        return
    # Weeks begin on a Monday, wherever the axis does: day 1 of the calendar was one.
    day = first - timedelta(days=(first.toordinal() - 1) % step if unit == "day" else 0)
    while day <= last:
        if unit == "day":
            yield _moment(day, 0, zone), labels.day(day)
            day += timedelta(days=step)
            continue
        for minute in range(0, 24 * 60, step):
            moment = _moment(day, minute, zone)
            local = moment.astimezone(zone)
            # Clocks that skip an hour show no such time.
            if (local.date(), local.hour * 60 + local.minute) == (day, minute):
                yield moment, labels.clock(local) if minute else labels.day(day)
        day += _DAY


def _moment(day: date, minute: int, zone: tzinfo) -> datetime:
    hour, rest = divmod(minute, 60)
    return datetime(day.year, day.month, day.day, hour, rest, tzinfo=zone).astimezone(UTC)
