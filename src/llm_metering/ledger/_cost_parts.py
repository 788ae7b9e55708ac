"""The statements that read what events cost: of sums where there are such, else of the rows of events.

Sums are of whole months, days and quarters of an hour of UTC. What is asked for beside them is read row by
row, and added; or taken away, where a period lacks less of a month than it has.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from ..meters import CURRENCY, UsageQuery
from ._cards import NO_CURRENCY, UNPRICED
from ._cost_rows import Range, cover, holding, period_of, rows_behind, rows_from
from ._cost_sums import window_in
from ._costs import HALF_BITS, LOW
from ._from_rollups import split
from ._lookups import Parameters, column_of, text
from ._windows import QUARTER, Windows

__all__ = ["Asked", "Part", "parts_of", "rows_of", "sums_of"]

Part = tuple[int, str]
"""1 or -1, and the statement that reads: window, subject, keys, currency, high, low, events."""

_TOLD_APART: Final = ("provider", "model", "provenance", "status")


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
            yield from _summed(connection, asked, "cost_kind_days", *days)
        for since, until in ranges:
            yield 1, _of_sums(asked, "cost_kind_quarters", period_of("window_start", since, until))
        if ranges:
            rest = [" AND ".join(period_of("time", *each)) or "true" for each in ranges]
            rows = rows_behind(connection, asked.book, "cost_kind_quarters")
            yield 1, _of_rows(asked, rows, " OR ".join(rest))
    elif not asked.needs_kinds:
        days, ranges = split(windows.cuts(), start, end)
        if days is not None:
            yield from _summed(connection, asked, "cost_subject_days", *days)
        if ranges:
            yield (
                1,
                rows_of(connection, asked, [(1, since, until) for since, until in ranges]),
            )
    elif _is_of_months(query):
        months, edges = cover(start, end)
        if months is not None:
            yield from _summed(connection, asked, "cost_months", *months)
        for edge in edges:
            yield edge[0], rows_of(connection, asked, [edge])
    else:
        yield 1, rows_of(connection, asked, [(1, start, end)])


def sums_of(query: UsageQuery) -> tuple[str, ...]:
    """The tables of sums that `parts_of` may read for a question."""
    told_apart = [*query.keys, *(key for key, _ in query.filters)]
    if not query.by_subject:
        return "cost_kind_days", "cost_kind_quarters"
    if not query.excluded_provenances and all(key == CURRENCY for key in told_apart):
        return ("cost_subject_days",)
    return ("cost_months",) if _is_of_months(query) else ()


def _is_of_months(query: UsageQuery) -> bool:
    return query.window is None or (query.window == "MONTH" and query.time_zone == "UTC")


def _summed(
    connection: sqlite3.Connection,
    asked: Asked,
    table: str,
    first: int | None,
    last: int | None,
    cuts: tuple[int, ...] = (),
) -> Iterator[Part]:
    """Windows of a table of sums between two, but for some: the sums, and the rows that are in none yet."""
    yield 1, _of_sums(asked, table, _windows("window_start", "window_start", first, last, cuts))
    rest = " AND ".join(_windows("time", window_in(table), first, last, cuts)) or "true"
    yield 1, _of_rows(asked, rows_behind(connection, asked.book, table), rest)


def _of_sums(asked: Asked, table: str, period: Iterable[str]) -> str:
    """The statement that reads a table of sums."""
    tables = table
    if asked.needs_kinds:
        tables += " JOIN kinds USING (kind)"
    if table == "cost_months":
        tables += " JOIN price_cards USING (card)"
    conditions = [f"book = {asked.book}", *period, *asked.conditions()]
    return _grouped(asked, "window_start", tables, conditions, "high", "low", "events")


def _windows(
    time: str, window: str, first: int | None, last: int | None, cuts: tuple[int, ...]
) -> Iterator[str]:
    yield from period_of(time, first, last)
    if cuts:
        yield f"{window} NOT IN ({', '.join(map(str, cuts))})"


def rows_of(connection: sqlite3.Connection, asked: Asked, ranges: Sequence[Range]) -> str:
    """The statement that reads rows of events of some periods."""
    periods = [
        " AND ".join(period_of("time", since, until)) or "true" for _, since, until in ranges
    ]
    rows = rows_from(connection, asked.book, ranges, asked.query.subjects, asked.parameters)
    return _of_rows(asked, rows, " OR ".join(periods))


def _of_rows(asked: Asked, rows: str, period: str) -> str:
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
    conditions = [f"({period})", holding(asked.version), *asked.conditions()]
    high = f"(ifnull(picos, 0) >> {HALF_BITS})"
    return _grouped(asked, "time", tables, conditions, high, f"(ifnull(picos, 0) & {LOW})", "1")


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
