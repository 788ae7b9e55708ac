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

__all__ = ["Difference", "differences", "has_rollups", "wrong_lists", "wrong_rollups"]

Value = str | int | None

_TEXTS: Final = ("type", "provider", "model", "provenance", "status")
_NOTHING: Final = "''"
_SAME_KIND: Final = " AND ".join(
    f"k.{each} = {'e.type' if each == 'type' else f'ifnull(e.{each}, {_NOTHING})'}"
    for each in _TEXTS
)
_ROLLUPS: Final = {
    "quarters": ("events", ("subject", "window_start", "kind")),
    "days": ("quarters", ("subject", "window_start", "kind")),
    "subject_days": ("days", ("type", "window_start", "subject")),
    "kind_quarters": ("quarters", ("window_start", "kind")),
    "kind_days": ("kind_quarters", ("window_start", "kind")),
}
"""What each rollup is counted from, and its key. Events are many and long: they are read for one alone."""

_CACHE: Final = 64 << 10
"""KiB; what does not fit in, SQLite sorts in pieces."""

_VALUES: Final = (*COUNTS, "events", "first_time", "last_time")
_ADDED: Final = (
    ", ".join(f"sum({each}) AS {each}" for each in _VALUES[:-2])
    + ", min(first_time) AS first_time, max(last_time) AS last_time"
)
_OF_EVENTS: Final = f"""
    SELECT e.subject, e.time - e.time % 900000000 AS window_start, k.kind,
        {", ".join(f"sum(e.{each}) AS {each}" for each in COUNTS)},
        count(*) AS events, min(e.time) AS first_time, max(e.time) AS last_time
    FROM events AS e JOIN kinds AS k ON {_SAME_KIND}
    WHERE e.rowid <= :through
    GROUP BY 1, 2, 3
    """


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
        counted: Selects the same columns of the events, in this order.
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
        most: How many rows of each table are named on each side.
    """
    return [*wrong_rollups(connection, most), *wrong_lists(connection, most)]


def wrong_rollups(connection: sqlite3.Connection, most: int) -> list[Difference]:
    """What differs in the sums of tokens and calls; see `differences`."""
    connection.execute(f"PRAGMA cache_size = -{_CACHE}")
    found: list[Difference] = []
    # What is right is what others are counted from; what is wrong is not.
    right: dict[str, str] = {}
    for table, (source, key) in _ROLLUPS.items():
        counted = _OF_EVENTS if source == "events" else _added(table, right[source], key)
        question = _Question(table=table, key=key, values=_VALUES, counted=counted)
        wrong = _compare(connection, question, most)
        found += wrong
        right[table] = f"({counted})" if wrong else table
    return found


def _added(table: str, source: str, key: tuple[str, ...]) -> str:
    """Adds up rows of one rollup to those of another."""
    is_of_days = table in ("days", "kind_days")
    day = "window_start - window_start % 86400000000 AS window_start"
    columns = ", ".join(day if each == "window_start" and is_of_days else each for each in key)
    kinds = "JOIN kinds USING (kind)" if "type" in key else ""
    groups = ", ".join(str(number + 1) for number in range(len(key)))
    return f"SELECT {columns}, {_ADDED} FROM {source} {kinds} GROUP BY {groups}"


def wrong_lists(connection: sqlite3.Connection, most: int) -> list[Difference]:
    """What differs in all that is no sum of tokens and calls, such as what they cost."""
    priced = connection.execute(HAS_COSTS).fetchone() is not None
    questions = (*_lists(), *(_costs() if priced else ()))
    return [each for question in questions for each in _compare(connection, question, most)]


def _asked(connection: sqlite3.Connection) -> dict[str, Value]:
    (through,) = connection.execute("SELECT ifnull(max(through_place), 0) FROM spans").fetchone()
    return {"through": through, "type": EVENT_TYPE}


def _compare(connection: sqlite3.Connection, question: _Question, most: int) -> list[Difference]:
    # Counted rows are looked up by their key: to sort both sides together takes several times as long.
    columns = (*question.key, *question.values)
    same = " AND ".join(f"told.{each} = counted.{each}" for each in question.key)
    differ = " OR ".join(f"told.{each} IS NOT counted.{each}" for each in columns)
    both = ", ".join(f"{side}.{each}" for side in ("told", "counted") for each in columns)
    told = f"(SELECT {', '.join(columns)} FROM {question.table} WHERE {question.holds}) AS told"
    counted = f"({question.counted}) AS counted"
    asked = {**_asked(connection), "most": most}
    looked = connection.execute(
        f"SELECT count(*), ifnull(sum({differ}), 0) FROM {counted} LEFT JOIN {told} ON {same}",
        asked,
    ).fetchone()
    (there,) = connection.execute(f"SELECT count(*) FROM {told}").fetchone()
    if looked == (there, 0):
        return []
    wrong = connection.execute(
        f"SELECT {both} FROM {counted} LEFT JOIN {told} ON {same} WHERE {differ} LIMIT :most", asked
    ).fetchall()
    wrong += connection.execute(
        f"SELECT {both} FROM {told} LEFT JOIN {counted} ON {same} "
        f"WHERE counted.{question.key[0]} IS NULL LIMIT :most",
        asked,
    ).fetchall()
    width, keys = len(columns), len(question.key)
    found = []
    for row in wrong:
        said, meant = row[:width], row[width:]
        key = (meant if said[0] is None else said)[:keys]
        found.append(
            Difference(
                table=question.table,
                key=key,
                found=None if said[0] is None else said[keys:],
                counted=None if meant[0] is None else meant[keys:],
            )
        )
    return found


def _lists() -> Iterator[_Question]:
    texts = ", ".join(f"ifnull({each}, {_NOTHING}) AS {each}" for each in _TEXTS)
    yield _Question(
        table="recent",
        key=("place",),
        values=("time", "subject", *_TEXTS, *COUNTS),
        counted=f"""
            SELECT rowid AS place, time, subject, {texts}, {", ".join(COUNTS)}
            FROM events WHERE rowid > :through
            """,
    )
    yield _Question(
        table="places",
        key=("subject", "time", "place"),
        values=(),
        counted="SELECT subject, time, rowid AS place FROM events WHERE rowid <= :through",
    )
    yield _Question(
        table="spans",
        key=("through_place",),
        values=("first_time", "last_time"),
        counted="""
            SELECT s.through_place, min(e.time) AS first_time, max(e.time) AS last_time FROM spans AS s JOIN events AS e
                ON e.rowid <= s.through_place AND e.rowid > ifnull((
                    SELECT max(through_place) FROM spans WHERE through_place < s.through_place
                ), 0)
            GROUP BY 1
            """,
    )


def _costs() -> Iterator[_Question]:
    """What events cost: one row of each, and the sums of these rows."""
    yield _Question(
        table="costs",
        key=("book", "place"),
        values=("time", "subject", "kind", "calls"),
        counted=f"""
            SELECT b.book, e.rowid AS place, e.time, e.subject, k.kind, ifnull(e.calls, 0) AS calls
            FROM price_books AS b JOIN events AS e ON e.rowid <= b.through_place
            LEFT JOIN kinds AS k ON {_SAME_KIND}
            WHERE e.type = :type
            """,
        holds="superseded IS NULL",
    )
    yield _Question(
        table="cost_places",
        key=("book", "sums"),
        values=("through_place",),
        counted="""
            SELECT book, sums, min(p.through_place, b.through_place) AS through_place
            FROM cost_places AS p JOIN price_books AS b USING (book)
            """,
    )
    for table, (keys, values) in SUMS.items():
        columns = [f"{window_in(table)} AS {key}" if key == "window_start" else key for key in keys]
        sums = ", ".join(f"sum({amount_in(each)}) AS {each}" for each in values)
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
