"""A page of a server's list of events: how it is asked for, and what is on it.

Source: `listEventsV2` and `IngestedEvent` of `api/openapi.yaml`, `list-metering-events` of
`api/v3/openapi.yaml`, `openmeter/meterevent/service.go`, `api/v3/filters/parse.go` of
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c:

- a page has 100 events at most, in both;
- v2 takes a filter in JSON, one operator each, `$and` one level deep;
- v3 takes 50 values behind commas, and 1,024 bytes of them; a value is trimmed, so that one with a
  comma or a space at its end can only be asked for alone.

Events are asked for by their ids within the time and the types that they were sent with, since the
table is ordered by type and time: by ids alone, each request would read all of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import msgspec

from .expected import WireEvent

__all__ = [
    "PAGE",
    "PATHS",
    "Listed",
    "chunks",
    "frontier_query",
    "page_query",
    "read_page",
    "rfc3339",
    "span_query",
]

PAGE: Final = 100
"""Events of a page at most. One that is full may not be all there is."""
PATHS: Final = {"v1": "/api/v2/events", "v3": "/api/v3/openmeter/events"}
"""By the API that a sink is configured with: the list that can be asked for many ids at once."""

_IDS: Final = {"v1": 96, "v3": 50}
"""Asked for at once: fewer than a page has, so that some may be there twice."""
_BYTES: Final = {"v1": 6000, "v3": 1024}
"""Of the ids of a request. Proxies take 8 KiB of a URL, and v3 takes so many of a filter."""


class Listed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event as a server lists it.

    Attributes:
        id: Its id.
        source: Its source, as the server writes it.
        type: Its type.
        subject: Who pays.
        time: Whole seconds since 1970.
        data: Its data.
        problems: What the server finds wrong with it.
        ingested_at: When the server took it, by the server's clock, in seconds since 1970.
    """

    id: str
    source: str
    type: str
    subject: str
    time: int
    data: Any
    problems: tuple[str, ...] = ()
    ingested_at: float = 0.0


class _Event(msgspec.Struct):
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    data: Any = None


class _ItemV2(msgspec.Struct, rename="camel"):
    event: _Event
    ingested_at: datetime
    validation_error: str | None = None


class _PageV2(msgspec.Struct):
    items: list[_ItemV2]


class _Problem(msgspec.Struct):
    message: str = ""


class _ItemV3(msgspec.Struct):
    event: _Event
    ingested_at: datetime
    validation_errors: list[_Problem] | None = None


class _PageV3(msgspec.Struct):
    data: list[_ItemV3]


_page_v2: Final = msgspec.json.Decoder(_PageV2)
_page_v3: Final = msgspec.json.Decoder(_PageV3)


def read_page(api: str, content: bytes) -> list[Listed]:
    """The events of a page.

    Args:
        api: `v1` or `v3`, as the sink has it.
        content: What the server sent.

    Raises:
        ValueError: If it is no such page; the message holds nothing of it.
    """
    try:
        if api == "v1":
            return [
                _listed(each.event, each.ingested_at, (each.validation_error or "").split("\n"))
                for each in _page_v2.decode(content).items
            ]
        return [
            _listed(
                each.event,
                each.ingested_at,
                [problem.message for problem in each.validation_errors or ()],
            )
            for each in _page_v3.decode(content).data
        ]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"no list of events ({type(error).__name__})") from None


def _listed(event: _Event, ingested_at: datetime, problems: Sequence[str]) -> Listed:
    return Listed(
        id=event.id,
        source=event.source,
        type=event.type,
        subject=event.subject,
        time=int(event.time.timestamp() // 1),
        data=event.data,
        problems=tuple(filter(None, problems)),
        ingested_at=ingested_at.timestamp(),
    )


def chunks(
    api: str, events: Sequence[WireEvent], *, most_bytes: int | None = None
) -> Iterator[list[WireEvent]]:
    """Events in the portions in which they can be asked for.

    Args:
        api: `v1` or `v3`.
        events: The events.
        most_bytes: Of the ids of a request, where a proxy was found to take less.
    """
    limit = min(_BYTES[api], most_bytes or _BYTES[api])
    portion: list[WireEvent] = []
    size = 0
    for event in events:
        if api == "v3" and not _may_be_listed(event.id):
            yield [event]
            continue
        added = len(_quoted(event.id)) if api == "v1" else len(event.id.encode()) + 1
        if portion and (len(portion) >= _IDS[api] or size + added > limit):
            yield portion
            portion, size = [], 0
        portion.append(event)
        size += added
    if portion:
        yield portion


def page_query(api: str, events: Sequence[WireEvent], *, broad: bool) -> str:
    """The query that asks for events.

    Args:
        api: `v1` or `v3`.
        events: One portion of `chunks`.
        broad: By their ids alone, whatever time and type they may have there.
    """
    ids = list(dict.fromkeys(event.id for event in events))
    start = rfc3339(min(event.time for event in events))
    end = rfc3339(max(event.time for event in events))
    types = sorted({event.type for event in events})
    if api == "v1":
        wanted: dict[str, Any] = {"id": {"$in": ids}}
        if not broad:
            wanted["type"] = {"$in": types}
            wanted["time"] = {"$and": [{"$gte": start}, {"$lte": end}]}
        text = json.dumps(wanted, separators=(",", ":"), ensure_ascii=False)
        return f"limit={PAGE}&filter={quote(text, safe='$,:')}"
    alone = len(ids) == 1
    parts = [("id", "eq" if alone else "oeq", ids[0] if alone else ",".join(ids))]
    if not broad:
        if len(types) == 1:
            parts.append(("type", "eq", types[0]))
        parts += [("time", "gte", start), ("time", "lte", end)]
    return _query_v3(parts)


def frontier_query(api: str, moment: float) -> str:
    """The query that asks whether there is anything that the server took in after a moment."""
    # Whole seconds: what came in before the moment must not pass for something newer.
    text = rfc3339(math.ceil(moment))
    if api == "v1":
        wanted = json.dumps({"ingestedAt": {"$gt": text}}, separators=(",", ":"))
        return f"limit=1&filter={quote(wanted, safe='$,:')}"
    return _query_v3([("ingested_at", "gt", text)], size=1)


def span_query(api: str, event_type: str, subject: str, start: int, end: int) -> str:
    """The query that asks for all events of a type and a subject, from one second up to another."""
    first, last = rfc3339(start), rfc3339(end)
    if api == "v1":
        wanted = {
            "type": {"$eq": event_type},
            "subject": {"$eq": subject},
            "time": {"$and": [{"$gte": first}, {"$lt": last}]},
        }
        text = json.dumps(wanted, separators=(",", ":"), ensure_ascii=False)
        return f"limit={PAGE}&filter={quote(text, safe='$,:')}"
    return _query_v3(
        [
            ("type", "eq", event_type),
            ("subject", "eq", subject),
            ("time", "gte", first),
            ("time", "lt", last),
        ]
    )


def _query_v3(parts: Sequence[tuple[str, str, str]], *, size: int = PAGE) -> str:
    filters = "".join(
        f"&filter%5B{field}%5D%5B{name}%5D={quote(value, safe=',:')}"
        for field, name, value in parts
    )
    return f"page%5Bsize%5D={size}{filters}"


def _quoted(event_id: str) -> str:
    return quote(json.dumps(event_id, ensure_ascii=False) + ",", safe="$,:")


def _may_be_listed(event_id: str) -> bool:
    return "," not in event_id and event_id == event_id.strip()


def rfc3339(seconds: int) -> str:
    """A moment as these servers take it."""
    # Not `strftime`, which writes the year 1 as `1`.
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
