"""The sums of what events cost, which are behind the rows by some events and are brought up by who asks.

Each table of sums has a place of its own up to which rows are in it. An answer adds the rows behind that
place, so it is the same wherever the place is; it is quick if few are. So who needs a bill does not wait
for the sums of a question about days.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from ..prices import TOKEN_KINDS
from ._breaks import Breaks
from ._costs import HALF_BITS, HAS_COSTS, LOW
from ._files import check_version
from ._handle import Handle
from ._rows import microseconds
from ._windows import DAY, QUARTER

__all__ = [
    "AT_ONCE",
    "LAG",
    "SUMS",
    "Behind",
    "amount_in",
    "behind",
    "places_of",
    "replace_in_sums",
    "sum_up",
    "window_in",
]

AT_ONCE: Final = 100_000
"""Places that are added up in one transaction, which takes two to three tenths of a second. Of fewer,
each page of the sums is written for fewer events."""

LAG: Final = 10_000
"""Places by which sums may be behind before who asks brings them up: to read so many rows takes some
hundredths of a second."""

Behind = tuple[int, str]
"""The number of a book, and a table of sums."""

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


_AMONG: Final = "book = :book AND place > :behind AND place <= :through"
_PRICED: Final = "SELECT through_place FROM price_books WHERE book = ?"
_PLACES: Final = "SELECT sums, through_place FROM cost_places WHERE book = ?"
_MOVE: Final = """
    INSERT INTO cost_places (book, sums, through_place) VALUES (:book, :sums, :through)
    ON CONFLICT (book, sums) DO UPDATE SET through_place = excluded.through_place
    """


def places_of(connection: sqlite3.Connection, book: int) -> dict[str, int]:
    """Up to which place each table has the rows of a book."""
    return dict.fromkeys(SUMS, 0) | dict(connection.execute(_PLACES, (book,)))


def behind(connection: sqlite3.Connection, wanted: Iterable[Behind]) -> list[Behind]:
    """Which of the tables are behind by more than who asks should read row by row."""
    if connection.execute(HAS_COSTS).fetchone() is None:
        return []
    return [
        (book, table)
        for book, table in wanted
        if _priced(connection, book) - places_of(connection, book)[table] > LAG
    ]


def sum_up(handle: Handle, lacking: Iterable[Behind], *, least: int = 1) -> None:
    """Add to tables what they lack, some rows at a time.

    Args:
        handle: The ledger.
        lacking: The tables.
        least: How many places there have to be to begin another piece.

    Raises:
        UnavailableError: If the ledger cannot be written now; what was done until then stays done.
    """
    breaks = Breaks()
    for book, table in lacking:
        while _sum_piece(handle, book, table, least):
            breaks.take_one_if_due()


def _sum_piece(handle: Handle, book: int, table: str, least: int) -> bool:
    with handle.writing() as writer:
        writer.execute("BEGIN IMMEDIATE")
        check_version(writer)
        place, priced = places_of(writer, book)[table], _priced(writer, book)
        is_due = priced - place >= least
        if is_due:
            through = min(priced, place + AT_ONCE)
            asked = {"book": book, "behind": place, "through": through}
            source = f"(SELECT 1 AS sign, * FROM costs WHERE {_AMONG} AND superseded IS NULL)"
            _add(writer, table, source, asked)
            writer.execute(_MOVE, {"book": book, "sums": table, "through": through})
        writer.execute("COMMIT")
    return is_due


def replace_in_sums(
    connection: sqlite3.Connection, book: int, behind: int, through: int, *, version: int
) -> None:
    """Put rows of a stretch of places that were priced in a version in the place of those it superseded.

    Args:
        connection: In the transaction in which they were inserted.
        book: Their book's number.
        behind: The place before the first.
        through: The last place.
        version: The version.
    """
    source = (
        f"(SELECT 1 AS sign, * FROM costs WHERE {_AMONG} AND version = :version "
        f"UNION ALL SELECT -1, * FROM costs WHERE {_AMONG} AND superseded = :version)"
    )
    for table, place in places_of(connection, book).items():
        last = min(through, place)
        asked = {"book": book, "behind": behind, "through": last, "version": version}
        if last > behind:
            _add(connection, table, source, asked)


def _priced(connection: sqlite3.Connection, book: int) -> int:
    found = connection.execute(_PRICED, (book,)).fetchone()
    return found[0] if found else 0


def _add(connection: sqlite3.Connection, table: str, source: str, asked: dict[str, int]) -> None:
    """Add rows to a table, each as often as its `sign` says."""
    first, last = connection.execute(f"SELECT min(time), max(time) FROM {source}", asked).fetchone()
    if first is None:
        return
    keys, values = SUMS[table]
    window = _month(first, last) if table == "cost_months" else window_in(table)
    columns = [window if key == "window_start" else key for key in keys]
    join = " JOIN price_cards USING (card)" if "currency" in keys else ""
    amounts = ", ".join(f"sum(sign * {amount_in(each)})" for each in values)
    positions = ", ".join(str(number + 1) for number in range(len(keys)))
    connection.execute(
        f"INSERT INTO {table} ({', '.join((*keys, *values))}) "
        f"SELECT {', '.join(columns)}, {amounts} FROM {source}{join} "
        f"WHERE true GROUP BY {positions} ON CONFLICT ({', '.join(keys)}) DO UPDATE SET "
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
