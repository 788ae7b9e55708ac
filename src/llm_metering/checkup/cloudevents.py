"""Whether a receiver of CloudEvents is there and, if that may be tried, takes what we sign.

The batch that is tried holds no event, which CloudEvents allows in a request (JSON format 1.0.2, 4.2:
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md): nothing of it can
be on a bill.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from ..events import new_event_id
from ..sinks.cloudevents import CONTENT_TYPE, CloudEventsSink, signed_headers
from .asking import NETWORK_LIMIT, UnreachableError, ask
from .finding import Finding, failure, ok, warning

__all__ = ["check_cloudevents"]

_NOTHING = b"[]"
_REFUSED_CONTENT = (400, 422)
_PASSING = (408, 425, 429)
_NOT_IMPLEMENTED = 501


def check_cloudevents(
    sink: CloudEventsSink, *, send: bool, limit: float = NETWORK_LIMIT
) -> Iterator[Finding]:
    """Ask a receiver, as the sink would.

    Args:
        sink: The sink.
        send: Whether a batch without events may be posted.
        limit: Seconds for each request.
    """
    try:
        status = ask("OPTIONS", sink.endpoint, limit=limit, token=sink.token).status
        yield _judge_presence(sink, status)
        if send:
            headers = signed_headers(
                f"msg_doctor{new_event_id()}", _NOTHING, keys=sink.keys, now=time.time()
            )
            reply = ask(
                "POST",
                sink.endpoint,
                limit=limit,
                token=sink.token,
                body=_NOTHING,
                content_type=CONTENT_TYPE,
                signed=headers,
            )
            yield _judge_post(sink, reply.status)
    except UnreachableError as error:
        yield error.as_finding(sink.name)
        return
    yield ok(
        "sink.deduplication",
        "nobody can ask it whether it counts a repeated event once; it must, by source and id",
        sink=sink.name,
    )


def _judge_presence(sink: CloudEventsSink, status: int) -> Finding:
    check = "sink.reachable"
    if 300 <= status < 400:
        return _elsewhere(check, sink, status)
    if status in (404, 410):
        return warning(
            check,
            f"{sink.endpoint} is not there for an OPTIONS request ({status})",
            means="the address may be wrong, and no event would arrive",
            advice="mind the path of the URL; `llm-metering doctor --send` posts a batch without "
            "events",
            sink=sink.name,
        )
    if status >= 500 and status != _NOT_IMPLEMENTED:
        return warning(
            check,
            f"the server answers {status}",
            means="it is not well; events wait on disk and are offered again",
            advice="look at the server's log",
            sink=sink.name,
        )
    # Many take a POST alone, and a signature in it: 401, 405 and the like say that they are there.
    return ok(check, f"{sink.endpoint} answers ({status})", sink=sink.name)


def _judge_post(sink: CloudEventsSink, status: int) -> Finding:
    check = "sink.takes_events"
    way = "with our signature" if sink.keys else "without a signature"
    if 200 <= status < 300:
        return ok(check, f"it took a batch without events, {way}", sink=sink.name)
    if 300 <= status < 400:
        return _elsewhere(check, sink, status)
    if status in (401, 403):
        return failure(
            check,
            f"the server refuses us {way} ({status})",
            means="the sink pauses; events wait on disk",
            advice="compare LLM_METERING_WEBHOOK_SECRET and LLM_METERING_WEBHOOK_TOKEN with what "
            "the receiver has, and the clocks of both machines",
            sink=sink.name,
        )
    if status in _REFUSED_CONTENT:
        return warning(
            check,
            f"the server refuses a batch without events ({status})",
            means="whether it takes events is not known",
            advice="record one, and look at `llm-metering status`",
            sink=sink.name,
        )
    if status in _PASSING or status >= 500:
        return warning(
            check,
            f"the server answers {status}",
            means="it is not well; events wait on disk and are offered again",
            advice="look at the server's log",
            sink=sink.name,
        )
    return failure(
        check,
        f"the server does not take a batch ({status})",
        means="the sink pauses; events wait on disk",
        advice="mind the path of the URL, and look at the server's log",
        sink=sink.name,
    )


def _elsewhere(check: str, sink: CloudEventsSink, status: int) -> Finding:
    return failure(
        check,
        f"the server sends us elsewhere ({status})",
        means="the sink pauses, since a redirected POST would arrive as a GET",
        advice="write the address that it redirects to into LLM_METERING_SINKS",
        sink=sink.name,
    )
