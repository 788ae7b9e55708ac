"""Answers as OpenMeter's v1 and v3 write them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from .engine import Query, Row

__all__ = ["document_v1", "document_v3", "meter_v1", "meter_v3"]

_CREATED = "2026-01-01T00:00:00Z"


def meter_v1(number: int, meter: Mapping[str, Any]) -> dict[str, Any]:
    """A meter as v1 lists it; its id is a ULID."""
    # Crockford's letters leave out I, L, O and U.
    return {**meter, "id": f"01K{number:023d}", "createdAt": _CREATED, "updatedAt": _CREATED}


def meter_v3(number: int, meter: Mapping[str, Any]) -> dict[str, Any]:
    """A meter as v3 lists it."""
    listed = {
        "id": meter_v1(number, meter)["id"],
        "key": meter["slug"],
        "name": meter["slug"],
        "aggregation": meter["aggregation"].lower(),
        "event_type": meter["eventType"],
        "created_at": _CREATED,
        "updated_at": _CREATED,
    }
    if "valueProperty" in meter:
        listed["value_property"] = meter["valueProperty"]
    if meter.get("groupBy"):
        listed["dimensions"] = meter["groupBy"]
    if "eventFrom" in meter:
        listed["events_from"] = meter["eventFrom"]
    return listed


def document_v1(asked: Mapping[str, Any], query: Query, rows: Iterable[Row]) -> dict[str, Any]:
    """The answer to a question of v1."""
    head = {key: asked[key] for key in ("from", "to", "windowSize") if key in asked}
    return {**head, "data": [_row_v1(row, query) for row in _by_window(rows)]}


def document_v3(asked: Mapping[str, Any], query: Query, rows: Iterable[Row]) -> dict[str, Any]:
    """The answer to a question of v3."""
    head = {key: asked[key] for key in ("from", "to") if key in asked}
    return {**head, "data": [_row_v3(row, query) for row in _by_window(rows)]}


def _by_window(rows: Iterable[Row]) -> list[Row]:
    """By window alone, and within one in an order that nobody can rely on."""
    return sorted(rows, key=lambda row: (row.start, hash(row.groups.get("subject"))))


def _row_v1(row: Row, query: Query) -> dict[str, Any]:
    groups = dict(row.groups)
    whole = row.value.is_integer() and abs(row.value) < 1e21
    return {
        "value": int(row.value) if whole else row.value,
        "windowStart": _moment(row.start, query),
        "windowEnd": _moment(row.end, query),
        "subject": groups.pop("subject", None),
        "groupBy": groups,
    }


def _row_v3(row: Row, query: Query) -> dict[str, Any]:
    return {
        "value": format(Decimal(repr(row.value)), "f").removesuffix(".0"),
        "from": _moment(row.start, query),
        "to": _moment(row.end, query),
        "dimensions": row.groups,
    }


def _moment(seconds: int, query: Query) -> str:
    # ClickHouse gives windows in their zone, and all else in UTC.
    zone = ZoneInfo(query.zone) if query.window else UTC
    return datetime.fromtimestamp(seconds, zone).isoformat().replace("+00:00", "Z")
