"""Folding: what is recent becomes rollups, many events at a time.

A batch of events of a thousand subjects touches a thousand pages of each table that is ordered by
subject. Written with each batch, those pages are what a ledger of many subjects spends its time on;
written once for many batches, they are not. Until then the events count as they stand in `recent`:
a fold changes no answer, and one that fails has changed nothing.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from ._files import UnavailableError, check_version, explain
from ._lookups import COUNTS

__all__ = ["FOLD_AT", "fold_if_due"]

FOLD_AT: Final = 20_000
"""Recent events that are folded together. Of more, a question that reads them all is slower, and a
fold keeps others waiting for longer; of fewer, each page is written for fewer events."""

_AT_ONCE: Final = 2
"""Folds behind one batch: an older library that writes alone leaves many behind, which whoever
comes next must not stand still for."""

_KIND: Final = "type, provider, model, provenance, status"
_QUARTER: Final = 900_000_000
_DAY: Final = 86_400_000_000


def _adding(table: str, *, grain: int, keys: tuple[str, ...], together: bool) -> str:
    """The statement that adds recent events up to a place to a table of rollups.

    Args:
        table: Its name.
        grain: Microseconds of a window.
        keys: Its key.
        together: Whether events of one rollup are added up first. That is quicker where there are
            many of them, and else slower than to add them one by one.
    """
    columns = [f"time - time % {grain}" if key == "window_start" else key for key in keys]
    positions = ", ".join(str(number + 1) for number in range(len(keys)))
    kinds = f"JOIN kinds USING ({_KIND})" if "kind" in keys else ""
    if together:
        values = f"{', '.join(f'sum({each})' for each in COUNTS)}, count(*), min(time), max(time)"
    else:
        values = f"{', '.join(COUNTS)}, 1, time, time"
    # NULL is a count that no event has: it takes the other's place, and adds nothing to it.
    sums = [
        f"{each} = coalesce({each} + excluded.{each}, {each}, excluded.{each})" for each in COUNTS
    ]
    # In the order of the key each page is written once.
    return f"""
        INSERT INTO {table} ({", ".join((*keys, *COUNTS))}, events, first_time, last_time)
        SELECT {", ".join(columns)}, {values}
        FROM recent {kinds}
        WHERE place <= :through
        {"GROUP" if together else "ORDER"} BY {positions}
        ON CONFLICT ({", ".join(keys)}) DO UPDATE SET
            {", ".join(sums)},
            events = events + excluded.events,
            first_time = min(first_time, excluded.first_time),
            last_time = max(last_time, excluded.last_time)
        """


_FOLD: Final = (
    f"""
    INSERT INTO kinds ({_KIND}) SELECT DISTINCT {_KIND} FROM recent WHERE place <= :through
    ON CONFLICT ({_KIND}) DO NOTHING
    """,
    _adding("quarters", grain=_QUARTER, keys=("subject", "window_start", "kind"), together=False),
    _adding("days", grain=_DAY, keys=("subject", "window_start", "kind"), together=False),
    _adding("subject_days", grain=_DAY, keys=("type", "window_start", "subject"), together=True),
    _adding("kind_days", grain=_DAY, keys=("window_start", "kind"), together=True),
    _adding("kind_quarters", grain=_QUARTER, keys=("window_start", "kind"), together=True),
    """
    INSERT INTO places (subject, time, place)
    SELECT subject, time, place FROM recent WHERE place <= :through ORDER BY 1, 2, 3
    """,
    """
    INSERT INTO spans (through_place, first_time, last_time, mark)
    SELECT :through, min(time), max(time), random() FROM recent WHERE place <= :through
    """,
)
_EMPTY: Final = "DELETE FROM recent"
"""Without a condition SQLite lets go of the table's pages, instead of row by row."""
_EMPTY_THROUGH: Final = "DELETE FROM recent WHERE place <= :through"


def fold_if_due(connection: sqlite3.Connection) -> None:
    """Fold, if enough is recent, in transactions of its own; if that fails it is done another time.

    Call it outside a transaction, when what was to be written is committed.

    Raises:
        sqlite3.Error: If it is a mistake of this library.
    """
    try:
        for _ in range(_AT_ONCE):
            first, last = _ends(connection)
            if last - first + 1 < FOLD_AT:
                return
            _fold(connection)
    except (sqlite3.Error, UnavailableError) as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if isinstance(error, sqlite3.Error):
            explain(error)


def _fold(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    check_version(connection)
    # Asked again: somebody else may have folded.
    first, last = _ends(connection)
    if last - first + 1 >= FOLD_AT:
        through = last if last - first < 2 * FOLD_AT else first + FOLD_AT - 1
        for statement in _FOLD:
            connection.execute(statement, {"through": through})
        if through == last:
            connection.execute(_EMPTY)
        else:
            connection.execute(_EMPTY_THROUGH, {"through": through})
    connection.execute("COMMIT")


def _ends(connection: sqlite3.Connection) -> tuple[int, int]:
    """The first and the last recent place; the last is the smaller one if nothing is recent."""
    # Two questions, each of which looks at one end of the table; as one they would read all of it.
    first, last = connection.execute(
        "SELECT (SELECT min(place) FROM recent), (SELECT max(place) FROM recent)"
    ).fetchone()
    return (0, -1) if first is None else (first, last)
