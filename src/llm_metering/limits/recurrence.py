"""What comes again: each day, week, month or year from an anchor on."""

from __future__ import annotations

import zoneinfo
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Literal, get_args

from ..errors import InvalidArgumentError

__all__ = ["Interval", "Recurrence"]

Interval = Literal["HOUR", "DAY", "WEEK", "MONTH", "YEAR"]
"""As OpenMeter names them."""

_MONTHS: Final = {"MONTH": 1, "YEAR": 12}
_LENGTHS: Final = {
    "HOUR": timedelta(hours=1),
    "DAY": timedelta(days=1),
    "WEEK": timedelta(weeks=1),
}
_LAST_YEAR: Final = 9990


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrence:
    """Moments that follow each other, before the anchor as well as behind it.

    Each is reckoned from the anchor, as OpenMeter does it: months from the 31st on are the last of each
    shorter month and the 31st again, and never stay on the 28th.

    >>> monthly = Recurrence(interval="MONTH", anchor=datetime(2026, 1, 31, tzinfo=UTC))
    >>> [f"{moment:%m-%d}" for moment in (monthly.occurrence(1), monthly.occurrence(2))]
    ['02-28', '03-31']

    Attributes:
        interval: From one to the next.
        anchor: One of them, with a time zone.
        time_zone: Whose days, months and years they are, by its name in the IANA database: a day of 23
            hours is a day. Hours are hours.

    Raises:
        InvalidArgumentError: If the anchor has no time zone, or there is no such interval or zone.
    """

    interval: Interval
    anchor: datetime
    time_zone: str = "UTC"

    def __post_init__(self) -> None:
        if self.interval not in get_args(Interval):
            known = ", ".join(get_args(Interval))
            raise InvalidArgumentError(f"interval is one of {known}, got {self.interval!r}")
        if self.anchor.tzinfo is None:
            raise InvalidArgumentError(f"anchor ({self.anchor.isoformat()}) needs a time zone")
        if not 1970 <= self.anchor.year < _LAST_YEAR:
            raise InvalidArgumentError(f"anchor ({self.anchor.isoformat()}) is from 1970 to 9989")
        try:
            _zone(self.time_zone)
        except (LookupError, ValueError, OSError, TypeError):
            raise InvalidArgumentError(
                f"time_zone is a name such as Europe/Berlin, got {self.time_zone!r}"
            ) from None

    def occurrence(self, number: int) -> datetime:
        """The moment so many intervals behind the anchor, or before it, in UTC."""
        if self.interval == "HOUR":
            return self.anchor.astimezone(UTC) + number * _LENGTHS["HOUR"]
        zone = _zone(self.time_zone)
        local = self.anchor.astimezone(zone).replace(tzinfo=None)
        if (months := _MONTHS.get(self.interval)) is not None:
            year, month = divmod(local.year * 12 + local.month - 1 + number * months, 12)
            day = min(local.day, monthrange(year, month + 1)[1])
            local = local.replace(year=year, month=month + 1, day=day)
        else:
            local += number * _LENGTHS[self.interval]
        return local.replace(tzinfo=zone).astimezone(UTC)

    def next_after(self, moment: datetime) -> datetime:
        """The first one behind a moment, in UTC."""
        return self.occurrence(self._number_after(moment))

    def last_until(self, moment: datetime) -> datetime:
        """The last one before a moment, or at it, in UTC."""
        return self.occurrence(self._number_after(moment) - 1)

    def _number_after(self, moment: datetime) -> int:
        since = moment - self.anchor
        if (months := _MONTHS.get(self.interval)) is not None:
            guess = int(since / timedelta(days=30.436875 * months))
        else:
            guess = since // _LENGTHS[self.interval]
        # Months and days are not all of a length, so it may be one or two off.
        while self.occurrence(guess) > moment:
            guess -= 1
        while self.occurrence(guess) <= moment:
            guess += 1
        return guess


@lru_cache(maxsize=64)
def _zone(name: str) -> zoneinfo.ZoneInfo:
    return zoneinfo.ZoneInfo(name)
