"""The fake server's lists of events: `GET` of `/api/v1/events`, `/api/v2/events` and v3's.

Source: https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c
(`openmeter/meterevent`, `openmeter/streaming/clickhouse/event_query*.go`, `pkg/filter/filter.go`,
`pkg/pagination/v2`, `api/v3/handlers/events`, `api/v3/response/cursorpagination.go`); for cursors
with an event's id, the same files before v1.0.0-beta.228. What a client may ask there and may not
here is answered with 501, so that nobody takes a filter for applied that was passed over.
"""

from __future__ import annotations

import base64
import binascii
import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final
from urllib.parse import parse_qsl

from .filters import Wanted, moment, wanted_v2, wanted_v3
from .ingest import API, Answer, problem_answer
from .items import Shown, rfc3339
from .rows import Column, Row, Rows
from .values import UnknownError

__all__ = ["LISTS", "list_events"]

MAX_LIMIT: Final = 100
MAX_AGE: Final = 32 * 24 * 3600
"""Seconds that the list of v1 reaches back."""

_V3_SIZE: Final = 20
_MOST_SORT_WORDS: Final = 2
_V3_COLUMNS: Final[Mapping[str, Column]] = {
    name: name for name in ("time", "ingested_at", "stored_at")
}


@dataclass(frozen=True, slots=True)
class _Page:
    column: Column = "time"
    ascending: bool = False
    cursor: tuple[int, str] | None = None
    limit: int = MAX_LIMIT


def list_events(path: str, query: str, rows: Rows, shown: Shown, *, now: float) -> Answer:
    """Answer a request for a list.

    Args:
        path: One of `LISTS`.
        query: What follows the question mark.
        rows: What is stored.
        shown: How a row is shown.
        now: Seconds since 1970.
    """
    api, answer = LISTS[path]
    try:
        document = answer(parse_qsl(query, keep_blank_values=True), rows, shown, now)
    except UnknownError as error:
        return problem_answer(api, 501, f"the fake server does not know {error}")
    except (ValueError, TypeError) as error:
        return problem_answer(api, 400, f"validation error: {error}")
    return Answer(200, {"Content-Type": "application/json"}, json.dumps(document).encode())


_Asked = list[tuple[str, str]]


def _list_v1(given: _Asked, rows: Rows, shown: Shown, now: float) -> list[dict[str, Any]]:
    asked = dict(given)
    limit = _limit(asked.pop("limit", str(MAX_LIMIT)))
    start = moment(asked.pop("from")) if "from" in asked else now - MAX_AGE
    part = asked.pop("id", "")
    subject = asked.pop("subject", None)
    asked.pop("clientId", None)
    wanted = Wanted()
    wanted.add_time("time", [("$gte", rfc3339(start))])
    if "to" in asked:
        wanted.add_time("time", [("$lt", asked.pop("to"))])
    for name, sign in (("ingestedAtFrom", "$gte"), ("ingestedAtTo", "$lt")):
        if name in asked:
            wanted.add_time("ingested_at", [(sign, asked.pop(name))])
    _refuse_rest(asked)
    if start < now - MAX_AGE:
        raise ValueError("from date is too old")
    wanted.tests.append(("id", lambda id: part in id))
    if subject is not None:
        wanted.tests.append(("subject", lambda each: each == subject))
    return [shown.v1(row) for row in _page(rows, wanted, _Page(limit=limit))]


def _list_v2(given: _Asked, rows: Rows, shown: Shown, _now: float) -> dict[str, Any]:
    asked = dict(given)
    limit = _limit(asked.pop("limit", str(MAX_LIMIT)))
    cursor = _decode_cursor(asked.pop("cursor")) if "cursor" in asked else None
    filters = json.loads(asked.pop("filter", "{}"))
    wanted = wanted_v2(filters)
    asked.pop("clientId", None)
    _refuse_rest(asked)
    column: Column = "time"
    if rows.cursors == "id" and filters.get("ingestedAt"):
        if filters.get("time"):
            raise ValueError("time and ingested_at cannot both be set")
        column = "ingested_at"
    found = _page(rows, wanted, _Page(column=column, cursor=cursor, limit=limit))
    document: dict[str, Any] = {"items": [shown.v1(row) for row in found]}
    # A full page may be the last one; OpenMeter gives it a cursor all the same. Before there were
    # cursors with a row's id, it gave one with each page that was not empty.
    if found and (len(found) == limit or rows.cursors == "id"):
        document["nextCursor"] = _encode_cursor(rows, "time", found[-1])
    return document


