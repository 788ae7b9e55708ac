"""Answers from sums: of whole days of UTC, of quarters of an hour, and of what is recent.

Whatever is asked for is put together from three parts, read at one moment: days that lie in one
window each, quarters of the days that do not, and the events that no rollup has yet.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from operator import add, itemgetter
from typing import Final

from ..meters import UsageQuery
from ._answers import Group
from ._lookups import COUNTS, Parameters, column_of
from ._windows import DAY, QUARTER, Windows

__all__ = ["are_enough", "read", "split"]

_TOLD_APART: Final = ("provider", "model", "provenance", "status")
_ALWAYS: Final = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Rows of one table: where they stand, what else has to hold, and how they count."""

    tables: str
    conditions: tuple[str, ...]
    time: str
    value: str
    first: str = "min(first_time)"
    last: str = "max(last_time)"
    # A row of it is a group.
    is_whole: bool = False


def are_enough(query: UsageQuery) -> bool:
    """Whether a question asks for nothing that rollups do not have, but for the period."""
    meter = query.meter
    if meter.aggregation not in ("SUM", "COUNT"):
        return False
    if meter.value_property is not None and column_of(meter.value_property) not in COUNTS:
        return False
    keys = chain(query.keys, (key for key, _ in query.filters))
    return all(column_of(query.path_of(key)) in _TOLD_APART for key in keys)


def read(
    connection: sqlite3.Connection,
    query: UsageQuery,
    windows: Windows,
    start: int | None,
    end: int | None,
) -> list[Group] | None:
    """The groups that answer a question, in order.

    Args:
        connection: The ledger.
        query: The question; `are_enough` holds.
        windows: Its windows.
        start: Its bounds, in microseconds from 1970.
        end: The same.

    Returns:
        `None` if the period or the windows are not made of quarters.
    """
    if not windows.are_of_quarters or any(each % QUARTER for each in (start, end) if each):
        return None
    parameters = Parameters()
    groups: list[Group] = []
    for part in list(_parts(query, windows, start, end, parameters)):
        found = connection.execute(_statement(query, windows, part), parameters).fetchall()
        groups = _together(found, groups) if groups else found
    return groups


def _statement(query: UsageQuery, windows: Windows, part: _Part) -> str:
    keys = [column_of(query.path_of(key)) for key in query.keys]
    told_apart = [windows.key(part.time), "subject" if query.by_subject else "NULL", *keys]
    rows = f"FROM {part.tables} WHERE {' AND '.join(part.conditions)}"
    if part.is_whole:
        return (
            f"SELECT {told_apart[0]}, subject, NULL, NULL, {part.value} {rows} "
            f"AND {part.value} IS NOT NULL ORDER BY window_start, subject"
        )
    bounded = query.window is not None or (query.start is not None and query.end is not None)
    ends = "NULL, NULL" if bounded else f"{part.first}, {part.last}"
    has_value = "" if query.window is None else f"HAVING sum({part.value}) IS NOT NULL"
    # Not by what is the same for all: it would be compared all the same.
    varying = [position for position, each in enumerate(told_apart, 1) if each != "NULL"]
    grouping = ", ".join(map(str, varying))
    return f"SELECT {', '.join(map(str, told_apart))}, {ends}, sum({part.value}) {rows} " + (
        f"GROUP BY {grouping} {has_value} ORDER BY {grouping}" if varying else ""
    )


def _together(many: list[Group], few: list[Group]) -> list[Group]:
    """Groups of two parts as one; in order, and quick where one of the two is small."""
    added = {group[:-3]: group for group in few}
    windows = {group[0] for group in few}
    groups = []
    for group in many:
        if group[0] in windows and (more := added.pop(group[:-3], None)) is not None:
            value = _both(add, group[-1], more[-1])
            if group[-2] is None and more[-2] is None:
                group = (*group[:-1], value)
            else:
                ends = _both(min, group[-3], more[-3]), _both(max, group[-2], more[-2])
                group = (*group[:-3], *ends, value)
        groups.append(group)
    if added:
        groups += added.values()
        # No two are of the same key, so that nothing is compared of which there may be none.
        groups.sort(key=itemgetter(*range(len(groups[0]) - 3)))
    return groups


