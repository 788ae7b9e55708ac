"""Proving a ledger: all that it has added up is counted again from the events themselves."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ..events import EVENT_TYPE
from ._cost_sums import SUMS, amount_in, window_in
from ._costs import HAS_COSTS
from ._lookups import COUNTS

__all__ = ["Difference", "differences", "has_rollups"]

Value = str | int | None

_TEXTS: Final = ("type", "provider", "model", "provenance", "status")
_NOTHING: Final = "''"
_WINDOWS: Final = {
    "quarters": ("subject", 900, "kind"),
    "days": ("subject", 86400, "kind"),
    "subject_days": ("type", 86400, "subject"),
    "kind_days": (86400, "kind"),
    "kind_quarters": (900, "kind"),
}
"""The key of each rollup, with the length of its window in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Where a ledger says something else than its events.

    Attributes:
        table: Of which of its tables.
        key: Of which row.
        found: What the row says; `None` if there is none.
        counted: What the events say; `None` if nothing.
    """

    table: str
    key: tuple[Value, ...]
    found: tuple[Value, ...] | None
    counted: tuple[Value, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """A table, and the statement that counts what it should say.

    Attributes:
        table: Its name.
        key: Columns that name a row.
        values: The others.
        counted: Selects the same columns of the events.
        holds: Which rows of the table say anything.
    """

    table: str
    key: tuple[str, ...]
    values: tuple[str, ...]
    counted: str
    holds: str = "true"


def has_rollups(connection: sqlite3.Connection) -> bool:
    """Whether a ledger has what is counted here: one of an older schema has not."""
    there = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'recent'"
    return connection.execute(there).fetchone() is not None


def differences(connection: sqlite3.Connection, most: int) -> list[Difference]:
    """What differs; nothing, if the ledger is right.

    Call it in a transaction, so that all is read as it was at one moment.

    Args:
        connection: A ledger of this library's schema.
        most: How many rows of each table are named; a row that is wrong counts twice.
    """
    (through,) = connection.execute("SELECT ifnull(max(through_place), 0) FROM spans").fetchone()
    found: list[Difference] = []
    priced = connection.execute(HAS_COSTS).fetchone() is not None
    for question in (*_rollups(), *_lists(), *(_costs() if priced else ())):
        columns = ", ".join((*question.key, *question.values))
        rows = connection.execute(
            f"""
            SELECT {columns}, max(side) FROM (
                SELECT {columns}, 0 AS side FROM {question.table} WHERE {question.holds}
                UNION ALL SELECT *, 1 FROM ({question.counted})
            )
            GROUP BY {columns} HAVING count(*) <> 2 LIMIT {most}
            """,
            {"through": through, "type": EVENT_TYPE},
        )
        width = len(question.key)
        sides: dict[tuple[Value, ...], list[tuple[Value, ...] | None]] = {}
        for *row, side in rows:
            sides.setdefault(tuple(row[:width]), [None, None])[side] = tuple(row[width:])
        found += [
            Difference(table=question.table, key=key, found=told, counted=counted)
            for key, (told, counted) in sides.items()
        ]
    return found


def _rollups() -> Iterator[_Question]:
    same = " AND ".join(
        f"k.{each} = {'e.type' if each == 'type' else f'ifnull(e.{each}, {_NOTHING})'}"
        for each in _TEXTS
    )
    sums = ", ".join(f"sum(e.{each})" for each in COUNTS)
    for table, parts in _WINDOWS.items():
        key = tuple("window_start" if isinstance(each, int) else each for each in parts)
        columns = ", ".join(
            f"e.time - e.time % {each * 1_000_000}"
            if isinstance(each, int)
            else f"{'k' if each == 'kind' else 'e'}.{each}"
            for each in parts
        )
        yield _Question(
            table=table,
            key=key,
            values=(*COUNTS, "events", "first_time", "last_time"),
            counted=f"""
                SELECT {columns}, {sums}, count(*), min(e.time), max(e.time)
                FROM events AS e {f"JOIN kinds AS k ON {same}" if "kind" in key else ""}
                WHERE e.rowid <= :through
                GROUP BY {", ".join(str(number + 1) for number in range(len(key)))}
                """,
        )


def _lists() -> Iterator[_Question]:
    texts = ", ".join(f"ifnull({each}, {_NOTHING})" for each in _TEXTS)
    yield _Question(
        table="recent",
        key=("place",),
        values=("time", "subject", *_TEXTS, *COUNTS),
        counted=f"""
            SELECT rowid, time, subject, {texts}, {", ".join(COUNTS)}
            FROM events WHERE rowid > :through
            """,
    )
    yield _Question(
        table="places",
        key=("subject", "time", "place"),
        values=(),
        counted="SELECT subject, time, rowid FROM events WHERE rowid <= :through",
    )
    yield _Question(
        table="spans",
        key=("through_place",),
        values=("first_time", "last_time"),
        counted="""
            SELECT s.through_place, min(e.time), max(e.time) FROM spans AS s JOIN events AS e
                ON e.rowid <= s.through_place AND e.rowid > ifnull((
                    SELECT max(through_place) FROM spans WHERE through_place < s.through_place
                ), 0)
            GROUP BY 1
            """,
    )


def _costs() -> Iterator[_Question]:
    """What events cost: one row of each, and the sums of these rows."""
    same = " AND ".join(
        f"k.{each} = {'e.type' if each == 'type' else f'ifnull(e.{each}, {_NOTHING})'}"
        for each in _TEXTS
    )
    yield _Question(
        table="costs",
        key=("book", "place"),
        values=("time", "subject", "kind", "calls"),
        counted=f"""
            SELECT b.book, e.rowid, e.time, e.subject, k.kind, ifnull(e.calls, 0)
            FROM price_books AS b JOIN events AS e ON e.rowid <= b.through_place
            LEFT JOIN kinds AS k ON {same}
            WHERE e.type = :type
            """,
        holds="superseded IS NULL",
    )
    yield _Question(
        table="cost_places",
        key=("book", "sums"),
        values=("through_place",),
        counted="""
            SELECT book, sums, min(p.through_place, b.through_place)
            FROM cost_places AS p JOIN price_books AS b USING (book)
            """,
    )
    for table, (keys, values) in SUMS.items():
        columns = [window_in(table) if key == "window_start" else key for key in keys]
        sums = ", ".join(f"sum({amount_in(each)})" for each in values)
        yield _Question(
            table=table,
            key=keys,
            values=values,
            counted=f"""
                SELECT {", ".join(columns)}, {sums}
                FROM cost_places AS p CROSS JOIN costs USING (book) JOIN price_cards USING (card)
                WHERE p.sums = '{table}' AND place <= p.through_place AND superseded IS NULL
                GROUP BY {", ".join(map(str, range(1, len(keys) + 1)))}
                """,
            holds="events <> 0",
        )
