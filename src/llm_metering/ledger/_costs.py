"""The tables of what events cost: rows, and the sums of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from ..events import EVENT_TYPE
from ..meters import Book
from ..prices import TOKEN_KINDS, PriceList
from ._pricer import BOOKS, Names, Priced
from ._rows import microseconds
from ._windows import DAY, QUARTER

__all__ = [
    "HALF_BITS",
    "HAS_COSTS",
    "KIND_COLUMNS",
    "LOW",
    "ROW_COLUMNS",
    "SUMS",
    "add_sums",
    "amount_in",
    "insert_rows",
    "known_names",
    "number_names",
    "through_of",
    "version_of",
    "window_in",
]

HALF_BITS: Final = 32
LOW: Final = (1 << HALF_BITS) - 1

HAS_COSTS: Final = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'price_books'"
"""Finds something in a ledger that has the tables: one of an older schema has not."""

ROW_COLUMNS: Final = (
    *("place", "time", "subject", "kind", "card", "picos", "calls"),
    *TOKEN_KINDS,
    "others",
)
KIND_COLUMNS: Final = ("type", "provider", "model", "provenance", "status")
_KIND: Final = ", ".join(KIND_COLUMNS)

_PARTS: Final = ("high", "low", "events")
_AMOUNTS: Final = (*_PARTS, "calls", *TOKEN_KINDS)
_MANY_MONTHS: Final = 12
_STRFTIME: Final = (
    "CAST(strftime('%s', time / 1000000, 'unixepoch', 'start of month') AS INTEGER) * 1000000"
)

SUMS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "cost_months": (("book", "window_start", "subject", "kind", "card"), _AMOUNTS),
    "cost_subject_days": (("book", "window_start", "subject", "currency"), _PARTS),
    "cost_kind_days": (("book", "window_start", "kind", "currency"), _PARTS),
    "cost_kind_quarters": (("book", "window_start", "kind", "currency"), _PARTS),
}
"""The key of each table of sums, and what it adds up."""

_GRAINS: Final = {"cost_subject_days": DAY, "cost_kind_days": DAY, "cost_kind_quarters": QUARTER}


def through_of(connection: sqlite3.Connection, book: Book) -> int:
    """Up to which place events of a book have been priced."""
    found = connection.execute(
        "SELECT through_place FROM price_books WHERE book = ?", (BOOKS[book],)
    ).fetchone()
    return found[0] if found else 0


def version_of(
    connection: sqlite3.Connection, book: Book, prices: PriceList, *, anew: bool = False
) -> int:
    """The version of prices that is current, made if the list is another one.

    Args:
        connection: In a transaction that writes.
        book: Of which book.
        prices: The list.
        anew: Make one in any case.
    """
    last = connection.execute(
        "SELECT version, list_name, list_version FROM price_versions WHERE book = ? "
        "ORDER BY version DESC LIMIT 1",
        (BOOKS[book],),
    ).fetchone()
    if not anew and last is not None and last[1:] == (prices.name, prices.version):
        return int(last[0])
    made = connection.execute(
        "INSERT INTO price_versions (book, time, list_name, list_version) VALUES (?, ?, ?, ?)",
        (BOOKS[book], microseconds(datetime.now(UTC)), prices.name, prices.version),
    )
    assert made.lastrowid is not None
    return made.lastrowid


def known_names(connection: sqlite3.Connection) -> tuple[Names, Names]:
    """The numbers of cards, and those of kinds of events."""
    cards = connection.execute("SELECT text, currency, card FROM price_cards")
    kinds = connection.execute(f"SELECT {_KIND}, kind FROM kinds WHERE type = ?", (EVENT_TYPE,))
    return (
        Names({(text, currency): number for text, currency, number in cards}),
        Names({tuple(each[:-1]): each[-1] for each in kinds}),
    )


def number_names(
    connection: sqlite3.Connection, rows: list[Priced], cards: Names, kinds: Names
) -> list[Priced]:
    """Write down what is new, and put its numbers into rows."""
    if not cards.new and not kinds.new:
        return rows
    made_cards, made_kinds = {}, {}
    for position, (text, currency) in enumerate(cards.new, 1):
        connection.execute(
            "INSERT INTO price_cards (text, currency) VALUES (?, ?) ON CONFLICT (text) DO NOTHING",
            (text, currency),
        )
        (made_cards[-position],) = connection.execute(
            "SELECT card FROM price_cards WHERE text = ?", (text,)
        ).fetchone()
    marks = " AND ".join(f"{each} = ?" for each in KIND_COLUMNS)
    for position, kind in enumerate(kinds.new, 1):
        connection.execute(
            f"INSERT INTO kinds ({_KIND}) VALUES (?, ?, ?, ?, ?) ON CONFLICT ({_KIND}) DO NOTHING",
            kind,
        )
        (made_kinds[-position],) = connection.execute(
            f"SELECT kind FROM kinds WHERE {marks}", kind
        ).fetchone()
    cards.number([made_cards[-each] for each in range(1, len(cards.new) + 1)])
    kinds.number([made_kinds[-each] for each in range(1, len(kinds.new) + 1)])
    return [
        (*row[:3], made_kinds.get(row[3], row[3]), made_cards.get(row[4], row[4]), *row[5:])
        for row in rows
    ]


def insert_rows(
    connection: sqlite3.Connection, book: Book, version: int, rows: Iterable[Priced]
) -> None:
    """Insert rows, as they are priced in a version."""
    connection.executemany(
        f"INSERT INTO costs (book, version, {', '.join(ROW_COLUMNS)}) "
        f"VALUES ({BOOKS[book]}, {version}, {', '.join('?' * len(ROW_COLUMNS))})",
        rows,
    )


def add_sums(
    connection: sqlite3.Connection,
    book: Book,
    behind: int,
    through: int,
    *,
    version: int,
    replaced: bool = False,
) -> None:
    """Add rows of a stretch of places that were priced in a version to the sums.

    Args:
        connection: In the transaction in which they were inserted.
        book: Their book.
        behind: The place before the first.
        through: The last place.
        version: The version.
        replaced: Take those away as well that were superseded by it.
    """
    asked = {"book": BOOKS[book], "behind": behind, "through": through, "version": version}
    among = "book = :book AND place > :behind AND place <= :through"
    if replaced:
        source = (
            f"(SELECT 1 AS sign, * FROM costs WHERE {among} AND version = :version "
            f"UNION ALL SELECT -1, * FROM costs WHERE {among} AND superseded = :version)"
        )
    else:
        source = f"(SELECT 1 AS sign, * FROM costs WHERE {among})"
    times = connection.execute(f"SELECT min(time), max(time) FROM {source}", asked).fetchone()
    if times[0] is None:
        return
    month = _month(*times)
    for table, (keys, values) in SUMS.items():
        window = month if table == "cost_months" else window_in(table)
        columns = [window if key == "window_start" else key for key in keys]
        join = " JOIN price_cards USING (card)" if "currency" in keys else ""
        positions = ", ".join(str(number + 1) for number in range(len(keys)))
        # Of many subjects hardly two events are of one month's row: to add them up first takes longer.
        is_alone = table == "cost_months" and not replaced
        amounts = [
            f"sign * {amount_in(each)}" if is_alone else f"sum(sign * {amount_in(each)})"
            for each in values
        ]
        connection.execute(
            f"INSERT INTO {table} ({', '.join((*keys, *values))}) "
            f"SELECT {', '.join(columns)}, {', '.join(amounts)} FROM {source}{join} "
            f"WHERE true {'ORDER' if is_alone else 'GROUP'} BY {positions} "
            f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET "
            + ", ".join(f"{each} = {each} + excluded.{each}" for each in values),
            asked,
        )


def amount_in(value: str) -> str:
    """The SQL of what a row adds to a column of sums."""
    return {
        "high": f"(ifnull(picos, 0) >> {HALF_BITS})",
        "low": f"(ifnull(picos, 0) & {LOW})",
        "events": "1",
    }.get(value, value)


def window_in(table: str) -> str:
    """The SQL of the beginning of the window that a row is in, of a table of sums."""
    grain = _GRAINS.get(table)
    return _STRFTIME if grain is None else f"time - time % {grain}"


def _month(first: int, last: int) -> str:
    """The SQL of the month's beginning of times that lie between two."""
    starts = _months(first, last, most=_MANY_MONTHS)
    if starts is None:
        return _STRFTIME
    *later, earliest = reversed(starts)
    whens = "".join(f"WHEN time >= {start} THEN {start} " for start in later)
    return f"CASE {whens}ELSE {earliest} END" if later else str(earliest)


def _months(first: int, last: int, *, most: int) -> list[int] | None:
    """When the months of UTC begin that times between two are in; `None` if they are too many."""
    found: list[int] = []
    year, month = divmod(_month_number(first), 12)
    while (start := microseconds(datetime(year, month + 1, 1, tzinfo=UTC))) <= last:
        if len(found) == most:
            return None
        found.append(start)
        year, month = divmod(year * 12 + month + 1, 12)
    return found


def _month_number(moment: int) -> int:
    day = datetime.fromtimestamp(moment // 1_000_000, UTC)
    return day.year * 12 + day.month - 1
