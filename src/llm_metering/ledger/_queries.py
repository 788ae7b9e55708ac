"""Questions about usage: which tables answer them.

Every statement is put together from fixed pieces; what a caller wrote reaches SQLite as a parameter
only. All of an answer is read at one moment.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Final

from ..errors import QueryError
from ..meters import UsageQuery, UsageReport, UsageRow, rfc3339
from . import _from_columns, _from_costs, _from_events, _from_rollups
from ._answers import Group, rows_of, value_of
from ._lookups import Parameters, prepare
from ._rows import microseconds
from ._windows import DAY, SECOND, Windows, moment_of

__all__ = ["answer", "check_bodies", "report", "reports", "ways"]

_ROLLUPS_SINCE: Final = 3
"""The schema that has the tables that are read here; of an older one only events are."""

_DAYS: Final = f"""
    SELECT window_start FROM kind_days UNION SELECT time - time % {DAY} FROM recent ORDER BY 1
    """
_OLDER_DAYS: Final = """
    SELECT DISTINCT window_start FROM rollups WHERE grain = 86400 ORDER BY 1
    """
_YEAR: Final = 366 * DAY
_NEVER: Final = 253_370_764_800 * SECOND
"""The year 9999, in which no event is."""


def answer(connection: sqlite3.Connection, query: UsageQuery) -> tuple[UsageRow, ...]:
    """Read the answer to a question, in the transaction that the connection is in.

    Raises:
        QueryError: If the bodies of events are needed that were given up.
        sqlite3.Error: If SQLite cannot.
    """
    return next(ways(connection, query))


def report(
    connection: sqlite3.Connection, query: UsageQuery, *, version: int | None = None
) -> UsageReport:
    """The same as a report, also about what events cost.

    Args:
        connection: In a transaction.
        query: The question.
        version: Of prices; what a meter without a book says does not depend on it.

    Raises:
        QueryError: As `answer`; and as `_from_costs.cost_ways`.
        sqlite3.Error: As `answer`.
    """
    if query.meter.book is None:
        return UsageReport(query=query, rows=answer(connection, query))
    return next(reports(connection, query, version=version))


def reports(
    connection: sqlite3.Connection, query: UsageQuery, *, version: int | None = None
) -> Iterator[UsageReport]:
    """`report` in all ways that there are to it, of a meter with a book."""
    start, end = (
        None if moment is None else microseconds(moment) for moment in (query.start, query.end)
    )
    is_current = _version(connection) >= _ROLLUPS_SINCE
    windows = _windows(connection, query, start, end, is_current=is_current)
    return _from_costs.cost_ways(connection, query, windows, version=version)


def ways(connection: sqlite3.Connection, query: UsageQuery) -> Iterator[tuple[UsageRow, ...]]:
    """The same answer in all ways that there are to it, the quickest first.

    Raises:
        QueryError: As `answer`.
        sqlite3.Error: As `answer`.
    """
    start, end = (
        None if moment is None else microseconds(moment) for moment in (query.start, query.end)
    )
    is_current = _version(connection) >= _ROLLUPS_SINCE
    windows = _windows(connection, query, start, end, is_current=is_current)
    if is_current and _from_rollups.are_enough(query):
        groups = _from_rollups.read(connection, query, windows, start, end)
        if groups is not None:
            yield rows_of(query, windows, groups)
    if _from_events.needs_bodies(query):
        check_bodies(connection, start)
        prepare(connection)
        if is_current and query.subjects is None:
            groups = _from_columns.read(connection, query, windows, start, end)
            if groups is not None:
                yield rows_of(query, windows, _something(query, groups))
    parameters = Parameters()
    statement = _from_events.select(
        connection, query, windows, start, end, parameters, has_places=is_current
    )
    behind = 4 + len(query.keys)
    found = (
        (*each[:behind], value_of(query, each[behind:]))
        for each in connection.execute(statement, parameters)
    )
    yield rows_of(query, windows, _something(query, found))


def _something(query: UsageQuery, groups: Iterable[Group]) -> Iterable[Group]:
    # One number of nothing, of no window, is no row on OpenMeter either.
    is_one = query.window is None and not query.keys and not query.by_subject
    if query.meter.aggregation == "UNIQUE_COUNT" and is_one:
        return (group for group in groups if group[-1])
    return groups


def check_bodies(connection: sqlite3.Connection, start: int | None) -> None:
    """Refuse a question that needs bodies of events of before a prune.

    Raises:
        QueryError: Saying from when on there are all of them.
    """
    (before,) = connection.execute(
        "SELECT max(value) FROM meta WHERE key = 'pruned_before'"
    ).fetchone()
    if before is not None and (start is None or start < before):
        moment = rfc3339(moment_of(before))
        raise QueryError(
            f"the bodies of events before {moment} were pruned, and this question needs them; ask "
            f"from {moment} on, or for a SUM or COUNT that tells apart nothing but subject, "
            "model, provider, operation, framework, provenance and status"
        )


def _windows(
    connection: sqlite3.Connection,
    query: UsageQuery,
    start: int | None,
    end: int | None,
    *,
    is_current: bool,
) -> Windows:
    first, last = start or 0, _NEVER if end is None else end
    if query.time_zone != "UTC" and query.window not in (None, "MINUTE") and last - first > _YEAR:
        # How a zone's clocks are set matters where there are events alone. One event of a wrong
        # clock must not ask for those of thousands of years.
        days = connection.execute(_DAYS if is_current else _OLDER_DAYS)
        stretches = _stretches((day for (day,) in days), first, last)
    else:
        stretches = [(first, last)]
    return Windows(query.window, query.time_zone, stretches=stretches)


def _stretches(days: Iterable[int], first: int, last: int) -> list[tuple[int, int]]:
    """Days of UTC within bounds as stretches, of which none is less than a year from the next."""
    found: list[tuple[int, int]] = []
    for day in days:
        since, until = max(first, day), min(last, day + DAY)
        if since > until:
            continue
        if found and since - found[-1][1] < _YEAR:
            since, _ = found.pop()
        found.append((since, until))
    return found or [(first, first)]


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
