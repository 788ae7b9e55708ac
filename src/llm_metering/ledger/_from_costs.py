"""Answers about what events cost, put together from sums and rows.

Amounts are put together here and not in SQLite, whose integers would not hold the sum of large ones.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from ..errors import QueryError
from ..events import EVENT_TYPE
from ..meters import CURRENCY, MeterDefinition, UsageQuery, UsageReport, UsageRow
from ._answers import Group, rows_of
from ._cards import NO_CURRENCY, UNPRICED
from ._cost_parts import Asked, Part, parts_of
from ._cost_parts import rows_of as rows_of_events
from ._cost_rows import period_of
from ._costs import HALF_BITS, HAS_COSTS, through_of
from ._lookups import Parameters, prepare
from ._pricer import BOOKS
from ._rows import microseconds
from ._windows import MINUTE, Windows

__all__ = ["amount_of", "check_price_version", "cost_ways", "waiting"]


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
    asked = Asked(query, windows, BOOKS[query.meter.book], version, Parameters())
    through = through_of(connection, query.meter.book)
    late = 0 if version is not None else waiting(connection, query, through)
    start, end = (None if each is None else microseconds(each) for each in (query.start, query.end))
    if version is None and not asked.needs_events:
        parts = list(parts_of(connection, asked, start, end))
        yield _report(connection, asked, parts, late)
    if asked.needs_bodies:
        _check_bodies(connection, query)
    asked = replace(asked, parameters=Parameters())
    yield _report(
        connection, asked, [(1, rows_of_events(connection, asked, [(1, start, end)]))], late
    )


def check_price_version(connection: sqlite3.Connection | None, version: int) -> None:
    """Refuse a version of prices that is none; a ledger that is not there yet has none.

    Raises:
        QueryError: Saying which there are.
    """
    last = 0
    if connection is not None:
        question = "SELECT ifnull(max(version), 0) FROM price_versions"
        (last,) = connection.execute(question).fetchone()
    if not 1 <= version <= last:
        there = f"there are 1 to {last}" if last else "nothing was priced yet"
        raise QueryError(f"there is no version {version} of prices; {there}")


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
        *Asked(asked, windows, 0, None, parameters).conditions(),
        *period_of("time", start, end),
    ]
    statement = f"SELECT count(*) FROM events WHERE {' AND '.join(conditions)}"
    (found,) = connection.execute(statement, parameters).fetchone()
    return int(found)


def _report(
    connection: sqlite3.Connection, asked: Asked, parts: Sequence[Part], late: int
) -> UsageReport:
    query = asked.query
    sums: dict[tuple[Any, ...], tuple[int, int]] = {}
    for sign, statement in parts:
        for row in connection.execute(statement, asked.parameters).fetchall():
            key, high, low, events = row[:-3], row[-3], row[-2], row[-1]
            picos = (high << HALF_BITS) + low
            if (found := sums.get(key)) is not None:
                sums[key] = found[0] + sign * picos, found[1] + sign * events
            else:
                sums[key] = sign * picos, sign * events
    unpriced = late
    currencies = set()
    made: dict[tuple[Any, ...], int] = {}
    by_currency = CURRENCY in query.keys
    for told_apart, (picos, events) in sums.items():
        key, currency = told_apart[:-1], told_apart[-1]
        if not events:
            continue
        if currency == UNPRICED:
            unpriced += events
            continue
        if currency != NO_CURRENCY:
            currencies.add(currency)
        if by_currency:
            place = 2 + query.keys.index(CURRENCY)
            shown = "" if currency == NO_CURRENCY else currency
            key = (*key[:place], shown, *key[place + 1 :])
        made[key] = made.get(key, 0) + picos
    if len(currencies) > 1 and not by_currency:
        raise QueryError(
            f"amounts are of several currencies ({', '.join(sorted(currencies))}); group or filter "
            "by currency"
        )
    ends = _ends(connection, query) if query.window is None else {}
    plain = [each for each, key in enumerate(query.keys, 2) if key != CURRENCY]
    # In order; what is the same for all is not compared, which nothing has to compare with.
    ordered = sorted(made.items())
    groups: list[Group]
    if ends:
        groups = [
            (*key, *ends.get((key[1], *(key[each] for each in plain)), (0, 0)), amount_of(picos))
            for key, picos in ordered
        ]
    else:
        groups = [(*key, 0, 0, amount_of(picos)) for key, picos in ordered]
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


def _check_bodies(connection: sqlite3.Connection, query: UsageQuery) -> None:
    from ._queries import check_bodies

    check_bodies(connection, None if query.start is None else microseconds(query.start))
