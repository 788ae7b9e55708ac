"""What a meter says: OpenMeter's aggregations over the rows of the fake server.

Source: https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c
(`openmeter/streaming/query_params.go`, `openmeter/streaming/clickhouse/meter_query.go` and
`QueryMeter` of `connector.go`), with floats, as OpenMeter computes unless its operator asks for
decimals. Of several latest values of one second it takes the first; ClickHouse takes any.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, Literal

from .ingest import Event
from .rows import Row, Rows
from .values import MISSING, Meter, UnknownError, json_value, look_up, number_in, path_of

__all__ = ["Query", "Result", "WindowSize", "answer_query"]

WindowSize = Literal["MINUTE", "HOUR", "DAY", "MONTH"]

_MINUTE: Final = 60
_NULL: Final = "null"
_DECEMBER: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is asked of a meter.

    Attributes:
        start: The beginning of the period, if it has one.
        end: Its end, which is no part of it.
        window: How long a window is; without one, the period is the only window.
        zone: Whose days and months these are.
        subjects: Whose events count; everybody's, if there are none.
        group_by: Keys of the meter, or `subject`.
        filters: By key, a function of a group.
    """

    start: datetime | None = None
    end: datetime | None = None
    window: WindowSize | None = None
    zone: tzinfo = UTC
    subjects: tuple[str, ...] = ()
    group_by: tuple[str, ...] = ()
    filters: Mapping[str, Callable[[str], bool]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.start is not None and self.end is not None:
            if self.start == self.end:
                raise ValueError("from and to cannot be equal")
            if self.start > self.end:
                raise ValueError("from must be before to")
        if "customer_id" in self.group_by:
            raise ValueError("customer filter is required with customer_id group by")


@dataclass(frozen=True, slots=True)
class Result:
    """A row of the answer.

    Attributes:
        start: The beginning of its window.
        end: The end of it.
        value: What the meter says.
        groups: By key, what the events have in common.
    """

    start: datetime
    end: datetime
    value: float
    groups: dict[str, str]


@dataclass(slots=True)
class _Sum:
    """What is gathered of one window and group."""

    first: int
    last: int
    count: int = 0
    values: list[float] = field(default_factory=list)
    texts: set[str] = field(default_factory=set)
    latest: tuple[int, float] | None = None


_Group = tuple[str, ...]
_Window = tuple[int, int]


def answer_query(rows: Rows, meter: Meter, query: Query) -> list[Result]:
    """Compute what a meter says.

    Args:
        rows: What is stored.
        meter: The meter.
        query: What is asked.

    Raises:
        UnknownError: If the meter has a path that this server does not know.
    """
    paths = {key: path_of(path) for key, path in (meter.get("groupBy") or {}).items()}
    keys = sorted(dict.fromkeys(query.group_by))
    windows = _Windows(query.window, query.zone)
    sums: dict[tuple[_Window | None, _Group], _Sum] = {}
    add = _adder(meter)
    for row in _rows_of(rows, meter, query, paths):
        window = windows.of(row.time) if query.window else None
        group = tuple(_group(row.event, key, paths) for key in keys)
        gathered = sums.get((window, group))
        if gathered is None:
            gathered = sums[window, group] = _Sum(row.time, row.time)
        gathered.last = row.time
        gathered.count += 1
        add(gathered, row)
    if not sums and query.window is None and not keys:
        sums[None, ()] = _Sum(0, 0)  # SQL answers an aggregation over nothing with one row
    results = []
    # In seconds: of two hours of one name, when clocks are set back, datetime makes one.
    for (window, group), gathered in sorted(sums.items(), key=_order):
        value = _value(meter["aggregation"], gathered)
        if value is not None:
            start, end = _between(query, window, gathered)
            results.append(Result(start, end, value, dict(zip(keys, group, strict=True))))
    return results


def _order(item: tuple[tuple[_Window | None, _Group], _Sum]) -> tuple[_Window, _Group]:
    (window, group), _gathered = item
    return window or (0, 0), group


def _rows_of(
    rows: Rows, meter: Meter, query: Query, paths: Mapping[str, tuple[str | int, ...]]
) -> Iterable[Row]:
    ordered = rows.sorted_by("time")
    starts = [each for each in (query.start, _event_from(meter)) if each is not None]
    first = 0
    if starts:
        first = bisect_left(ordered, _seconds(max(starts)), key=lambda row: row.time)
    last = len(ordered)
    if query.end is not None:
        last = bisect_left(ordered, _seconds(query.end), key=lambda row: row.time)
    filters = [(paths[key], fits) for key, fits in query.filters.items()]
    for number in range(first, last):
        row = ordered[number]
        event = row.event
        if (
            event["type"] == meter["eventType"]
            and (not query.subjects or event["subject"] in query.subjects)
            and all(fits(json_value(event.get("data"), path)) for path, fits in filters)
        ):
            yield row


def _event_from(meter: Meter) -> datetime | None:
    given = meter.get("eventFrom")
    return None if given is None else datetime.fromisoformat(given)


def _seconds(moment: datetime) -> int:
    return math.floor(moment.timestamp())


def _group(event: Event, key: str, paths: Mapping[str, tuple[str | int, ...]]) -> str:
    if key == "subject":
        subject: str = event["subject"]
        return subject
    return json_value(event.get("data"), paths[key])


def _adder(meter: Meter) -> Callable[[_Sum, Row], None]:
    aggregation = meter["aggregation"]
    if aggregation == "COUNT":
        return lambda _sum, _row: None
    path = path_of(meter["valueProperty"])
    if aggregation == "UNIQUE_COUNT":
        return lambda gathered, row: _add_text(gathered, json_value(row.event.get("data"), path))
    return lambda gathered, row: _add_number(gathered, row, path)


def _add_text(gathered: _Sum, text: str) -> None:
    # What is missing is an empty text here, which is one more of them.
    if text != _NULL:
        gathered.texts.add(text)


def _add_number(gathered: _Sum, row: Row, path: Sequence[str | int]) -> None:
    found = look_up(row.event.get("data"), path)
    value = None if found is MISSING else number_in(found)
    if isinstance(value, float):  # anything else is passed over without a word
        gathered.values.append(value)
        if gathered.latest is None or row.time > gathered.latest[0]:
            gathered.latest = row.time, value


def _value(aggregation: str, gathered: _Sum) -> float | None:
    if aggregation == "COUNT":
        return float(gathered.count)
    if aggregation == "UNIQUE_COUNT":
        return float(len(gathered.texts))
    if not gathered.values or gathered.latest is None:
        return None
    match aggregation:
        case "SUM":
            return sum(gathered.values)
        case "AVG":
            return sum(gathered.values) / len(gathered.values)
        case "MIN":
            return min(gathered.values)
        case "MAX":
            return max(gathered.values)
        case "LATEST":
            return gathered.latest[1]
    raise UnknownError(f"the aggregation {aggregation}")


def _between(query: Query, window: _Window | None, gathered: _Sum) -> tuple[datetime, datetime]:
    """The window; or the period, and where that is open the first or the last event's minute."""
    if window is not None:
        start, end = (datetime.fromtimestamp(seconds, query.zone) for seconds in window)
        return start, end
    first = gathered.first // _MINUTE * _MINUTE
    last = gathered.last // _MINUTE * _MINUTE + _MINUTE
    return (
        query.start or datetime.fromtimestamp(first, UTC),
        query.end or datetime.fromtimestamp(last, UTC),
    )


class _Windows:
    """The windows of a zone, in seconds since 1970; each is computed once."""

    def __init__(self, size: WindowSize | None, zone: tzinfo) -> None:
        self._size = size
        self._zone = zone
        self._known: dict[int, _Window] = {}

    def of(self, seconds: int) -> _Window:
        """The window that holds a second."""
        minute = seconds // _MINUTE  # no zone of this time begins an hour within a minute
        window = self._known.get(minute)
        if window is None:
            window = self._known[minute] = self._make(minute * _MINUTE)
        return window

    def _make(self, seconds: int) -> _Window:
        time = datetime.fromtimestamp(seconds, self._zone)
        match self._size:
            case "MINUTE":
                return seconds, seconds + _MINUTE
            case "HOUR":
                # Within an offset: clocks may be set by half an hour.
                offset = time.utcoffset() or timedelta()
                hour = seconds - (seconds + int(offset.total_seconds())) % (60 * _MINUTE)
                return hour, hour + 60 * _MINUTE
            case "DAY":
                day = time.replace(hour=0, minute=0, fold=0)
                return _stamps(day, day + timedelta(days=1))
        month = time.replace(day=1, hour=0, minute=0, fold=0)
        year = month.year + month.month // _DECEMBER
        return _stamps(month, month.replace(year=year, month=month.month % _DECEMBER + 1))


def _stamps(start: datetime, end: datetime) -> _Window:
    return int(start.timestamp()), int(end.timestamp())
