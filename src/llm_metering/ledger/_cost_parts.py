"""The statements that read what events cost: of sums where there are such, else of the rows of events.

Sums are of whole months, days and quarters of an hour of UTC. What is asked for beside them is read row by
row, and added; or taken away, where a period lacks less of a month than it has.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Final

from ..meters import CURRENCY, UsageQuery
from ._cards import NO_CURRENCY, UNPRICED
from ._costs import HALF_BITS, LOW
from ._from_events import stretches
from ._from_rollups import split
from ._lookups import Parameters, column_of, text
from ._rows import microseconds
from ._windows import QUARTER, Windows, moment_of

__all__ = [
    "Asked",
    "Part",
    "Range",
    "cover",
    "holding",
    "parts_of",
    "period_of",
    "rows_from",
    "rows_of",
]

Range = tuple[int, int | None, int | None]
"""1 or -1, for what is added or taken away; the first microsecond, and the first that is no longer in it."""

Part = tuple[int, str]
"""1 or -1, and the statement that reads: window, subject, keys, currency, high, low, events."""

_TOLD_APART: Final = ("provider", "model", "provenance", "status")
_ALWAYS: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, with what parts of an answer have in common."""

    query: UsageQuery
    windows: Windows
    book: int
    version: int | None
    parameters: Parameters

    @property
    def paths(self) -> list[str]:
        """Of all keys of the question, but for the currency."""
        query = self.query
        keys = chain(query.keys, (key for key, _ in query.filters))
        return [query.path_of(key) for key in keys if key != CURRENCY]

    @property
    def needs_events(self) -> bool:
        """Whether it asks for a key that rows do not have."""
        return any(column_of(path) not in _TOLD_APART for path in self.paths)

    @property
    def needs_bodies(self) -> bool:
        """Whether it asks for a key that only bodies have."""
        return any(column_of(path) is None for path in self.paths)

    @property
    def needs_kinds(self) -> bool:
        """Whether it tells apart anything but subjects and currencies."""
        return bool(self.paths) or bool(self.query.excluded_provenances)

    def key(self, key: str) -> str:
        """The SQL of a key's text."""
        return CURRENCY if key == CURRENCY else text(self.query.path_of(key), self.parameters)

    def conditions(self) -> Iterator[str]:
        """What has to hold, but for the period."""
        query, parameters = self.query, self.parameters
        if query.subjects is not None:
            among = parameters(json.dumps(query.subjects))
            yield f"subject IN (SELECT value FROM json_each({among}))"
        for key, values in query.filters:
            if key == CURRENCY:
                # What has no price may be of any.
                asked = [*(each or NO_CURRENCY for each in values), UNPRICED]
                among = parameters(json.dumps(asked))
            else:
                among = parameters(json.dumps(values))
            yield f"{self.key(key)} IN (SELECT value FROM json_each({among}))"
        if query.excluded_provenances:
            among = parameters(json.dumps(query.excluded_provenances))
            yield f"ifnull(provenance, '') NOT IN (SELECT value FROM json_each({among}))"


def holding(version: int | None, prefix: str = "") -> str:
    """The SQL of which rows hold, now or in a version."""
    if version is None:
        return f"{prefix}superseded IS NULL"
    return (
        f"{prefix}version <= {version} AND "
        f"({prefix}superseded IS NULL OR {prefix}superseded > {version})"
    )


def parts_of(
    connection: sqlite3.Connection, asked: Asked, start: int | None, end: int | None
) -> Iterator[Part]:
    """The parts of an answer that are made of as many sums as possible, of a question about no other keys."""
    query, windows = asked.query, asked.windows
    if not query.by_subject:
        aligned = not any(each % QUARTER for each in (start, end) if each)
        if not windows.are_of_quarters or not aligned:
            yield 1, rows_of(connection, asked, [(1, start, end)])
            return
        days, ranges = split(windows.cuts(), start, end)
        if days is not None:
            yield 1, _of_sums(asked, "cost_kind_days", _days(*days))
        for since, until in ranges:
            period = " AND ".join(period_of("window_start", since, until))
            yield 1, _of_sums(asked, "cost_kind_quarters", period)
    elif not asked.needs_kinds:
        days, ranges = split(windows.cuts(), start, end)
        if days is not None:
            yield 1, _of_sums(asked, "cost_subject_days", _days(*days))
        if ranges:
            yield (
                1,
                rows_of(connection, asked, [(1, since, until) for since, until in ranges]),
            )
    elif query.window is None or (query.window == "MONTH" and query.time_zone == "UTC"):
        months, edges = cover(start, end)
        if months is not None:
            period = " AND ".join(period_of("window_start", *months)) or "true"
            yield 1, _of_sums(asked, "cost_months", period)
        for edge in edges:
            yield edge[0], rows_of(connection, asked, [edge])
    else:
        yield 1, rows_of(connection, asked, [(1, start, end)])


