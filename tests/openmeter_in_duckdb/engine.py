"""What a meter says of raw events, in DuckDB's SQL.

Source: `openmeter/streaming/clickhouse/meter_query.go` and, for numbers, which Go reads as float64
and writes anew, `openmeter/ingest/kafkaingest/serializer/serializer.go`,
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c, and what
ClickHouse 26.9 makes of that (`tests/clickhouse/test_meter_queries.py` compares them): `JSON_VALUE`
is the text of a scalar and empty for anything else; `toFloat64OrNull` takes no blanks, no underscores
and no other base.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import duckdb

__all__ = ["DuckDBEngine", "Query", "Row"]

_MACROS = r"""
CREATE TABLE events (
    place BIGINT, type VARCHAR, subject VARCHAR, seconds BIGINT, data VARCHAR,
    source VARCHAR, id VARCHAR, PRIMARY KEY (source, id)
);
CREATE SEQUENCE places;
-- As Go writes it: digits and zeros up to 1e21, and from there on with an exponent.
CREATE MACRO number_text(x) AS CASE
    WHEN x = 0 THEN '0'
    WHEN x = trunc(x) AND abs(x) < 1e15 THEN CAST(CAST(x AS BIGINT) AS VARCHAR)
    WHEN abs(x) < 1e16 AND x = trunc(x) THEN CAST(CAST(x AS HUGEINT) AS VARCHAR)
    WHEN abs(x) < 1e21 AND x = trunc(x) THEN repeat('-', CAST(x < 0 AS INTEGER)) || rpad(
        replace(split_part(CAST(abs(x) AS VARCHAR), 'e+', 1), '.', ''),
        CAST(split_part(CAST(abs(x) AS VARCHAR), 'e+', 2) AS INTEGER) + 1, '0')
    ELSE CAST(x AS VARCHAR) END;
CREATE MACRO json_value(data, path) AS CASE json_type(data, path)
    WHEN 'NULL' THEN 'null'
    WHEN 'ARRAY' THEN ''
    WHEN 'OBJECT' THEN ''
    WHEN 'VARCHAR' THEN json_extract_string(data, path)
    WHEN 'BOOLEAN' THEN json_extract_string(data, path)
    ELSE coalesce(number_text(TRY_CAST(json_extract(data, path) AS DOUBLE)), '') END;
CREATE MACRO number_in(text) AS CASE
    WHEN regexp_full_match(text, '[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?')
        AND isfinite(TRY_CAST(text AS DOUBLE)) THEN TRY_CAST(text AS DOUBLE) END;
CREATE MACRO local_time(seconds, zone) AS timezone(zone, to_timestamp(seconds));
CREATE MACRO offset_of(seconds, zone) AS
    CAST(epoch(local_time(seconds, zone)) AS BIGINT) - seconds;
-- Of a time that clocks show twice, the first of the two; ICU takes the second.
CREATE MACRO first_of(wall, zone) AS CASE
    WHEN local_time(epoch(timezone(zone, wall)) - 3600, zone) = wall
    THEN CAST(epoch(timezone(zone, wall)) AS BIGINT) - 3600
    ELSE CAST(epoch(timezone(zone, wall)) AS BIGINT) END;
"""
_STARTS = {
    "MINUTE": "seconds - seconds % 60",
    "HOUR": "seconds - (seconds + offset_of(seconds, $zone)) % 3600",
    "DAY": "first_of(date_trunc('day', local_time(seconds, $zone)), $zone)",
    "MONTH": "first_of(date_trunc('month', local_time(seconds, $zone)), $zone)",
}
_ENDS = {
    "MINUTE": "start + 60",
    "HOUR": "start + 3600",
    "DAY": "first_of(date_trunc('day', local_time(start, $zone)) + INTERVAL 1 DAY, $zone)",
    "MONTH": "first_of(date_trunc('month', local_time(start, $zone)) + INTERVAL 1 MONTH, $zone)",
}
_VALUES = {
    "SUM": "sum(number)",
    "AVG": "avg(number)",
    "MIN": "min(number)",
    "MAX": "max(number)",
    "COUNT": "count(*)",
    "UNIQUE_COUNT": "count(DISTINCT nullif(text, 'null'))",
    "LATEST": "arg_max(number, {'t': seconds, 'p': place}) FILTER (number IS NOT NULL)",
}
_STEP = re.compile(r"""\.([\w]+)|\[\s*'([^']+)'\s*\]|\[\s*"([^"]+)"\s*\]|\[\s*(\d+)\s*\]""")


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is asked of a meter; times are whole seconds since 1970."""

    start: int | None = None
    end: int | None = None
    window: str | None = None
    zone: str = "UTC"
    subjects: tuple[str, ...] = ()
    group_by: tuple[str, ...] = ()
    filters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the answer; `offset` is that of the zone at its start, in seconds."""

    start: int
    end: int
    value: float
    groups: dict[str, str]
    offset: int = 0


