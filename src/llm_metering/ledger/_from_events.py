"""Answers from events: from their columns where these have what is asked for, else from their bodies.

No question reads more events than it has to. Those of a subject are found by `places`; those of a
period by `spans`, which tells where none of it can be; and what is recent lies at the end.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Final

from ..meters import MeterDefinition, UsageQuery
from ._lookups import NAMES, Parameters, column_of, number, text
from ._windows import Windows

__all__ = ["needs_bodies", "select", "stretches"]

_HALF: Final = 1 << 32


def needs_bodies(query: UsageQuery) -> bool:
    """Whether a question can only be answered by what stands in no column."""
    return any(column_of(path) is None for path in _texts(query)) or (
        query.meter.value_property is not None
        and query.meter.aggregation != "UNIQUE_COUNT"
        and column_of(query.meter.value_property) in (None, *NAMES)
    )


def select(
    connection: sqlite3.Connection,
    query: UsageQuery,
    windows: Windows,
    start: int | None,
    end: int | None,
    parameters: Parameters,
    *,
    has_places: bool,
) -> str:
    """The statement that answers a question: window, subject, keys, first, last, what makes the value.

    Args:
        connection: Is asked where a period's events are.
        query: The question.
        windows: Its windows.
        start: Its bounds, in microseconds from 1970.
        end: The same.
        parameters: Takes up what a caller wrote.
        has_places: Whether the ledger says where a subject's events are, and when which came.
    """
    meter = query.meter
    subjects = parameters(json.dumps(query.subjects)) if query.subjects is not None else None
    tables = "events"
    period = [
        f"time {sign} {moment}"
        for sign, moment in ((">=", start), ("<", end))
        if moment is not None
    ]
    conditions = [f"events.type = {parameters(meter.event_type)}"]
    if not has_places:
        if subjects:
            conditions.append(f"subject IN (SELECT value FROM json_each({subjects}))")
        conditions += period
    elif subjects:
        among = " AND ".join([f"subject IN (SELECT value FROM json_each({subjects}))", *period])
        tables = (
            f"(SELECT place FROM places WHERE {among} "
            f"UNION ALL SELECT place FROM recent WHERE {among}) AS those "
            "CROSS JOIN events ON events.rowid = those.place"
        )
    else:
        listed = ", ".join(str(each) for each in stretches(connection, start, end))
        tables = (
            f"(WITH stretches(behind, through) AS (VALUES {listed}) SELECT * FROM stretches) "
            "AS those CROSS JOIN events "
            "ON events.rowid > those.behind AND events.rowid <= those.through"
        )
        conditions += period
    if query.excluded_provenances:
        among = parameters(json.dumps(query.excluded_provenances))
        conditions.append(f"ifnull(provenance, '') NOT IN (SELECT value FROM json_each({among}))")
    for key, asked in query.filters:
        among = parameters(json.dumps(asked))
        conditions.append(
            f"{text(query.path_of(key), parameters)} IN (SELECT value FROM json_each({among}))"
        )
    told_apart = ["slot", "payer", *(f"key{position}" for position in range(len(query.keys)))]
    columns = [
        windows.key("time"),
        "subject" if query.by_subject else "NULL",
        *(text(query.path_of(key), parameters) for key in query.keys),
    ]
    value = _value(meter, parameters)
    grouped = ", ".join(told_apart)
    # Not by what is the same for all, which would be compared all the same; but by something, for
    # of no events there is no row.
    pairs = zip(columns, told_apart, strict=True)
    varying = ", ".join([name for each, name in pairs if each != "NULL"] or ["slot"])
    made, condition = _aggregates(meter)
    # The limit keeps SQLite from working out a body's value anew wherever it is named.
    statement = f"""
        SELECT {grouped}, min(time) AS first, max(time) AS last, {made}
        FROM (
            SELECT {", ".join(f"{each} AS {name}" for each, name in zip(columns, told_apart, strict=True))},
                time, events.rowid AS place, {value} AS value
            FROM {tables} WHERE {" AND ".join(conditions)} LIMIT -1
        )
        GROUP BY {varying} {condition}
        """
    if meter.aggregation == "LATEST":
        statement = f"""
            SELECT {grouped}, first, last, {value} FROM ({statement}) AS groups
            CROSS JOIN events ON events.rowid = CAST(substr(latest, 21) AS INTEGER)
            """
    return f"{statement} ORDER BY {grouped}"


def _texts(query: UsageQuery) -> Iterator[str]:
    for key in (*query.keys, *(key for key, _ in query.filters)):
        yield query.path_of(key)
    if query.meter.aggregation == "UNIQUE_COUNT" and query.meter.value_property is not None:
        yield query.meter.value_property


def _value(meter: MeterDefinition, parameters: Parameters) -> str:
    """What of each event the meter aggregates."""
    if meter.value_property is None:
        return "NULL"
    if meter.aggregation == "UNIQUE_COUNT":
        return f"nullif({text(meter.value_property, parameters)}, 'null')"
    return number(meter.value_property, parameters)


def _aggregates(meter: MeterDefinition) -> tuple[str, str]:
    """What a group's value is made of, and what a group has to have for it."""
    if meter.aggregation == "COUNT":
        return "count(*)", ""
    if meter.aggregation == "UNIQUE_COUNT":
        return "count(DISTINCT value)", ""
    has_value = "HAVING count(value) > 0"
    if meter.aggregation in ("MIN", "MAX"):
        return f"{meter.aggregation}(value)", has_value
    if meter.aggregation == "LATEST":
        # The later in time, and of those that are as late the one that came last.
        moment = "CASE WHEN value IS NOT NULL THEN printf('%020d%020d', time, place) END"
        return f"max({moment}) AS latest", has_value
    # Whole numbers in halves, since a sum beyond 64 bits would be an error; others apart, since
    # with one of them in it a sum of SQLite's is inexact as a whole.
    whole = "CASE typeof(value) WHEN 'integer' THEN value"
    parts = (
        f"sum({whole} / {_HALF} END), sum({whole} % {_HALF} END), "
        "total(CASE typeof(value) WHEN 'real' THEN value END), count(value)"
    )
    return parts, has_value


def stretches(
    connection: sqlite3.Connection, start: int | None, end: int | None
) -> Iterator[tuple[int, int]]:
    """Where events of a period may be: behind one place, through another; at last what is recent."""
    behind = 0
    for through, first, last in connection.execute(
        "SELECT through_place, first_time, last_time FROM spans ORDER BY through_place"
    ):
        if (start is None or last >= start) and (end is None or first < end):
            yield behind, through
        behind = through
    yield behind, 1 << 62