def cover(
    start: int | None, end: int | None
) -> tuple[tuple[int | None, int | None] | None, list[Range]]:
    """A period as whole months of UTC and what has to be added or taken away at its ends."""
    first, last = start, end
    edges: list[Range] = []
    if start is not None:
        before, after = _months_around(start)
        if start - before <= after - start:
            first = before
            edges += [(-1, before, start)] if before < start else []
        else:
            first = after
            edges.append((1, start, after))
    if end is not None:
        before, after = _months_around(end)
        if end - before <= after - end:
            last = before
            edges += [(1, before, end)] if before < end else []
        else:
            last = after
            edges.append((-1, end, after))
    if first is not None and last is not None and first >= last:
        return None, [(1, start, end)]
    return (first, last), edges


def _months_around(moment: int) -> tuple[int, int]:
    """When the month of a moment begins, and the next one."""
    day = moment_of(moment)
    following = (day.year + 1, 1) if day.month == 12 else (day.year, day.month + 1)
    starts = (day.year, day.month), following
    first, second = (microseconds(datetime(*each, 1, tzinfo=UTC)) for each in starts)
    return first, second


def _days(first: int | None, last: int | None, cuts: tuple[int, ...]) -> str:
    conditions = [*period_of("window_start", first, last)]
    if cuts:
        conditions.append(f"window_start NOT IN ({', '.join(map(str, cuts))})")
    return " AND ".join(conditions) or "true"


def _of_sums(asked: Asked, table: str, period: str) -> str:
    """The statement that reads a table of sums."""
    tables = table
    if asked.needs_kinds:
        tables += " JOIN kinds USING (kind)"
    if table == "cost_months":
        tables += " JOIN price_cards USING (card)"
    conditions = [f"book = {asked.book}", period, *asked.conditions()]
    return _grouped(asked, "window_start", tables, conditions, "high", "low", "events")


def rows_of(connection: sqlite3.Connection, asked: Asked, ranges: Sequence[Range]) -> str:
    """The statement that reads rows of events of some periods."""
    query, parameters = asked.query, asked.parameters
    periods = [
        " AND ".join(period_of("time", since, until)) or "true" for _, since, until in ranges
    ]
    rows = rows_from(connection, asked.book, ranges, query.subjects, parameters)
    tables = f"{rows} JOIN price_cards USING (card)"
    if asked.needs_events:
        names = "place AS priced_place, card AS priced_card, version, superseded, picos"
        tables = (
            f"(SELECT {names} FROM {rows} WHERE {holding(asked.version)} LIMIT -1) "
            "CROSS JOIN events ON events.rowid = priced_place "
            "JOIN price_cards ON price_cards.card = priced_card"
        )
    elif asked.needs_kinds:
        tables += " JOIN kinds USING (kind)"
    conditions = [f"({' OR '.join(periods)})", holding(asked.version), *asked.conditions()]
    high = f"(ifnull(picos, 0) >> {HALF_BITS})"
    return _grouped(asked, "time", tables, conditions, high, f"(ifnull(picos, 0) & {LOW})", "1")


def rows_from(
    connection: sqlite3.Connection,
    book: int,
    ranges: Sequence[Range],
    subjects: Sequence[str] | None,
    parameters: Parameters,
) -> str:
    """The tables in which rows of some periods and subjects are, none of them twice."""
    if subjects is not None:
        among = f"subject IN (SELECT value FROM json_each({parameters(json.dumps(subjects))}))"
        periods = [" AND ".join(period_of("time", *each[1:])) or "true" for each in ranges]
        among = f"{among} AND ({' OR '.join(periods)})"
        return (
            f"(SELECT place AS there FROM places WHERE {among} "
            f"UNION ALL SELECT place FROM recent WHERE {among}) AS those "
            f"CROSS JOIN costs ON costs.book = {book} AND costs.place = those.there"
        )
    found: dict[tuple[int, int], None] = {}
    for _, since, until in ranges:
        found |= dict.fromkeys(stretches(connection, since, until))
    listed = ", ".join(map(str, found))
    return (
        f"(WITH stretches(behind, through) AS (VALUES {listed}) SELECT * FROM stretches) AS those "
        f"CROSS JOIN costs ON costs.book = {book} "
        "AND costs.place > those.behind AND costs.place <= those.through"
    )


def _grouped(asked: Asked, time: str, tables: str, conditions: list[str], *values: str) -> str:
    query = asked.query
    columns = [
        asked.windows.key(time),
        "subject" if query.by_subject else "NULL",
        *(asked.key(key) for key in query.keys),
        CURRENCY,
    ]
    varying = ", ".join(str(number) for number, each in enumerate(columns, 1) if each != "NULL")
    sums = ", ".join(f"sum({each})" for each in values)
    return (
        f"SELECT {', '.join(columns)}, {sums} FROM {tables} "
        f"WHERE {' AND '.join(conditions)} GROUP BY {varying}"
    )


def period_of(column: str, start: int | None, end: int | None) -> Iterator[str]:
    """The conditions that a time lies between two."""
    if start is not None:
        yield f"{column} >= {start}"
    if end is not None and end < _ALWAYS:
        yield f"{column} < {end}"
