"""The tables of what events cost: versions of prices, cards, and the rows."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from itertools import chain
from typing import Final

from ..events import EVENT_TYPE
from ..meters import Book
from ..prices import TOKEN_KINDS, PriceList
from ._names import Names
from ._pricer import BOOKS, Priced
from ._rows import ROWS_AT_ONCE, microseconds

__all__ = [
    "HALF_BITS",
    "HAS_COSTS",
    "KIND_COLUMNS",
    "LOW",
    "ROW_COLUMNS",
    "insert_rows",
    "known_names",
    "number_names",
    "through_of",
    "version_of",
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
    connection: sqlite3.Connection, book: Book, version: int, rows: list[Priced]
) -> None:
    """Insert rows, as they are priced in a version."""
    into = f"INSERT INTO costs (book, version, {', '.join(ROW_COLUMNS)}) VALUES "
    values = f"({BOOKS[book]}, {version}, {', '.join('?' * len(ROW_COLUMNS))})"
    # Many with each statement: the interpreter's lock is given up for each, and while others wait for
    # the ledger, it may take milliseconds to come back.
    most = connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
    at_once = min(ROWS_AT_ONCE, most // len(ROW_COLUMNS))
    for start in range(0, len(rows), at_once):
        some = rows[start : start + at_once]
        connection.execute(into + ", ".join([values] * len(some)), tuple(chain.from_iterable(some)))
