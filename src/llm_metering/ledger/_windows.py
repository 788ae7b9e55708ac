"""Windows of a time zone in SQL: what tells one window from the next, and when each begins and ends.

SQLite knows no time zones. The offsets that a zone has within the period of a question become one
CASE of the statement, so that every row finds its local time without a call into Python. Rows are
told apart by a number, and Python turns each number into the bounds of its window once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from itertools import pairwise
from typing import Final, Literal, assert_never

from ..meters import Window, time_zone_of, window_bounds
from ._rows import EPOCH, microseconds

__all__ = ["DAY", "HOUR", "MINUTE", "QUARTER", "SECOND", "Dialect", "Windows", "moment_of"]

SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
QUARTER: Final = 15 * MINUTE
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

_YEAR_ONE: Final = EPOCH.date().toordinal()
_MONTHS: Final = 12

Dialect = Literal["sqlite", "duckdb"]
"""Whose SQL it is."""

_MONTH_OF: Final[Mapping[Dialect, str]] = {
    "sqlite": (
        "CAST(strftime('%Y', {time} / 1000000, 'unixepoch') AS INTEGER) * 12 "
        "+ CAST(strftime('%m', {time} / 1000000, 'unixepoch') AS INTEGER) - 1"
    ),
    "duckdb": "year(make_timestamp({time})) * 12 + month(make_timestamp({time})) - 1",
}


@dataclass(frozen=True, slots=True)
class _Offset:
    """What a zone's clocks are ahead of UTC, in microseconds, from a moment on."""

    since: int
    ahead: int


class _Bounds(dict[int, tuple[datetime, datetime]]):
    """Worked out once for each window: tens of thousands of rows may be of a few of them."""

    def __init__(self, work_out: Callable[[int], tuple[datetime, datetime]]) -> None:
        super().__init__()
        self._work_out = work_out

    def __missing__(self, key: int) -> tuple[datetime, datetime]:
        found = self[key] = self._work_out(key)
        return found


