"""Answers about what events cost: from sums where there are such, else from the rows of events.

Sums are of whole months, days and quarters of an hour of UTC. What is asked for beside them is read row by
row, and added; or taken away, where a period lacks less of a month than it has. Amounts are put together
here and not in SQLite, whose integers would not hold the sum of large ones.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain
from typing import Any, Final

from ..errors import QueryError
from ..events import EVENT_TYPE
from ..meters import CURRENCY, MeterDefinition, UsageQuery, UsageReport, UsageRow
from ._answers import Group, rows_of
from ._cards import NO_CURRENCY, UNPRICED
from ._costs import HALF_BITS, HAS_COSTS, LOW, through_of
from ._from_events import stretches
from ._from_rollups import split
from ._lookups import Parameters, column_of, prepare, text
from ._pricer import BOOKS
from ._rows import microseconds
from ._windows import MINUTE, QUARTER, Windows, moment_of

__all__ = ["Range", "amount_of", "cost_ways", "cover", "holding", "rows_from", "waiting"]

Range = tuple[int, int | None, int | None]
"""1 or -1, for what is added or taken away; the first microsecond, and the first that is no longer in it."""

_TOLD_APART: Final = ("provider", "model", "provenance", "status")
_ALWAYS: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class _Asked:
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


def cost_ways(
    connection: sqlite3.Connection,
    query: UsageQuery,
    windows: Windows,
    *,
    version: int | None = None,
) -> Iterator[UsageReport]:
    """The answer in all ways that there are to it, the quickest first.

    Args:
        connection: In a transaction.
        query: The question, about a meter with a book.
        windows: Its windows.
        version: As events were priced in this version of prices; as they are now if absent.

    Raises:
        QueryError: If there is no such version, or amounts are of several currencies that the question
            does not tell apart.
        sqlite3.Error: If SQLite cannot.
    """
    assert query.meter.book is not None
    if connection.execute(HAS_COSTS).fetchone() is None:
        yield UsageReport(query=query, unpriced=waiting(connection, query, 0))
        return
    if version is not None:
        check_price_version(connection, version)
    prepare(connection)
    asked = _Asked(query, windows, BOOKS[query.meter.book], version, Parameters())
    through = through_of(connection, query.meter.book)
    late = 0 if version is not None else waiting(connection, query, through)
    start, end = (None if each is None else microseconds(each) for each in (query.start, query.end))
    if version is None and not asked.needs_events:
        parts = list(_parts(connection, asked, start, end))
        yield _report(connection, asked, parts, late)
    asked = replace(asked, parameters=Parameters())
    yield _report(connection, asked, [(1, _of_rows(connection, asked, [(1, start, end)]))], late)


def check_price_version(connection: sqlite3.Connection, version: int) -> None:
    """Refuse a version of prices that is none.

    Raises:
        QueryError: Saying which there are.
    """
    (last,) = connection.execute("SELECT ifnull(max(version), 0) FROM price_versions").fetchone()
    if not 1 <= version <= last:
        there = f"there are 1 to {last}" if last else "nothing was priced yet"
        raise QueryError(f"there is no version {version} of prices; {there}")


def holding(version: int | None, prefix: str = "") -> str:
    """The SQL of which rows hold, now or in a version."""
    if version is None:
        return f"{prefix}superseded IS NULL"
    return (
        f"{prefix}version <= {version} AND "
        f"({prefix}superseded IS NULL OR {prefix}superseded > {version})"
    )


def amount_of(picos: int) -> Decimal:
    """Picos as an amount, exactly, and without zeros at its end."""
    # By its digits: reports have tens of thousands of them, and arithmetic takes several times as long.
    if not picos:
        return Decimal(0)
    digits = str(picos)
    needed = digits.rstrip("0")
    places = len(digits) - len(needed) - 12
    return Decimal(f"{needed}E{places}") if places < 0 else Decimal(picos // 10**12)


def waiting(connection: sqlite3.Connection, query: UsageQuery, through: int) -> int:
    """How many events of a question have not been priced yet."""
    (last,) = connection.execute("SELECT ifnull(max(rowid), 0) FROM events").fetchone()
    if last <= through:
        return 0
    prepare(connection)
    parameters = Parameters()
    filters = tuple(each for each in query.filters if each[0] != CURRENCY)
    asked = replace(query, filters=filters)
    start, end = (None if each is None else microseconds(each) for each in (query.start, query.end))
    windows = Windows(None, "UTC", stretches=[(0, 0)])
    conditions = [
        f"events.rowid > {through}",
        f"type = {parameters(EVENT_TYPE)}",
        *_Asked(asked, windows, 0, None, parameters).conditions(),
        *_period("time", start, end),
    ]
    statement = f"SELECT count(*) FROM events WHERE {' AND '.join(conditions)}"
    (found,) = connection.execute(statement, parameters).fetchone()
    return int(found)


_Part = tuple[int, str]


def _report(
    connection: sqlite3.Connection, asked: _Asked, parts: Sequence[_Part], late: int
) -> UsageReport:
    query = asked.query
    sums: dict[tuple[Any, ...], list[int]] = {}
    for sign, statement in parts:
        for *key, high, low, events in connection.execute(statement, asked.parameters):
            found = sums.setdefault(tuple(key), [0, 0])
            found[0] += sign * ((high << HALF_BITS) + low)
            found[1] += sign * events
    unpriced = late
    currencies = set()
    made: dict[tuple[Any, ...], int] = {}
    by_currency = CURRENCY in query.keys
    for (*key, currency), (picos, events) in sums.items():
        if not events:
            continue
        if currency == UNPRICED:
            unpriced += events
            continue
        if currency != NO_CURRENCY:
            currencies.add(currency)
        if by_currency:
            key[2 + query.keys.index(CURRENCY)] = "" if currency == NO_CURRENCY else currency
        made[tuple(key)] = made.get(tuple(key), 0) + picos
    if len(currencies) > 1 and not by_currency:
        raise QueryError(
            f"amounts are of several currencies ({', '.join(sorted(currencies))}); group or filter "
            "by currency"
        )
    ends = _ends(connection, query) if query.window is None else {}
    plain = [each for each, key in enumerate(query.keys, 2) if key != CURRENCY]
    groups: list[Group] = [
        (*key, *ends.get((key[1], *(key[each] for each in plain)), (0, 0)), amount_of(picos))
        for key, picos in made.items()
    ]
    groups.sort(key=lambda group: group[:-3])
    return UsageReport(
        query=query,
        rows=rows_of(query, asked.windows, groups),
        unpriced=unpriced,
        currency=next(iter(currencies)) if len(currencies) == 1 and not by_currency else None,
    )


def _ends(connection: sqlite3.Connection, query: UsageQuery) -> dict[Any, tuple[int, int]]:
    """When the events of each group begin and end, as far as the question does not say so."""
    if query.start is not None and query.end is not None:
        return {}
    # Here, not above: that module reads this one.
    from ._queries import answer

    meter = query.meter
    counted = replace(
        query,
        meter=MeterDefinition(
            slug="events",
            aggregation="COUNT",
            group_by={key: path for key, path in meter.group_by.items() if key != CURRENCY},
            estimates=meter.estimates,
        ),
        group_by=tuple(key for key in query.group_by if key != CURRENCY),
        filters=tuple(each for each in query.filters if each[0] != CURRENCY),
    )

    def ends_of(row: UsageRow) -> tuple[int, int]:
        return microseconds(row.window_start), microseconds(row.window_end) - MINUTE

    return {
        (row.subject, *(each or "" for each in row.group_by.values())): ends_of(row)
        for row in answer(connection, counted)
    }


def _parts(
    connection: sqlite3.Connection, asked: _Asked, start: int | None, end: int | None
) -> Iterator[_Part]:
    query, windows = asked.query, asked.windows
    if not query.by_subject:
        aligned = not any(each % QUARTER for each in (start, end) if each)
        if not windows.are_of_quarters or not aligned:
            yield 1, _of_rows(connection, asked, [(1, start, end)])
            return
        days, ranges = split(windows.cuts(), start, end)
        if days is not None:
            yield 1, _of_sums(asked, "cost_kind_days", _days(*days))
        for since, until in ranges:
            period = " AND ".join(_period("window_start", since, until))
            yield 1, _of_sums(asked, "cost_kind_quarters", period)
    elif not asked.needs_kinds:
        days, ranges = split(windows.cuts(), start, end)
        if days is not None:
            yield 1, _of_sums(asked, "cost_subject_days", _days(*days))
        if ranges:
            yield (
                1,
                _of_rows(connection, asked, [(1, since, until) for since, until in ranges]),
            )
    elif query.window is None or (query.window == "MONTH" and query.time_zone == "UTC"):
        months, edges = cover(start, end)
        if months is not None:
            period = " AND ".join(_period("window_start", *months)) or "true"
            yield 1, _of_sums(asked, "cost_months", period)
        for edge in edges:
            yield edge[0], _of_rows(connection, asked, [edge])
    else:
        yield 1, _of_rows(connection, asked, [(1, start, end)])


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
    conditions = [*_period("window_start", first, last)]
    if cuts:
        conditions.append(f"window_start NOT IN ({', '.join(map(str, cuts))})")
    return " AND ".join(conditions) or "true"


def _of_sums(asked: _Asked, table: str, period: str) -> str:
    """The statement that reads a table of sums."""
    tables = table
    if asked.needs_kinds:
        tables += " JOIN kinds USING (kind)"
    if table == "cost_months":
        tables += " JOIN price_cards USING (card)"
    conditions = [f"book = {asked.book}", period, *asked.conditions()]
    return _grouped(asked, "window_start", tables, conditions, "high", "low", "events")


def _of_rows(connection: sqlite3.Connection, asked: _Asked, ranges: Sequence[Range]) -> str:
    """The statement that reads rows of events of some periods."""
    query, parameters = asked.query, asked.parameters
    periods = [" AND ".join(_period("time", since, until)) or "true" for _, since, until in ranges]
    rows = rows_from(connection, asked.book, ranges, query.subjects, parameters)
    tables = f"{rows} JOIN price_cards USING (card)"
    if asked.needs_events:
        if any(column_of(path) is None for path in asked.paths):
            _check_bodies(connection, query)
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
        periods = [" AND ".join(_period("time", *each[1:])) or "true" for each in ranges]
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


def _grouped(asked: _Asked, time: str, tables: str, conditions: list[str], *values: str) -> str:
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


def _period(column: str, start: int | None, end: int | None) -> Iterator[str]:
    if start is not None:
        yield f"{column} >= {start}"
    if end is not None and end < _ALWAYS:
        yield f"{column} < {end}"


def _check_bodies(connection: sqlite3.Connection, query: UsageQuery) -> None:
    from ._queries import check_bodies

    check_bodies(connection, None if query.start is None else microseconds(query.start))
