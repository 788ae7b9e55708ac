"""Giving up the bodies of old events, which are most of what a ledger weighs.

What an event counted stays: its row, so that it is known if it comes again, and all that was added
up of it. What only its body says is gone: the ledger cannot send it again, nor tell apart by a
property that has no column.

A library of schema 2 would offer an event without a body to a server as if it had one, and answer
by its properties as if it had none. So a ledger that was pruned is for libraries of schema 3 and
later: older ones keep their events in the journal and say that they have to be upgraded.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ..errors import LedgerError
from ._files import check_version
from ._handle import Handle

__all__ = ["PRUNED_BEFORE", "Pruned", "compact", "prune", "pruned_before", "sizes"]

PRUNED_BEFORE: Final = "pruned_before"
"""The key of `meta` with the microsecond before which events may have no body."""

_OLDEST_WRITER: Final = 3

PIECE: Final = 5_000
"""Events of one transaction, which takes some tens of milliseconds."""

_NOTE: Final = """
    INSERT INTO meta (key, value) VALUES (:key, :value)
    ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)
    """
# A row that is named anew is taken out and put in again, for which SQLite joins pages that are nearly
# empty; one that is only made shorter leaves its page as it is, and no page would ever be free.
_PRUNE: Final = """
    UPDATE events SET rowid = rowid, payload = ''
    WHERE rowid BETWEEN :first AND :last AND time < :before AND payload <> ''
    """
# What is in no span yet lies behind the last of them.
_PLACES: Final = """
    SELECT ifnull(
        (SELECT max(through_place) FROM spans WHERE through_place < s.through_place), 0
    ) + 1, through_place
    FROM spans AS s WHERE first_time < :before
    UNION ALL
    SELECT ifnull((SELECT max(through_place) FROM spans), 0) + 1,
        (SELECT ifnull(max(rowid), 0) FROM events)
    ORDER BY 1
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What pruning has done.

    Attributes:
        events: How many bodies were given up.
        free: Bytes of the file that are free now for what comes.
        size: Bytes of the file.
    """

    events: int
    free: int
    size: int


def pruned_before(connection: sqlite3.Connection) -> int | None:
    """The microsecond before which events may have no body; `None` if all have one."""
    found = connection.execute("SELECT value FROM meta WHERE key = ?", (PRUNED_BEFORE,)).fetchone()
    return None if found is None else int(found[0])


def prune(handle: Handle, before: int) -> int:
    """Give up the bodies of events of before a microsecond, some at a time.

    Returns:
        How many.

    Raises:
        UnavailableError: If the ledger cannot be written now; what was done until then stays done,
            and whoever prunes again goes on from there.
    """
    pieces, is_signed = _begin(handle, before)
    events = 0
    for first, last in pieces:
        started = time.monotonic()
        with handle.writing() as connection:
            connection.execute("BEGIN IMMEDIATE")
            check_version(connection)
            asked = {"first": first, "last": last, "before": before}
            if is_signed:
                handle.chain.keep_digests(connection, asked)
            events += connection.execute(_PRUNE, asked).rowcount
            connection.execute("COMMIT")
        # Those who wait for a ledger look every tenth of a second at most: they would find it taken
        # each time if it was free for an instant only.
        time.sleep(time.monotonic() - started)
    return events


def _begin(handle: Handle, before: int) -> tuple[list[tuple[int, int]], bool]:
    """Say that there may be events without a body, before there is one.

    Returns:
        Where to look, and whether the ledger is signed.
    """
    handle.catch_up()
    with handle.writing() as connection:
        connection.execute("BEGIN IMMEDIATE")
        check_version(connection)
        connection.execute(_NOTE, {"key": PRUNED_BEFORE, "value": before})
        connection.execute(_NOTE, {"key": "oldest_writer", "value": _OLDEST_WRITER})
        places = connection.execute(_PLACES, {"before": before}).fetchall()
        is_signed = handle.chain.allow_pruning(connection, before)
        connection.execute("COMMIT")
    return [piece for first, last in places for piece in _pieces(first, last)], is_signed


def _pieces(first: int, last: int) -> Iterator[tuple[int, int]]:
    for start in range(first, last + 1, PIECE):
        yield start, min(start + PIECE - 1, last)


def compact(handle: Handle) -> None:
    """Give the file's free space back to the disk. All others wait for as long as it takes.

    Raises:
        LedgerError: If somebody has removed events: what is kept beside them might then name others.
        UnavailableError: If the ledger cannot be written now.
    """
    with handle.writing() as connection:
        # SQLite may number rows anew: as they are numbered now, if none is missing.
        there, last = connection.execute(
            "SELECT count(*), ifnull(max(rowid), 0) FROM events"
        ).fetchone()
        if there != last:
            raise LedgerError(
                f"{last - there} events were removed from the ledger; it is left as it is"
            )
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def sizes(handle: Handle) -> tuple[int, int]:
    """Bytes of the file that are free, and bytes of the file."""
    with handle.writing() as connection:
        (page,) = connection.execute("PRAGMA page_size").fetchone()
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
    return free * page, pages * page
