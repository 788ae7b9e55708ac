"""The fake server's lists of events: `GET` of `/api/v1/events`, `/api/v2/events` and v3's.

Source: https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c
(`openmeter/meterevent`, `openmeter/streaming/clickhouse/event_query*.go`, `pkg/filter/filter.go`,
`pkg/pagination/v2/cursor.go`). What a client may ask there and may not here is answered with 501,
so that nobody takes a filter for applied that was passed over.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl

from ._books import Row, time_of
from ._filters import UnknownError, moment, row_filter
from ._ingest import Answer, problem_answer

__all__ = ["LISTS", "list_events"]

MAX_LIMIT: Final = 100
MAX_AGE: Final = 32 * 24 * 3600
"""Seconds that the list of v1 reaches back."""


def list_events(path: str, query: str, rows: Sequence[Row], *, now: float) -> Answer:
    """Answer a request for a list.

    Args:
        path: One of `LISTS`.
        query: What follows the question mark.
        rows: What is stored.
        now: Seconds since 1970.
    """
    try:
        document = LISTS[path](dict(parse_qsl(query, keep_blank_values=True)), rows, now)
    except UnknownError as error:
        return problem_answer("v1", 501, f"the fake server does not know {error}")
    except (ValueError, TypeError) as error:
        return problem_answer("v1", 400, f"validation error: {error}")
    return Answer(200, {"Content-Type": "application/json"}, json.dumps(document).encode())


def _list_v1(asked: dict[str, str], rows: Sequence[Row], now: float) -> list[dict[str, Any]]:
    limit = _limit(asked)
    start = moment(asked.pop("from")) if "from" in asked else now - MAX_AGE
    end = moment(asked.pop("to")) if "to" in asked else None
    part = asked.pop("id", "")
    subject = asked.pop("subject", None)
    asked.pop("clientId", None)
    _refuse_rest(asked)
    if start < now - MAX_AGE:
        raise ValueError("from date is too old")
    found = [
        row
        for row in rows
        if part in row.event["id"]
        and subject in (None, row.event["subject"])
        and start <= time_of(row.event)
        and (end is None or time_of(row.event) < end)
    ]
    return [_item(row) for row in _newest_first(found)[:limit]]


def _list_v2(asked: dict[str, str], rows: Sequence[Row], _now: float) -> dict[str, Any]:
    limit = _limit(asked)
    cursor = _decode_cursor(asked.pop("cursor")) if "cursor" in asked else None
    fits = row_filter(json.loads(asked.pop("filter", "{}")))
    asked.pop("clientId", None)
    _refuse_rest(asked)
    found = [
        row
        for row in _newest_first(row for row in rows if fits(row))
        if cursor is None or _place(row) < cursor
    ][:limit]
    document: dict[str, Any] = {"items": [_item(row) for row in found]}
    # A full page may be the last one; OpenMeter gives it a cursor all the same.
    if len(found) == limit:
        document["nextCursor"] = _encode_cursor(found[-1])
    return document


def _list_v3(asked: dict[str, str], rows: Sequence[Row], _now: float) -> dict[str, Any]:
    limit = _limit({"limit": asked.pop("page[size]", str(MAX_LIMIT))})
    wanted = {
        name: asked.pop(f"filter[{name}][eq]")
        for name in ("id", "source", "subject", "type")
        if f"filter[{name}][eq]" in asked
    }
    _refuse_rest(asked)
    found = [row for row in rows if all(row.event[key] == value for key, value in wanted.items())]
    items = [
        {"event": item["event"], "ingested_at": item["ingestedAt"], "stored_at": item["storedAt"]}
        for item in map(_item, _newest_first(found)[:limit])
    ]
    if len(found) > limit:
        raise UnknownError("further pages of this list")
    return {"data": items, "meta": {"page": {"size": limit, "next": None, "previous": None}}}


LISTS: Final[Mapping[str, Callable[[dict[str, str], Sequence[Row], float], Any]]] = {
    "/api/v1/events": _list_v1,
    "/api/v2/events": _list_v2,
    "/api/v3/openmeter/events": _list_v3,
}


def _limit(asked: dict[str, str]) -> int:
    limit = int(asked.pop("limit", str(MAX_LIMIT)))
    if not 1 <= limit <= MAX_LIMIT:
        raise ValueError(f"limit must be from 1 to {MAX_LIMIT}")
    return limit


def _refuse_rest(asked: Mapping[str, str]) -> None:
    if asked:
        raise UnknownError(f"the parameter {', '.join(asked)}")


def _item(row: Row) -> dict[str, Any]:
    event = {
        "specversion": "1.0",
        "id": row.event["id"],
        "source": row.event["source"],
        "type": row.event["type"],
        "subject": row.event["subject"],
        "time": _rfc3339(time_of(row.event)),
    }
    if row.event.get("data") is not None:
        event |= {"datacontenttype": "application/json", "data": row.event["data"]}
    at = _rfc3339(row.ingested_at)
    return {"event": event, "ingestedAt": at, "storedAt": at}


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _place(row: Row) -> tuple[int, str]:
    return time_of(row.event), f"{row.number:020}"


def _newest_first(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=_place, reverse=True)


def _encode_cursor(row: Row) -> str:
    seconds, name = _place(row)
    return base64.b64encode(f"{_rfc3339(seconds)},{name}".encode()).decode()


def _decode_cursor(text: str) -> tuple[int, str]:
    try:
        time, _, name = base64.b64decode(text, validate=True).decode().partition(",")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError(f"decode cursor: {error}") from None
    if not name:
        raise ValueError("cursor is invalid: no delimiter found")
    return int(moment(time)), name
