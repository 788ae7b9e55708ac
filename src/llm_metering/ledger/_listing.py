"""Listing events, the latest first: without an index of times, which would be written with each event.

Events lie nearly in the order of time, in spans of which the first and the last time are known. So spans
are gone through from that with the latest event on, until no other can have one as late as the last that
was found.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from ..errors import QueryError
from ._patience import patience
from ._rows import EPOCH, microseconds
from .listing import EventQuery, ListedEvent

__all__ = ["list_events"]

TIME_LIMIT: Final = 20.0
"""Seconds for an answer; what is rare in a long period may have to be looked for in all of it."""

_TOO_LONG: Final = (
    "looking for these events takes longer than {}; ask for a shorter period, or for a subject"
)

_ARRIVALS_SINCE: Final = 6
_SPANS_SINCE: Final = 3

_Found = tuple[int, int]
"""Time and place."""

_CONDITIONS: Final = """
    (:start IS NULL OR {time} >= :start) AND (:end IS NULL OR {time} < :end)
    AND (:first IS NULL OR {place} >= :first) AND (:behind IS NULL OR {place} < :behind)
    """
_OF_EVENT: Final = "(:id IS NULL OR instr(events.id, :id) > 0)"
_OF_ARRIVAL: Final = """
    AND (:came IS NULL OR :came <= {arrival}) AND (:before IS NULL OR {arrival} < :before)
    """
_ARRIVAL: Final = """
    (SELECT arrivals.time FROM arrivals WHERE arrivals.place <= events.rowid
     ORDER BY arrivals.place DESC LIMIT 1)
    """

_STRETCH: Final = f"""
    SELECT events.time, events.rowid FROM events
    WHERE events.rowid > :after AND events.rowid <= :through AND {_OF_EVENT}
        AND {_CONDITIONS.format(time="events.time", place="events.rowid")} {{arrival}}
    ORDER BY 1 DESC, 2 DESC LIMIT :limit
    """
_AMONG: Final = f"subject = :subject AND {_CONDITIONS.format(time='time', place='place')}"
_OF_SUBJECT: Final = f"""
    SELECT those.time, those.place
    FROM (
        SELECT time, place FROM places WHERE {_AMONG}
        UNION ALL SELECT time, place FROM recent WHERE {_AMONG}
        ORDER BY time DESC, place DESC
    ) AS those CROSS JOIN events ON events.rowid = those.place
    WHERE {_OF_EVENT} {{arrival}}
    ORDER BY 1 DESC, 2 DESC LIMIT :limit
    """
_ROWS: Final = """
    SELECT events.rowid, events.id, source, type, subject, events.time, {arrival}, payload
    FROM events WHERE events.rowid IN (SELECT value FROM json_each(:places))
    """
# Whatever the clock did: what has come since a moment is not before the first row that says so.
_FIRST: Final = "SELECT min(place) FROM arrivals WHERE time >= :came"
_BEHIND: Final = """
    SELECT min(place) FROM arrivals
    WHERE place > (SELECT max(place) FROM arrivals WHERE time < :before)
    """


def list_events(connection: sqlite3.Connection, query: EventQuery) -> list[ListedEvent]:
    """The latest events that a query is about; those of one moment by when they came, the latest first.

    Args:
        connection: In a transaction.
        query: Which.

    Raises:
        QueryError: If it takes too long, or the ledger does not say when events came.
        sqlite3.Error: If SQLite cannot.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    has_arrivals = version >= _ARRIVALS_SINCE
    by_arrival = query.arrived_from is not None or query.arrived_before is not None
    if by_arrival and not has_arrivals:
        raise QueryError(
            "this ledger says of no event when it came, since an older library made it"
        )
    asked: dict[str, Any] = {
        "start": _moment(query.start),
        "end": _moment(query.end),
        "came": _moment(query.arrived_from),
        "before": _moment(query.arrived_before),
        "id": query.id,
        "subject": query.subject,
        "limit": query.limit,
        "first": None,
        "behind": None,
    }
    with patience(connection, TIME_LIMIT, _TOO_LONG):
        arrival = ""
        if by_arrival:
            if not _bound(connection, asked):
                return []
            arrival = _OF_ARRIVAL.format(arrival=_ARRIVAL)
        if query.subject is None:
            found = _latest(connection, asked, arrival, has_spans=version >= _SPANS_SINCE)
        elif version >= _SPANS_SINCE:
            found = connection.execute(_OF_SUBJECT.format(arrival=arrival), asked).fetchall()
        else:
            arrival += " AND subject = :subject"
            found = _latest(connection, asked, arrival, has_spans=False)
        return _read(connection, [place for _, place in found], has_arrivals=has_arrivals)


def _bound(connection: sqlite3.Connection, asked: dict[str, Any]) -> bool:
    """Say between which places events can be that came in the period; `False` if there are none."""
    if asked["came"] is not None:
        (asked["first"],) = connection.execute(_FIRST, asked).fetchone()
        if asked["first"] is None:
            return False
    if asked["before"] is not None:
        any_before = "SELECT 1 FROM arrivals WHERE time < :before LIMIT 1"
        if connection.execute(any_before, asked).fetchone() is None:
            return False
        (asked["behind"],) = connection.execute(_BEHIND, asked).fetchone()
    return True


def _latest(
    connection: sqlite3.Connection, asked: dict[str, Any], arrival: str, *, has_spans: bool
) -> list[_Found]:
    statement = _STRETCH.format(arrival=arrival)
    best: list[_Found] = []
    for last, after, through in _spans(connection, has_spans=has_spans):
        start = asked["start"]
        # Sorted by their last time: none behind this one is later.
        if last is not None and (
            (start is not None and last < start)
            or (len(best) == asked["limit"] and best[-1][0] > last)
        ):
            break
        found = connection.execute(statement, {**asked, "after": after, "through": through})
        best = heapq.nlargest(asked["limit"], [*best, *found])
    return best


def _spans(
    connection: sqlite3.Connection, *, has_spans: bool
) -> Iterator[tuple[int | None, int, int]]:
    """Stretches of places with their last time: first what is recent, of which nobody has that."""
    if not has_spans:
        yield None, 0, 1 << 62
        return
    spans = []
    after = 0
    for through, last in connection.execute(
        "SELECT through_place, last_time FROM spans ORDER BY through_place"
    ).fetchall():
        spans.append((last, after, through))
        after = through
    yield None, after, 1 << 62
    yield from sorted(spans, reverse=True)


def _read(
    connection: sqlite3.Connection, places: list[int], *, has_arrivals: bool
) -> list[ListedEvent]:
    statement = _ROWS.format(arrival=_ARRIVAL if has_arrivals else "NULL")
    by_place = {
        place: ListedEvent(
            id=id,
            source=source,
            type=type_,
            subject=subject,
            time=EPOCH + timedelta(microseconds=moment),
            arrived_at=None if arrived is None else EPOCH + timedelta(microseconds=arrived),
            payload=payload.encode() or None,
        )
        for place, id, source, type_, subject, moment, arrived, payload in connection.execute(
            statement, {"places": str(places)}
        )
    }
    return [by_place[place] for place in places]


def _moment(moment: datetime | None) -> int | None:
    return None if moment is None else microseconds(moment)