def _list_v3(given: _Asked, rows: Rows, shown: Shown, _now: float) -> dict[str, Any]:
    if rows.cursors == "id":
        raise UnknownError("this list in the time of cursors with an event's id: it came later")
    wanted = wanted_v3(each for each in given if each[0].startswith("filter["))
    asked = {name: value for name, value in given if not name.startswith("filter[")}
    if "page[before]" in asked:
        raise ValueError("page[before] is not supported")
    limit = _limit(asked.pop("page[size]", str(_V3_SIZE)))
    cursor = _decode_cursor(asked.pop("page[after]")) if "page[after]" in asked else None
    column, ascending = _v3_sort(asked.pop("sort", ""))
    _refuse_rest(asked)
    found = _page(rows, wanted, _Page(column, ascending, cursor, limit))
    page: dict[str, Any] = {"size": limit, "next": None, "previous": None}
    if found:
        page["first"] = _encode_cursor(rows, column, found[0])
        page["last"] = _encode_cursor(rows, column, found[-1])
        page["next"] = page["last"] if len(found) == limit else None
    return {"data": [shown.v3(row) for row in found], "meta": {"page": page}}


LISTS: Final[Mapping[str, tuple[API, Callable[[_Asked, Rows, Shown, float], Any]]]] = {
    "/api/v1/events": ("v1", _list_v1),
    "/api/v2/events": ("v1", _list_v2),
    "/api/v3/openmeter/events": ("v3", _list_v3),
}


def _page(rows: Rows, wanted: Wanted, page: _Page) -> list[Row]:
    if wanted.ids is None:
        candidates = _scan(rows, wanted, page)
    else:
        candidates = _chosen(rows, wanted.ids, page)
    spans = wanted.spans.items()
    found = (
        row
        for row in candidates
        if all(first <= getattr(row, column) <= last for column, (first, last) in spans)
        and wanted.fits(row)
    )
    return list(islice(found, page.limit))


def _scan(rows: Rows, wanted: Wanted, page: _Page) -> Iterable[Row]:
    """The rows from the cursor on, of those seconds alone that may fit."""
    ordered = rows.sorted_by(page.column)
    place = rows.place(page.column)
    first, last = wanted.spans.get(page.column, (0, 0))
    start, end = 0, len(ordered)
    if page.column in wanted.spans:
        start = bisect_left(ordered, first, key=lambda row: place(row)[0])
        end = bisect_right(ordered, last, key=lambda row: place(row)[0])
    if page.cursor is not None and page.ascending:
        start = max(start, bisect_right(ordered, page.cursor, key=place))
    elif page.cursor is not None:
        end = min(end, bisect_left(ordered, page.cursor, key=place))
    return _walk(ordered, start, end, ascending=page.ascending)


def _walk(rows: list[Row], start: int, end: int, *, ascending: bool) -> Iterator[Row]:
    for number in range(start, end) if ascending else range(end - 1, start - 1, -1):
        yield rows[number]


def _chosen(rows: Rows, ids: Iterable[str], page: _Page) -> Iterable[Row]:
    place = rows.place(page.column)
    found = sorted(rows.of_ids(ids), key=place, reverse=not page.ascending)
    cursor = page.cursor
    if cursor is None:
        return found
    if page.ascending:
        return (row for row in found if place(row) > cursor)
    return (row for row in found if place(row) < cursor)


def _limit(text: str) -> int:
    limit = int(text)
    if not 1 <= limit <= MAX_LIMIT:
        raise ValueError(f"limit must be from 1 to {MAX_LIMIT}")
    return limit


def _v3_sort(text: str) -> tuple[Column, bool]:
    words = text.split()
    if not text:
        return "time", False
    if not words or len(words) > _MOST_SORT_WORDS:
        raise ValueError("invalid sort by")
    if words[1:] not in ([], ["asc"], ["desc"]):
        raise ValueError("sort order must be either asc or desc")
    if words[0] not in _V3_COLUMNS:
        raise ValueError(f"unsupported sort field {words[0]}")
    return _V3_COLUMNS[words[0]], words[1:] == ["asc"]


def _refuse_rest(asked: Mapping[str, str]) -> None:
    if asked:
        raise UnknownError(f"the parameter {', '.join(asked)}")


def _encode_cursor(rows: Rows, column: Column, row: Row) -> str:
    seconds, name = rows.place(column)(row)
    return base64.b64encode(f"{rfc3339(seconds)},{name}".encode()).decode()


def _decode_cursor(text: str) -> tuple[int, str]:
    try:
        time, _, name = base64.b64decode(text, validate=True).decode().partition(",")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError(f"decode cursor: {error}") from None
    if not name:
        raise ValueError("cursor is invalid: no delimiter found")
    return int(moment(time)), name
