"""OpenMeter's own question to ClickHouse, run by ClickHouse's engine in this process.

The statement has the form of `toSQL` of `openmeter/streaming/clickhouse/meter_query.go`,
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c, over the
table of `createEventsTable`; it is written anew here, from what that code builds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from chdb.session import Session

from tests.openmeter_in_duckdb.engine import Query, Row

__all__ = ["ClickHouseEngine"]

_VALUES = {
    "SUM": "sum({number})",
    "AVG": "avg({number})",
    "MIN": "min({number})",
    "MAX": "max({number})",
    "COUNT": "count(*)",
    "UNIQUE_COUNT": "uniqExact(nullIf({text}, 'null'))",
    "LATEST": "argMax({number}, time)",
}
_SIGNS = {"$eq": "=", "$ne": "<>", "$lt": "<", "$lte": "<=", "$gt": ">", "$gte": ">="}


class ClickHouseEngine:
    """Keeps events, each once, and computes what meters say of them.

    Args:
        folder: For ClickHouse's files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._session = Session(str(folder / "clickhouse"))
        self._session.query("CREATE DATABASE openmeter")
        self._session.query(
            """
            CREATE TABLE openmeter.events (
                namespace String, id String, type LowCardinality(String), subject String,
                source String, time DateTime, data String
            ) ENGINE = MergeTree ORDER BY (namespace, type, subject, toStartOfHour(time))
            """
        )
        self._known: set[tuple[str, str]] = set()

    def close(self) -> None:
        self._session.close()

    def clear(self) -> None:
        """Forget all events."""
        self._known.clear()
        self._session.query("TRUNCATE TABLE openmeter.events")

    def add(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Take CloudEvents; one that is there already is not taken again."""
        lines = []
        for event in events:
            if (event["source"], event["id"]) in self._known:
                continue
            self._known.add((event["source"], event["id"]))
            line = {key: event[key] for key in ("id", "type", "subject", "source")}
            line["time"] = int(datetime.fromisoformat(event["time"]).timestamp() // 1)
            line["data"] = _as_go_writes(event["data"]) if "data" in event else ""
            lines.append(json.dumps({"namespace": "default", **line}))
        file = self._folder / "events.jsonl"
        file.write_text("\n".join(lines), "utf-8")
        if lines:
            self._session.query(
                f"INSERT INTO openmeter.events SELECT * FROM file('{file}', JSONEachRow, 'namespace "
                "String, id String, type String, subject String, source String, time DateTime, "
                "data String')"
            )

    def knows_zone(self, name: str) -> bool:
        """Whether ClickHouse has a zone of this name."""
        found = str(
            self._session.query(
                f"SELECT count() FROM system.time_zones WHERE time_zone = {_text(name)}", "TSV"
            )
        )
        return found.strip() == "1"

    def rows(self, meter: Mapping[str, Any], query: Query) -> list[Row]:
        """What a meter says, in the words of v1: `eventType`, `aggregation`, ….

        Args:
            meter: The meter.
            query: What is asked.
        """
        keys = sorted(set(query.group_by))
        columns = [*_window(query), _value(meter)]
        groups = ["windowstart", "windowend"] if query.window else []
        for key in keys:
            groups.append(key)
            path = meter["groupBy"].get(key, "")
            columns.append(
                "subject" if key == "subject" else f"JSON_VALUE(data, {_text(path)}) AS {key}"
            )
        where = ["namespace = 'default'", f"type = {_text(meter['eventType'])}"]
        if query.subjects:
            where.append(f"subject IN ({', '.join(map(_text, query.subjects))})")
        if query.start is not None:
            where.append(f"time >= {query.start}")
        if query.end is not None:
            where.append(f"time < {query.end}")
        for key, condition in query.filters.items():
            where.append(_condition(f"JSON_VALUE(data, {_text(meter['groupBy'][key])})", condition))
        statement = (
            f"SELECT {', '.join(columns)} FROM openmeter.events WHERE {' AND '.join(where)}"
            + (f" GROUP BY {', '.join(groups)}" if groups else "")
            + (" ORDER BY windowstart" if query.window else "")
        )
        # What the Go client is given are moments; only their writing is ours.
        answer = self._session.query(
            f"SELECT * REPLACE (toUnixTimestamp(windowstart) AS windowstart, "
            f"toUnixTimestamp(windowend) AS windowend) FROM ({statement})",
            "JSONCompactEachRow",
        )
        rows = []
        for line in str(answer).splitlines():
            start, end, value, *texts = json.loads(line)
            if value is None:
                continue
            if not query.window:
                start = start if query.start is None else query.start
                end = end if query.end is None else query.end
            named = dict(zip(keys, texts, strict=True))
            rows.append(Row(start=int(start), end=int(end), value=float(value), groups=named))
        return rows


def _as_go_writes(value: Any) -> str:
    """JSON as OpenMeter stores it: Go has read all numbers as float64, and written them anew.

    Source: `openmeter/ingest/kafkaingest/serializer/serializer.go`, and `floatEncoder` of
    `encoding/json/encode.go` of Go 1.27.3.
    """
    if isinstance(value, dict):
        items = (f"{json.dumps(key)}:{_as_go_writes(each)}" for key, each in sorted(value.items()))
        return "{" + ",".join(items) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_as_go_writes, value)) + "]"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return json.dumps(value, ensure_ascii=False)
    number = float(value)
    if number == 0 or 1e-6 <= abs(number) < 1e21:
        return format(Decimal(repr(number)), "f").removesuffix(".0")
    return re.sub(r"e-0(\d)$", r"e-\1", repr(number))


def _window(query: Query) -> list[str]:
    zone = _text(query.zone)
    match query.window:
        case None:
            return [
                "tumbleStart(min(time), toIntervalMinute(1)) AS windowstart",
                "tumbleEnd(max(time), toIntervalMinute(1)) AS windowend",
            ]
        case "DAY":
            return [
                f"tumbleStart(time, toIntervalDay(1), {zone}) AS windowstart",
                "windowstart + toIntervalDay(1) AS windowend",
            ]
        case "MONTH":
            return [
                f"toDateTime(tumbleStart(time, toIntervalMonth(1), {zone}), {zone}) AS windowstart",
                f"toDateTime(tumbleEnd(time, toIntervalMonth(1), {zone}), {zone}) AS windowend",
            ]
    interval = "toIntervalMinute(1)" if query.window == "MINUTE" else "toIntervalHour(1)"
    return [
        f"tumbleStart(time, {interval}, {zone}) AS windowstart",
        f"tumbleEnd(time, {interval}, {zone}) AS windowend",
    ]


def _value(meter: Mapping[str, Any]) -> str:
    text = f"JSON_VALUE(data, {_text(meter.get('valueProperty', ''))})"
    number = f"ifNotFinite(toFloat64OrNull({text}), null)"
    return _VALUES[meter["aggregation"]].format(text=text, number=number) + " AS value"


def _condition(text: str, condition: Mapping[str, Any]) -> str:
    [(sign, operand)] = condition.items()
    if sign in ("$and", "$or"):
        parts = [_condition(text, each) for each in operand]
        return "(" + f" {sign[1:].upper()} ".join(parts) + ")"
    if sign in ("$in", "$nin"):
        listed = ", ".join(map(_text, operand))
        return f"{text} {'IN' if sign == '$in' else 'NOT IN'} ({listed})"
    return f"{text} {_SIGNS[sign]} {_text(operand)}"


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