class DuckDBEngine:
    """Keeps events, each once, and computes what meters say of them."""

    def __init__(self) -> None:
        self._connection = duckdb.connect()
        self._connection.execute("SET threads = 1")
        for statement in filter(str.strip, _MACROS.split(";\n")):
            self._connection.execute(statement)

    def close(self) -> None:
        self._connection.close()

    def clear(self) -> None:
        """Forget all events."""
        self._connection.execute("DELETE FROM events")

    def add(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Take CloudEvents; one that is there already is not taken again."""
        rows = [
            {
                "type": event["type"],
                "subject": event["subject"],
                "seconds": int(datetime.fromisoformat(event["time"]).timestamp() // 1),
                "data": json.dumps(event["data"]) if "data" in event else "",
                "source": event["source"],
                "id": event["id"],
            }
            for event in events
        ]
        self._connection.execute(
            """
            INSERT INTO events BY NAME
            SELECT nextval('places') AS place, unnest(from_json($rows, '[{
                "type": "VARCHAR", "subject": "VARCHAR", "seconds": "BIGINT", "data": "VARCHAR",
                "source": "VARCHAR", "id": "VARCHAR"}]'), recursive := true)
            ON CONFLICT DO NOTHING
            """,
            {"rows": json.dumps(rows)},
        )

    def rows(self, meter: Mapping[str, Any], query: Query) -> list[Row]:
        """What a meter says, in the words of v1: `eventType`, `aggregation`, ….

        Args:
            meter: The meter.
            query: What is asked.
        """
        parameters: dict[str, Any] = {"type": meter["eventType"]}
        where = ["type = $type"]
        if query.start is not None:
            where.append(f"seconds >= {query.start}")
        if query.end is not None:
            where.append(f"seconds < {query.end}")
        if query.subjects:
            where.append("list_contains($subjects, subject)")
            parameters["subjects"] = list(query.subjects)
        columns = [f"{_STARTS[query.window] if query.window else 0} AS start"]
        keys = sorted(set(query.group_by))
        for number, key in enumerate(keys):
            if key == "subject":
                columns.append(f"subject AS key{number}")
            else:
                parameters[f"path{number}"] = _path(meter["groupBy"][key])
                columns.append(f"json_value(data, $path{number}) AS key{number}")
        for number, (key, condition) in enumerate(query.filters.items()):
            parameters[f"filter{number}"] = _path(meter["groupBy"][key])
            text = f"json_value(data, $filter{number})"
            where.append(_condition(text, condition, parameters))
        if meter["aggregation"] != "COUNT":
            parameters["value"] = _path(meter["valueProperty"])
            columns += ["json_value(data, $value) AS text", "number_in(text) AS number"]
        ends = _ENDS[query.window] if query.window else "0"
        if "$zone" in columns[0] + ends:
            parameters["zone"] = query.zone
        groups = [f"key{number}" for number in range(len(keys))]
        by = ", ".join(["start", *groups])
        found = self._connection.execute(
            f"""
            WITH found AS (
                SELECT place, seconds, subject, {", ".join(columns)}
                FROM events WHERE {" AND ".join(where)}
            ), added AS (
                SELECT {by}, {_VALUES[meter["aggregation"]]} AS value,
                    min(seconds) AS first, max(seconds) AS last
                FROM found GROUP BY {by}
            )
            SELECT start, {ends} AS "end", first, last, value, {", ".join(groups) or "NULL"}
            FROM added WHERE value IS NOT NULL
            """,
            parameters,
        ).fetchall()
        if not found and not query.window and not keys and "COUNT" in meter["aggregation"]:
            found = [(0, 0, 0, 0, 0, None)]  # of an aggregation over nothing SQL makes one row
        return [
            self._row(query, keys, start, end, first, last, value, texts)
            for start, end, first, last, value, *texts in found
        ]

    def knows_zone(self, name: str) -> bool:
        """Whether ICU has a zone of this name."""
        return bool(
            self._connection.execute(
                "SELECT count(*) FROM pg_timezone_names() WHERE name = $1", [name]
            ).fetchall()[0][0]
        )

    def _row(
        self,
        query: Query,
        keys: list[str],
        start: int,
        end: int,
        first: int,
        last: int,
        value: float,
        texts: list[Any],
    ) -> Row:
        groups = dict(zip(keys, texts, strict=False))
        if query.window:
            return Row(start=start, end=end, value=float(value), groups=groups)
        start = first - first % 60 if query.start is None else query.start
        end = last - last % 60 + 60 if query.end is None else query.end
        return Row(start=start, end=end, value=float(value), groups=groups)


def _path(text: str) -> str:
    """A JSONPath in DuckDB's words."""
    steps, at = "$", 1
    while match := _STEP.match(text, at):
        index = match[4]
        steps += f"[{index}]" if index else f'."{match[1] or match[2] or match[3]}"'
        at = match.end()
    assert at == len(text), text
    return steps


def _condition(text: str, condition: Mapping[str, Any], parameters: dict[str, Any]) -> str:
    [(sign, operand)] = condition.items()
    if sign in ("$and", "$or"):
        parts = [_condition(text, each, parameters) for each in operand]
        return "(" + f" {sign[1:].upper()} ".join(parts) + ")"
    name = f"operand{len(parameters)}"
    parameters[name] = operand
    if sign == "$in":
        return f"list_contains(${name}, {text})"
    if sign == "$nin":
        return f"NOT list_contains(${name}, {text})"
    return f"{text} {_SIGNS[sign]} ${name}"


_SIGNS = {"$eq": "=", "$ne": "<>", "$lt": "<", "$lte": "<=", "$gt": ">", "$gte": ">="}
