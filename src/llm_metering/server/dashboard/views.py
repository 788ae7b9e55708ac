"""`View`: what a page shows, as its address says; an address that is sent to somebody shows them the same.

The parameters are those of a meter's query in the API. Beside them there is `period`, a span that moves with
the time, and times may be written without an offset: then they are those of the view's time zone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, get_args
from urllib.parse import urlencode

from ...errors import QueryError
from ...meters import rfc3339
from ...meters.windows import Window, time_zone_of, window_bounds
from ..problems import Refusal
from ..questions import Asked

__all__ = ["MOST_WINDOWS", "PERIODS", "Defaults", "View", "moment_in", "read_view", "zone_in"]

PERIODS: Final[Mapping[str, str]] = {
    "24h": "Last 24 hours",
    "7d": "Last 7 days",
    "30d": "Last 30 days",
    "month": "This month",
    "last-month": "Last month",
    "12mo": "Last 12 months",
    "all": "All time",
}
"""Spans that move with the time, and what they are called."""

MOST_WINDOWS: Final = 1500
"""More would be a table that nobody reads, and a chart with bars of a part of a pixel."""

_LENGTHS: Final[Mapping[Window, timedelta]] = {
    "MINUTE": timedelta(minutes=1),
    "HOUR": timedelta(hours=1),
    "DAY": timedelta(days=1),
    "MONTH": timedelta(days=31),
}
_FILTER: Final = re.compile(r"filterGroupBy\[([^\]]{1,100})\]")
_ONCE: Final = ("meter", "period", "from", "to", "windowSize", "windowTimeZone", "groupBy")
_MOST_NAMED: Final = 100
_LONGEST: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What is shown if nothing is said.

    Attributes:
        meter: The meter's slug.
        period: One of `PERIODS`.
        group_by: What is told apart; empty is nothing.
        time_zone: Whose days.
        of_subjects: Whose usage, where the address has no say in that.
    """

    meter: str = "tokens_total"
    period: str = "7d"
    group_by: str = "model"
    time_zone: str = "UTC"
    of_subjects: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a page shows.

    Attributes:
        meter: The meter's slug.
        period: One of `PERIODS`; `custom` where times are named.
        start: The first moment; the beginning of time if absent.
        end: The first moment behind; never if absent.
        before: The period before, as far as this one is over; `None` if there is none.
        window: How long a window is.
        time_zone: Whose windows.
        group_by: What is told apart; empty is nothing.
        subjects: Whose usage; `None` is everybody's.
        filters: By key, the values one of which usage must have.
        chosen: The parameters of the address, as they were given.
    """

    meter: str
    period: str
    start: datetime | None
    end: datetime | None
    before: tuple[datetime, datetime] | None
    window: Window
    time_zone: str
    group_by: str
    subjects: tuple[str, ...] | None = None
    filters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    chosen: tuple[tuple[str, str], ...] = ()

    def asked(
        self,
        *group_by: str,
        windowed: bool = False,
        keys: frozenset[str] | None = None,
        span: tuple[datetime | None, datetime | None] | None = None,
    ) -> Asked:
        """The question about a meter.

        Args:
            *group_by: What is told apart.
            windowed: Whether there is a row for each window.
            keys: Of the filters those of these alone; what a meter cannot be filtered by is left out.
            span: Another period.
        """
        start, end = (self.start, self.end) if span is None else span
        return Asked(
            start=None if start is None else rfc3339(start),
            end=None if end is None else rfc3339(end),
            window=self.window if windowed else None,
            time_zone=self.time_zone,
            subjects=self.subjects,
            group_by=tuple(dict.fromkeys(each for each in group_by if each)),
            conditions={
                key: {"$in": list(values)}
                for key, values in self.filters.items()
                if keys is None or key in keys
            },
        )

    def link(self, path: str, **changes: str | None) -> str:
        """An address with this view, and some parameters in place of others; `None` leaves one out."""
        names = {name.replace("_", ""): name for name in changes}
        kept = [(name, value) for name, value in self.chosen if name not in names and value]
        added = [(name, changes[given]) for name, given in names.items()]
        query = urlencode([*kept, *((name, value) for name, value in added if value)])
        return f"{path}?{query}" if query else path

    def only(self, path: str, key: str, value: str, *, meter: str | None = None) -> str:
        """An address with this view, of usage alone that has a value; by another meter, if one is named."""
        changes = {"subject" if key == "subject" else f"filterGroupBy[{key}]": value}
        if meter is not None:
            changes["meter"] = meter
        kept = [each for each in self.chosen if each[0] not in changes and each[1]]
        return f"{path}?{urlencode([*kept, *changes.items()])}"

    def without(self, path: str, name: str) -> str:
        """An address with this view, but for one of its parameters."""
        return f"{path}?{urlencode([each for each in self.chosen if each[0] != name and each[1]])}"


def read_view(parameters: Iterable[tuple[str, str]], defaults: Defaults, now: datetime) -> View:
    """What an address asks to be shown.

    Args:
        parameters: Those of the address; an empty one is none.
        defaults: What holds where they say nothing.
        now: The moment at which moving periods end.

    Raises:
        Refusal: If a parameter is not known, or makes no sense (400).
    """
    found: dict[str, str] = {}
    subjects: list[str] = []
    filters: dict[str, list[str]] = {}
    chosen = []
    key = ""
    for name, value in parameters:
        if len(value) > _LONGEST:
            raise Refusal(400, f"{name[:100]} is too long")
        if not value:
            continue
        if name in _ONCE:
            if name in found:
                raise Refusal(400, f"the parameter {name} comes twice")
            found[name] = value
        elif name == "subject" and defaults.of_subjects is None:
            subjects.append(value)
        elif named := _FILTER.fullmatch(name):
            filters.setdefault(named[1], []).append(value)
        elif name == "key":
            # A form has two fields for a condition, and so has its address.
            key = value
            continue
        elif name == "value":
            if not key:
                raise Refusal(400, "choose what is to have that value")
            name = f"filterGroupBy[{key}]"
            filters.setdefault(key, []).append(value)
        else:
            raise Refusal(400, f"there is no parameter {name[:100]}")
        chosen.append((name, value))
    if len(subjects) > _MOST_NAMED or sum(map(len, filters.values())) > _MOST_NAMED:
        raise Refusal(400, f"at most {_MOST_NAMED} can be named")
    zone_name, zone = zone_in(found.get("windowTimeZone", defaults.time_zone))
    period, start, end = _period(found, defaults, zone, now)
    return View(
        meter=found.get("meter", defaults.meter),
        period=period,
        start=start,
        end=end,
        before=_before(period, start, end, zone, now),
        window=_window(found.get("windowSize"), start, end, now),
        time_zone=zone_name,
        group_by="" if found.get("groupBy") == "none" else found.get("groupBy", defaults.group_by),
        subjects=defaults.of_subjects or tuple(subjects) or None,
        filters={key: tuple(values) for key, values in filters.items()},
        chosen=tuple(chosen),
    )


def _period(
    found: Mapping[str, str], defaults: Defaults, zone: tzinfo, now: datetime
) -> tuple[str, datetime | None, datetime | None]:
    start, end = (moment_in(name, found.get(name), zone) for name in ("from", "to"))
    if start is not None or end is not None:
        if start is not None and end is not None and start >= end:
            raise Refusal(400, "the period begins at its end or behind it")
        return "custom", start, end
    period = found.get("period", defaults.period)
    if period not in PERIODS:
        raise Refusal(400, f"period is one of {', '.join(PERIODS)}")
    if period == "all":
        return period, None, None
    if period == "24h":
        hour, end = window_bounds(now, "HOUR", zone)
        return period, hour - timedelta(hours=23), end
    day, end = window_bounds(now, "DAY", zone)
    if period in ("7d", "30d"):
        noon = day.astimezone(zone) + timedelta(hours=12)
        first = noon - timedelta(days=int(period[:-1]) - 1)
        return period, window_bounds(first, "DAY", zone)[0], end
    month, end = window_bounds(now, "MONTH", zone)
    if period == "month":
        return period, month, end
    earlier = month
    for _ in range(1 if period == "last-month" else 11):
        earlier = window_bounds(earlier - timedelta(days=1), "MONTH", zone)[0]
    return period, earlier, month if period == "last-month" else end


def _before(
    period: str, start: datetime | None, end: datetime | None, zone: tzinfo, now: datetime
) -> tuple[datetime, datetime] | None:
    """The period before, up to as far as this one has come: half a month is less than a whole one."""
    if start is None or end is None or start >= now:
        return None
    try:
        earlier = start - (end - start)
        if period in ("month", "last-month"):
            earlier = window_bounds(start - timedelta(days=1), "MONTH", zone)[0]
        return earlier, min(earlier + (min(now, end) - start), start)
    except OverflowError:
        return None


def zone_in(name: str) -> tuple[str, tzinfo]:
    """The time zone of a name, with its name.

    Raises:
        Refusal: If there is no such zone (400).
    """
    try:
        return name, time_zone_of(name)
    except QueryError as error:
        raise Refusal(400, str(error)) from None


def moment_in(name: str, text: str | None, zone: tzinfo) -> datetime | None:
    """The moment of a text, which may name no offset: then clocks of a zone show it.

    Raises:
        Refusal: If it is none (400).
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Refusal(400, f"{name} is a time such as 2026-11-21T13:00") from None


def _window(
    given: str | None, start: datetime | None, end: datetime | None, now: datetime
) -> Window:
    span = None if start is None else (end or now) - start
    if given is not None:
        for window in _LENGTHS:
            if given == window:
                if span is not None and span / _LENGTHS[window] > MOST_WINDOWS:
                    raise Refusal(
                        400,
                        f"that would be more than {MOST_WINDOWS:,} windows; choose longer ones, or a "
                        "shorter period",
                    )
                return window
        raise Refusal(400, f"windowSize is one of {', '.join(get_args(Window))}")
    if span is None or span > timedelta(days=100):
        return "MONTH"
    if span > timedelta(days=2):
        return "DAY"
    return "HOUR" if span > timedelta(hours=3) else "MINUTE"
