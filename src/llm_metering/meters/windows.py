"""Tumbling windows in the time zones of the IANA database, days of 23 and 25 hours included.

Windows are those of ClickHouse's `tumbleStart` with a time zone, which OpenMeter asks for
(`openmeter/streaming/clickhouse/meter_query.go`,
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c).
"""

from __future__ import annotations

import zoneinfo
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Final, Literal, assert_never

from ..errors import QueryError

__all__ = ["Window", "time_zone_of", "window_bounds"]

Window = Literal["MINUTE", "HOUR", "DAY", "MONTH"]
"""The size of a tumbling window, in a time zone."""

_DAY: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)
_MINUTE: Final = timedelta(minutes=1)
_DECEMBER: Final = 12


def time_zone_of(name: str) -> tzinfo:
    """A time zone by its name in the IANA database, such as `Europe/Berlin`.

    Raises:
        QueryError: If this machine knows no such zone.
    """
    if name == "UTC":
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    # What is no name at all, such as a folder or an absolute path, is refused in other ways.
    except (LookupError, ValueError, OSError, TypeError):
        raise QueryError(
            f"unknown time_zone {name!r}; write a name of the IANA database, such as UTC, "
            "Europe/Berlin or America/New_York" + _likely(name)
        ) from None


def window_bounds(
    moment: datetime, window: Window, zone: tzinfo = UTC
) -> tuple[datetime, datetime]:
    """The window that holds a moment: when it starts, and the first moment after it, both in UTC.

    >>> window_bounds(datetime(2026, 12, 31, 23, 30, tzinfo=UTC), "MONTH")[1]
    datetime.datetime(2027, 1, 1, 0, 0, tzinfo=datetime.timezone.utc)

    Args:
        moment: An aware time.
        window: How long a window is.
        zone: Whose hours, days and months these are.
    """
    local = moment.astimezone(zone)
    if window == "MINUTE":
        start = moment.astimezone(UTC).replace(second=0, microsecond=0)
        return start, start + _MINUTE
    if window == "HOUR":
        # Within an offset: an hour that clocks show twice is two windows.
        offset = timezone(local.utcoffset() or timedelta())
        start = local.astimezone(offset).replace(minute=0, second=0, microsecond=0)
        return start.astimezone(UTC), (start + _HOUR).astimezone(UTC)
    day = local.date()
    if _first_moment(day + _DAY, zone) <= moment:
        # Clocks that were set back over midnight show the evening again: the new day has begun.
        day += _DAY
    if window == "DAY":
        return _first_moment(day, zone), _first_moment(day + _DAY, zone)
    if window == "MONTH":
        first = day.replace(day=1)
        year = first.year + first.month // _DECEMBER
        following = date(year, first.month % _DECEMBER + 1, 1)
        return _first_moment(first, zone), _first_moment(following, zone)
    assert_never(window)


def _first_moment(day: date, zone: tzinfo) -> datetime:
    # Where clocks skip midnight this is the first moment after the gap, and where they show it
    # twice the first of the two (PEP 495, fold=0).
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def _likely(name: object) -> str:
    if not isinstance(name, str):
        return ""
    import difflib

    known = zoneinfo.available_timezones()
    last = name.rpartition("/")[2].replace(" ", "_").casefold()
    found = [each for each in sorted(known) if each.rpartition("/")[2].casefold() == last]
    found = found or difflib.get_close_matches(name, sorted(known), n=2)
    return f"; did you mean {' or '.join(found[:2])}?" if found else ""
