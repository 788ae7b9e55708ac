"""Moments as people write them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, tzinfo
from typing import Final

from ..errors import QueryError
from ..meters import read_moment, window_bounds

__all__ = ["FORMS", "moment", "moment_of"]

FORMS: Final = (
    "a day such as 2026-11-21, a month such as 2026-11, today, yesterday, now, -7d, -24h, -30m, or "
    "ISO 8601 with an offset such as 2026-11-21T20:00:00+01:00"
)
"""What `moment_of` reads."""

_DATE: Final = re.compile(r"([0-9]{4})-([0-9]{2})(?:-([0-9]{2}))?")
_AGO: Final = re.compile(r"-([0-9]{1,9})([dhm])")
_NOON: Final = 12


def moment_of(option: str, text: str | None, zone: tzinfo, now: datetime) -> datetime | None:
    """The moment that a person means, in UTC; a day, a month and `-7d` are their first moment.

    Args:
        option: How to call it in an error.
        text: What was written; `None` stays so.
        zone: Whose days these are.
        now: The present moment.

    Raises:
        QueryError: Naming the forms.
    """
    if text is None:
        return None
    try:
        found = _relative(text, zone, now) or _first_moment(text, zone)
        if found is None and (given := datetime.fromisoformat(text)).tzinfo is not None:
            found = read_moment(option, given)
    except (ValueError, OverflowError):
        found = None
    if found is None:
        raise QueryError(f"{option} {text!r} is no moment; write {FORMS}")
    return found


def _relative(text: str, zone: tzinfo, now: datetime) -> datetime | None:
    if text == "now":
        return now
    if text == "today":
        return _day_before(now, 0, zone)
    if text == "yesterday":
        return _day_before(now, 1, zone)
    if ago := _AGO.fullmatch(text):
        amount = int(ago[1])
        if ago[2] == "d":
            return _day_before(now, amount, zone)
        span = timedelta(hours=amount) if ago[2] == "h" else timedelta(minutes=amount)
        return (now - span).replace(second=0, microsecond=0)
    return None


def _day_before(now: datetime, days: int, zone: tzinfo) -> datetime:
    day = now.astimezone(zone).date() - timedelta(days=days)
    return _day(day.year, day.month, day.day, zone)


def _first_moment(text: str, zone: tzinfo) -> datetime | None:
    date = _DATE.fullmatch(text)
    return date and _day(int(date[1]), int(date[2]), int(date[3] or 1), zone)


def _day(year: int, month: int, day: int, zone: tzinfo) -> datetime:
    # Every day has a noon, while clocks may skip midnight.
    return window_bounds(datetime(year, month, day, _NOON, tzinfo=zone), "DAY", zone)[0]


def moment(text: str | None) -> str | None:
    """What a person wrote, with the time and the offset that a day in UTC lacks."""
    date = _DATE.fullmatch(text) if text else None
    return f"{text}T00:00:00Z" if date and date[3] else text