class Windows:
    """The windows of a question.

    Args:
        window: Their size; without one everything is in one.
        zone: The name of the time zone whose hours, days and months they are.
        stretches: First and last microsecond from 1970 of what is asked for, in order; nothing is
            counted between two of them, which lie days apart.
    """

    def __init__(
        self, window: Window | None, zone: str, *, stretches: Sequence[tuple[int, int]]
    ) -> None:
        self._window = window
        self._zone = time_zone_of(zone)
        self._stretches = stretches
        if window in (None, "MINUTE") or self._zone is UTC:
            self._offsets: tuple[_Offset, ...] = (_Offset(stretches[0][0], 0),)
        else:
            self._offsets = tuple(_offsets_within(zone, stretches))
            if window != "HOUR":
                self._offsets = tuple(_of_dates(self._offsets))
        self.bounds = _Bounds(self._bounds_of)
        """When the window of a key begins, and the first moment after it."""

    def key(self, column: str, dialect: Dialect = "sqlite") -> str:
        """The SQL of a number that tells the window of a time, and orders windows."""
        if self._window is None:
            return "NULL"
        if self._window == "MINUTE":
            return f"{column} - {column} % {MINUTE}"
        if self._window != "MONTH" and not any(each.ahead for each in self._offsets):
            return f"{column} - {column} % {HOUR if self._window == 'HOUR' else DAY}"
        # A day more, for a remainder is of the sign of what it is left of, and 1970 is before 1970
        # in the West.
        ahead = self._ahead(column, DAY)
        if self._window == "HOUR":
            return f"{column} - ({column} + {ahead}) % {HOUR}"
        day = f"{column} + {ahead} - ({column} + {ahead}) % {DAY} - {DAY}"
        if self._window == "DAY":
            return day
        if self._window == "MONTH":
            return _MONTH_OF[dialect].format(time=f"({day})")
        assert_never(self._window)

    def cuts(self) -> tuple[int, ...] | None:
        """The days of UTC that do not lie in one window, but in two; `None` if there are too many."""
        if self._window in (None, "DAY", "MONTH") and not any(each.ahead for each in self._offsets):
            return ()
        if self._window != "MONTH":
            return None
        cuts = []
        for first, last in self._stretches:
            # From the beginning of the first day on: it may be cut before its first event, and all
            # of it would be taken for the month before.
            moment = first // DAY * DAY
            while moment <= last:
                _, end = window_bounds(moment_of(moment), "MONTH", self._zone)
                moment = microseconds(end)
                if moment % DAY and moment <= last:
                    cuts.append(moment - moment % DAY)
        return tuple(cuts)

    @property
    def are_days(self) -> bool:
        """Whether they are the days of UTC."""
        return self._window == "DAY" and self.cuts() == ()

    @property
    def are_of_quarters(self) -> bool:
        """Whether no window begins between two quarters of an hour of UTC."""
        if self._window == "MINUTE":
            return False
        changes = self._offsets[1:]
        return all(each.ahead % QUARTER == 0 for each in self._offsets) and all(
            each.since % QUARTER == 0 for each in changes
        )

    def _ahead(self, column: str, more: int) -> str:
        earlier, *_ = self._offsets
        if len(self._offsets) == 1:
            return str(earlier.ahead + more)
        cases = [
            f"WHEN {column} < {later.since} THEN {each.ahead + more}"
            for each, later in pairwise(self._offsets)
        ]
        return f"CASE {' '.join(cases)} ELSE {self._offsets[-1].ahead + more} END"

    def _bounds_of(self, key: int) -> tuple[datetime, datetime]:
        if self._window == "MINUTE":
            return moment_of(key), moment_of(key + MINUTE)
        if self._window == "HOUR":
            return moment_of(key), moment_of(key + HOUR)
        if self._window == "MONTH":
            year, month = divmod(key, _MONTHS)
            return _around(date(year, month + 1, 15), "MONTH", self._zone)
        return _around(date.fromordinal(_YEAR_ONE + key // DAY), "DAY", self._zone)


def moment_of(microseconds: int) -> datetime:
    """A time by its microseconds from 1970."""
    return EPOCH + timedelta(microseconds=microseconds)


def _around(day: date, window: Window, zone: tzinfo) -> tuple[datetime, datetime]:
    # No clocks change at noon.
    return window_bounds(datetime.combine(day, time(12), tzinfo=zone), window, zone)


def _offsets_within(name: str, stretches: Sequence[tuple[int, int]]) -> Iterator[_Offset]:
    for number, (first, last) in enumerate(stretches):
        # What is known of the stretch before ends on a day without events, so that clocks which
        # seem to change there change no date.
        since = first // DAY * DAY - (DAY if number else 0)
        yield from _offsets(name, since, -(-last // DAY) * DAY)


@lru_cache(maxsize=256)
def _offsets(name: str, first: int, last: int) -> tuple[_Offset, ...]:
    """The offsets of a zone from one day to another, in order."""
    zone = time_zone_of(name)

    def ahead(moment: int) -> int:
        return (moment_of(moment).astimezone(zone).utcoffset() or timedelta()) // timedelta(
            microseconds=1
        )

    found = [_Offset(first, ahead(first))]
    for earlier, later in pairwise(range(first, last + DAY, DAY)):
        # One day is less than lies between any two changes of a zone.
        if ahead(later) != found[-1].ahead:
            low, high = earlier // SECOND, later // SECOND
            while high - low > 1:
                middle = (low + high) // 2
                if ahead(middle * SECOND) == found[-1].ahead:
                    low = middle
                else:
                    high = middle
            found.append(_Offset(high * SECOND, ahead(later)))
    return tuple(found)


def _of_dates(offsets: tuple[_Offset, ...]) -> list[_Offset]:
    """The same, as far as dates go: clocks that are set back over midnight begin no day again."""
    found = [offsets[0]]
    for each in offsets[1:]:
        before = found[-1].ahead
        day = (each.since - 1 + before) // DAY
        since = each.since if (each.since + each.ahead) // DAY >= day else day * DAY - each.ahead
        found.append(_Offset(since, each.ahead))
    return found
