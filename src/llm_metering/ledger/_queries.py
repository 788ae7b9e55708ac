"""Questions about usage, in SQL.

Every statement is put together from the fixed pieces below; what a caller wrote reaches SQLite
as a parameter only.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from ..errors import QueryError
from ..meters import METERS, UsageQuery, UsageRow, window_bounds
from ._rows import EPOCH, microseconds

__all__ = ["Table", "answer", "tables"]

_SECOND: Final = 1_000_000
_MINUTE: Final = 60 * _SECOND
_QUARTER: Final = 15 * _MINUTE
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR

_VALUES: Final = {
    "$.total_tokens": "total_tokens",
    "$.input_tokens": "input_tokens",
    "$.output_tokens": "output_tokens",
    "$.cache_read_input_tokens": "cache_read_input_tokens",
    "$.reasoning_output_tokens": "reasoning_output_tokens",
    "$.calls": "calls",
}
"""The column of each meter's value property."""

_GROUPS: Final = {
    # In a rollup '' stands for a value that the event lacked.
    "subject": "subject",
    "provider": "nullif(provider, '')",
    "model": "nullif(model, '')",
    "provenance": "nullif(provenance, '')",
    "status": "nullif(status, '')",
}
"""What rollups tell apart; any other key is looked up in the events."""

_DATA_VALUE: Final = """
    CASE WHEN json_valid(payload) THEN CASE json_type(payload, :key{number})
        WHEN 'true' THEN 'true'  -- json_extract makes it 1
        WHEN 'false' THEN 'false'
        ELSE CAST(json_extract(payload, :key{number}) AS TEXT)
    END END"""

_WINDOWS: Final = {
    None: "NULL",
    "MINUTE": f"{{time}} - {{time}} % {_MINUTE}",
    "HOUR": f"{{time}} - {{time}} % {_HOUR}",
    "DAY": f"{{time}} - {{time}} % {_DAY}",
    "MONTH": f"strftime('%s', {{time}} / {_SECOND}, 'unixepoch', 'start of month') * {_SECOND}",
}
_WINDOW_GRAINS: Final = {None: _DAY, "MINUTE": _MINUTE, "HOUR": _HOUR, "DAY": _DAY, "MONTH": _DAY}
"""The coarsest grain of which such windows are made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Where an answer can be read.

    Attributes:
        name: Its name.
        grain: Microseconds that one row of it sums up.
        where: The rows that do.
        time: The column with the row's time.
        first: The column with the time of its first event.
        last: The column with the time of its last event.
    """

    name: str = "rollups"
    grain: int
    where: str
    time: str = "window_start"
    first: str = "first_time"
    last: str = "last_time"


_ROLLUPS: Final = (
    Table(grain=_DAY, where="grain = 86400"),
    Table(grain=_QUARTER, where="grain = 900"),
)
_EVENTS: Final = Table(name="events", grain=1, where="true", time="time", first="time", last="time")


def tables(query: UsageQuery) -> Iterator[Table]:
    """The tables that hold the answer, the quickest first."""
    if set(query.group_by) <= set(_GROUPS):
        bounds = [microseconds(moment) for moment in (query.start, query.end) if moment]
        for table in _ROLLUPS:
            if table.grain <= _WINDOW_GRAINS[query.window] and all(
                bound % table.grain == 0 for bound in bounds
            ):
                yield table
    yield _EVENTS


def answer(connection: sqlite3.Connection, query: UsageQuery, table: Table) -> tuple[UsageRow, ...]:
    """Read the answer from one of `tables(query)`.

    Raises:
        QueryError: If a key of `group_by` cannot be looked up.
        sqlite3.Error: If SQLite cannot.
    """
    if query.time_zone != "UTC" or query.filters or query.meter not in METERS.values():
        raise QueryError("the ledger answers built-in meters in UTC, without filters")
    keys = query.keys
    told_apart = [
        _WINDOWS[query.window].format(time=table.time),
        _GROUPS["subject"] if query.by_subject else "NULL",
        *(_GROUPS.get(key) or _DATA_VALUE.format(number=n) for n, key in enumerate(keys)),
    ]
    positions = ", ".join(str(position) for position in range(1, len(told_apart) + 1))
    found = connection.execute(
        f"""
        SELECT {", ".join(told_apart)},
            sum({_VALUES[query.meter.value_property or ""]}) AS value,
            min({table.first}), max({table.last})
        FROM {table.name}
        WHERE {" AND ".join(_conditions(query, table))}
        GROUP BY {positions}
        HAVING value IS NOT NULL
        ORDER BY {positions}
        """,
        {
            "type": query.meter.event_type,
            "subjects": json.dumps(query.subjects),
            "start": query.start and microseconds(query.start),
            "end": query.end and microseconds(query.end),
            **{f"key{n}": _path(key) for n, key in enumerate(keys) if key not in _GROUPS},
        },
    )
    rows = []
    for window, subject, *groups, value, first, last in found:
        start, end = _bounds(query, window, first, last)
        rows.append(
            UsageRow(
                value=value,
                window_start=start,
                window_end=end,
                subject=subject,
                group_by=dict(zip(keys, groups, strict=True)),
            )
        )
    return tuple(rows)


def _conditions(query: UsageQuery, table: Table) -> Iterator[str]:
    yield table.where
    yield "type = :type"
    if query.subjects is not None:
        yield "subject IN (SELECT value FROM json_each(:subjects))"
    if query.start is not None:
        yield f"{table.time} >= :start"
    if query.end is not None:
        yield f"{table.time} < :end"


def _path(key: str) -> str:
    # SQLite before 3.45 knows no way to quote these in a path.
    if '"' in key or "\\" in key or not key.isprintable():
        raise QueryError(f"group_by: {key!r} has a quote, a backslash or a control character")
    return f'$.data."{key}"'


def _bounds(
    query: UsageQuery, window: int | None, first: int, last: int
) -> tuple[datetime, datetime]:
    if query.window is not None and window is not None:
        return window_bounds(_datetime(window), query.window)
    # The whole period, as far as it was named; else from the minute of the first event to the
    # end of that of the last, as OpenMeter has it.
    return (
        query.start or _datetime(first - first % _MINUTE),
        query.end or _datetime(last - last % _MINUTE + _MINUTE),
    )


def _datetime(time: int) -> datetime:
    return EPOCH + timedelta(microseconds=time)
