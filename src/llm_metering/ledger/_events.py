"""Reading the events themselves, in pieces, so that nobody who writes waits for a slow reader."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from ._rows import EPOCH

__all__ = [
    "PAGE",
    "is_fed_by_topics",
    "moments_after",
    "payloads_of",
    "sources_of",
    "subjects_of",
    "without_body",
]

PAGE: Final = 10_000
"""Events of which time and id are read at once, which takes some milliseconds."""

# By the index that makes events unique, since there is none by time alone.
_MOMENTS: Final = f"""
    SELECT id, time FROM events
    WHERE source = :source AND id > :after
        AND (:start IS NULL OR time >= :start) AND (:end IS NULL OR time < :end)
    ORDER BY id LIMIT {PAGE}
    """
_PAYLOADS: Final = """
    SELECT id, payload FROM events
    WHERE source = :source AND id IN (SELECT value FROM json_each(:ids)) AND payload <> ''
    """
_WITHOUT_BODY: Final = """
    SELECT id FROM events
    WHERE source = :source AND id IN (SELECT value FROM json_each(:ids)) AND payload = ''
    """
# From one source to the next by the same index: a DISTINCT would look at every event.
_SOURCES: Final = """
    WITH RECURSIVE found (source) AS (
        SELECT min(source) FROM events
        UNION ALL
        SELECT (SELECT min(source) FROM events WHERE source > found.source) FROM found
        WHERE found.source IS NOT NULL
    )
    SELECT source FROM found WHERE source IS NOT NULL
    """

_ROLLUPS_SINCE: Final = 3
# From the sums by day, and what is recent: of all events it would be as slow as they are many.
_SUBJECTS: Final = """
    SELECT subject, min(first_time), max(last_time)
    FROM (
        SELECT subject, first_time, last_time FROM subject_days
        UNION ALL SELECT subject, time, time FROM recent
    )
    GROUP BY subject ORDER BY subject
    """
_OLDER_SUBJECTS: Final = """
    SELECT subject, min(time), max(time) FROM events GROUP BY subject ORDER BY subject
    """


def moments_after(
    connection: sqlite3.Connection, source: str, after: str, start: int | None, end: int | None
) -> list[tuple[str, int]]:
    """Id and time of the next events, by id.

    Args:
        connection: The ledger.
        source: The CloudEvents source.
        after: The last id of the piece before; empty at first.
        start: First microsecond that counts.
        end: First microsecond that no longer counts.
    """
    asked = {"source": source, "after": after, "start": start, "end": end}
    return connection.execute(_MOMENTS, asked).fetchall()


def payloads_of(
    connection: sqlite3.Connection, source: str, ids: Iterable[str]
) -> dict[str, bytes]:
    """The CloudEvents of those ids that there are, as they were delivered."""
    asked = {"source": source, "ids": json.dumps(list(ids))}
    return {each: payload.encode() for each, payload in connection.execute(_PAYLOADS, asked)}


def without_body(connection: sqlite3.Connection, source: str, ids: Iterable[str]) -> set[str]:
    """Those of the ids that are of events whose body was given up."""
    asked = {"source": source, "ids": json.dumps(list(ids))}
    return {each for (each,) in connection.execute(_WITHOUT_BODY, asked)}


def sources_of(connection: sqlite3.Connection) -> list[str]:
    """The CloudEvents sources of all events, sorted."""
    return [source for (source,) in connection.execute(_SOURCES)]


def subjects_of(connection: sqlite3.Connection) -> dict[str, tuple[datetime, datetime]]:
    """The subjects of all events, sorted, with the first and the last time of theirs, in UTC."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    found = connection.execute(_SUBJECTS if version >= _ROLLUPS_SINCE else _OLDER_SUBJECTS)
    return {
        subject: (EPOCH + timedelta(microseconds=first), EPOCH + timedelta(microseconds=last))
        for subject, first, last in found
    }


def is_fed_by_topics(connection: sqlite3.Connection) -> bool:
    """Whether events were ever taken in from a broker."""
    # A file of version 1 that nobody has opened for writing since has no such table.
    there = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'ingest_positions'"
    if connection.execute(there).fetchone() is None:
        return False
    return connection.execute("SELECT 1 FROM ingest_positions LIMIT 1").fetchone() is not None