def _both(of: Callable[[int, int], int], one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return of(one, other)


def _parts(
    query: UsageQuery, windows: Windows, start: int | None, end: int | None, parameters: Parameters
) -> Iterator[_Part]:
    meter = query.meter
    column = "events" if meter.value_property is None else column_of(meter.value_property)
    assert column is not None
    kind_type = parameters(meter.event_type)
    subjects = parameters(json.dumps(query.subjects)) if query.subjects is not None else None
    chosen = f"subject IN (SELECT value FROM json_each({subjects}))" if subjects else "true"
    asked = [f"type = {kind_type}"]
    for key, values in query.filters:
        among = parameters(json.dumps(values))
        asked.append(f"{column_of(query.path_of(key))} IN (SELECT value FROM json_each({among}))")
    if query.excluded_provenances:
        among = parameters(json.dumps(query.excluded_provenances))
        asked.append(f"provenance NOT IN (SELECT value FROM json_each({among}))")
    yield _Part(
        tables="recent",
        conditions=(*asked, chosen, *_period("time", start, end)),
        time="time",
        value="1" if meter.value_property is None else column,
        first="min(time)",
        last="max(time)",
    )
    join, kinds = "", " AND ".join(asked)
    if query.keys:
        join = " JOIN kinds USING (kind)"
    else:
        kinds = f"kind IN (SELECT kind FROM kinds WHERE {kinds})"
    among = (
        f"SELECT DISTINCT value AS payer FROM json_each({subjects})"
        if subjects
        # Those who used anything: to look for each of them is quicker than to read through all
        # that there ever was.
        else "SELECT DISTINCT subject AS payer FROM subject_days, stretches "
        f"WHERE type = {kind_type} AND window_start > since - {DAY} AND window_start < until"
    )
    days, ranges = split(windows.cuts(), start, end)
    if days is not None:
        first, last, cuts = days
        conditions = [*_period("window_start", first, last)]
        if cuts:
            conditions.append(f"window_start NOT IN ({', '.join(map(str, cuts))})")
        if not query.by_subject:
            tables, rest = f"kind_days{join}", kinds
        elif subjects is None and len(asked) == 1 and not query.keys:
            tables, rest = "subject_days", asked[0]
        else:
            stretch = (first or 0, _ALWAYS if last is None else last)
            tables, rest = _of_subjects("days", [stretch], among) + join, kinds
        yield _Part(
            tables=tables,
            conditions=(*conditions, rest),
            time="window_start",
            value=column,
            is_whole=tables == "subject_days" and windows.are_days,
        )
    if ranges:
        quarters = _of_subjects("quarters", ranges, among) if query.by_subject else _of_all(ranges)
        yield _Part(
            tables=quarters + join,
            conditions=(kinds,),
            time="window_start",
            value=column,
        )


def _of_all(stretches: list[tuple[int, int]]) -> str:
    """Quarters of some stretches, of all subjects together."""
    listed = ", ".join(f"({since}, {until})" for since, until in stretches)
    return (
        f"(WITH stretches(since, until) AS (VALUES {listed}) SELECT * FROM stretches) AS those "
        "CROSS JOIN kind_quarters "
        "ON window_start >= those.since AND window_start < those.until"
    )


def _of_subjects(table: str, stretches: list[tuple[int, int]], among: str) -> str:
    """Rows of some stretches, subject by subject, as the table is ordered."""
    listed = ", ".join(f"({since}, {until})" for since, until in stretches)
    return (
        f"(WITH stretches(since, until) AS (VALUES {listed}) "
        f"SELECT since, until, payer FROM stretches CROSS JOIN ({among})) AS those "
        f"CROSS JOIN {table} ON {table}.subject = those.payer "
        "AND window_start >= those.since AND window_start < those.until"
    )


def split(
    cuts: tuple[int, ...] | None, start: int | None, end: int | None
) -> tuple[tuple[int | None, int | None, tuple[int, ...]] | None, list[tuple[int, int]]]:
    """Whole days, but for some, and the stretches that are read quarter by quarter."""
    if cuts is None:
        return None, [(start or 0, _ALWAYS if end is None else end)]
    first = None if start is None else -(-start // DAY) * DAY
    last = None if end is None else end // DAY * DAY
    if first is not None and last is not None and last <= first:
        return None, [(start or 0, end or 0)]
    ranges = [
        (cut, cut + DAY) for cut in cuts if cut >= (first or 0) and (last is None or cut < last)
    ]
    if start is not None and first is not None and start < first:
        ranges.append((start, first))
    if end is not None and last is not None and last < end:
        ranges.append((last, end))
    return (first, last, tuple(cut for cut, _ in ranges)), ranges


def _period(column: str, start: int | None, end: int | None) -> Iterator[str]:
    if start is not None:
        yield f"{column} >= {start}"
    if end is not None:
        yield f"{column} < {end}"
