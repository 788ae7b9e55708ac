"""Whether an OpenMeter server counts an event once that comes twice: sent, and looked for.

There is no setting to ask for, and an answer to a POST says nothing of it, since events are
deduplicated behind it (`openmeter/sink`, `openmeter/dedupe`,
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c; off by
default). The sink worker of a server writes every two seconds at most (`maxCommitWait`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from ..events import format_time, new_event_id
from ..sinks.asking import UnreachableError, ask
from ..sinks.openmeter import CONTENT_TYPE, OpenMeterSink
from .finding import Finding, failure, ok, unreachable, warning

__all__ = ["EVENT_TYPE", "SUBJECT", "check_deduplication"]

EVENT_TYPE: Final = "llm_metering.doctor"
SUBJECT: Final = "llm-metering-doctor"

_SETTLE: Final = 5.0
"""Seconds that a second one may come behind the first."""
_LOOK_EVERY: Final = 0.5
_PATHS: Final = {"v1": "/api/v1/events", "v3": "/api/v3/openmeter/events"}
_ON: Final = "switch deduplication on (sink.dedupe in the server's configuration)"
_CHECK: Final = "sink.deduplication"


def check_deduplication(
    sink: OpenMeterSink, *, source: str, wait: float, limit: float
) -> Iterator[Finding]:
    """Send one event twice, in two requests, and see how often the server lists it.

    The event is of a type and a subject of its own, which no meter looks at.

    Args:
        sink: Where to.
        source: The application's, as its real events have it.
        wait: Seconds to wait for it to be listed.
        limit: Seconds for each request.
    """
    event_id = f"doctor-{new_event_id()}"
    event = {
        "specversion": "1.0",
        "id": event_id,
        "source": source,
        "type": EVENT_TYPE,
        "subject": SUBJECT,
        "time": format_time(datetime.now(UTC)),
        "data": {"check": "deduplication"},
    }
    url, body = sink.base + _PATHS[sink.api], json.dumps([event]).encode()
    try:
        for _ in range(2):
            reply = ask(
                "POST", url, limit=limit, token=sink.token, body=body, content_type=CONTENT_TYPE
            )
            if not 200 <= reply.status < 300:
                yield _refused(sink, reply.status)
                return
        yield ok("sink.takes_events", "it took an event of the doctor's twice", sink=sink.name)
        seen = _watch(sink, event_id, wait=wait, limit=limit)
    except UnreachableError as error:
        yield unreachable(error, sink.name)
        return
    yield _judge(sink, seen, wait)


def _refused(sink: OpenMeterSink, status: int) -> Finding:
    return failure(
        "sink.takes_events",
        f"the server does not take an event ({status})",
        means="nothing is delivered; events wait on disk",
        advice="look at the address, at the key's rights and at the server's log",
        sink=sink.name,
    )


def _judge(sink: OpenMeterSink, seen: int | None, wait: float) -> Finding:
    if seen == 1:
        return ok(_CHECK, "an event that was sent twice is listed once", sink=sink.name)
    if seen is not None and seen > 1:
        return failure(
            _CHECK,
            f"an event that was sent twice is listed {seen} times",
            means="an event whose answer is lost is sent again, and counts twice on a bill",
            advice=_ON,
            sink=sink.name,
        )
    found = (
        "the server does not list events, so nobody can tell whether it deduplicates"
        if seen is None
        else f"the event that was sent is not listed after {wait:g} s"
    )
    return warning(
        _CHECK,
        found,
        means="an event whose answer is lost is sent again, and may count twice",
        advice=f"{_ON}; where the server is slow, --wait longer",
        sink=sink.name,
    )


def _watch(sink: OpenMeterSink, event_id: str, *, wait: float, limit: float) -> int | None:
    """How often the event is listed in the end; `None` if the server has no such list."""
    deadline = time.monotonic() + wait
    settled: float | None = None
    while True:
        count = _count(sink, event_id, limit)
        if count is None or count > 1:
            return count
        now = time.monotonic()
        if count == 1 and settled is None:
            # The other one may be on its way yet.
            settled = now + min(_SETTLE, wait)
        if now >= (deadline if settled is None else settled):
            return count
        time.sleep(min(_LOOK_EVERY, wait / 4))


def _count(sink: OpenMeterSink, event_id: str, limit: float) -> int | None:
    parameters = {"id": event_id} if sink.api == "v1" else {"filter[id][eq]": event_id}
    reply = ask(
        "GET", sink.base + _PATHS[sink.api], limit=limit, token=sink.token, parameters=parameters
    )
    document = reply.document
    listed = document.get("data") if isinstance(document, dict) else document
    if reply.status != 200 or not isinstance(listed, list):
        return None
    # The list of v1 takes a part of an id for an id.
    return sum(_is_it(item, event_id) for item in listed)


def _is_it(item: Any, event_id: str) -> bool:
    # The source is not compared: the server writes the scheme of a URL in small letters.
    event = item.get("event") if isinstance(item, dict) else None
    return isinstance(event, dict) and event.get("id") == event_id
