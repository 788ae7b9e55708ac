"""Whether an OpenMeter server is there, takes our key, and has a meter for what we send.

Source: `listMeters` of `api/openapi.yaml` (v1) and `list-meters` of `api/v3/openapi.yaml`,
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from ..meters import MeterDefinition
from ..sinks.asking import NETWORK_LIMIT, Reply, UnreachableError, ask
from ..sinks.openmeter import OpenMeterSink
from ..sinks.server_meters import METER_LISTS, read_meters
from .deduplication import check_deduplication
from .finding import Finding, failure, ok, unreachable, warning
from .meters import judge_meters
from .own_meters import judge_own_meters

__all__ = ["check_openmeter"]

_KEY: Final = "put its key into OPENMETER_API_KEY; `llm-metering config` shows whether one is set"


def check_openmeter(
    sink: OpenMeterSink,
    *,
    source: str,
    meters: Iterable[MeterDefinition] = (),
    send: bool,
    wait: float,
    limit: float = NETWORK_LIMIT,
) -> Iterator[Finding]:
    """Ask a server, as the sink would.

    Args:
        sink: The sink.
        source: The application's, for what is sent.
        meters: The user's own.
        send: Whether two events may be sent, which stay there.
        wait: Seconds to wait for them to be listed.
        limit: Seconds for each request.
    """
    path, parameters = METER_LISTS[sink.api]
    try:
        reply = ask("GET", sink.base + path, limit=limit, token=sink.token, parameters=parameters)
    except UnreachableError as error:
        yield unreachable(error, sink.name)
        return
    found = _judge_reply(sink, reply)
    yield found
    if found.level == "failure":
        return
    listed = read_meters(reply.document)
    if reply.status == 200 and listed is not None:
        yield from judge_meters(listed, sink)
        yield from judge_own_meters(meters, listed, sink)
    if send:
        yield from check_deduplication(sink, source=source, wait=wait, limit=limit)
    else:
        yield warning(
            "sink.deduplication",
            "whether the server counts a repeated event once is not known",
            means="OpenMeter's API does not say, and in a server of your own it is off unless "
            "somebody switched it on; then an event whose answer was lost counts twice",
            advice="`llm-metering doctor --send` sends one event twice and looks",
            sink=sink.name,
        )


def _judge_reply(sink: OpenMeterSink, reply: Reply) -> Finding:
    check, status = "sink.reachable", reply.status
    name = sink.name
    key = "with the key" if sink.token else "without a key"
    if 200 <= status < 300:
        if read_meters(reply.document) is not None:
            return ok(check, f"{sink.base} answers {key}", sink=name)
        return failure(
            check,
            f"{sink.base} answers, but not as OpenMeter does",
            means="whatever stands there may take events and throw them away",
            advice="mind the address: it is that of the API, not of a web page in front of it",
            sink=name,
        )
    if status == 401:
        return failure(
            check,
            f"the server refuses us {key} (401)",
            means="the sink pauses; events wait on disk",
            advice=_KEY,
            sink=name,
        )
    if 300 <= status < 400:
        return failure(
            check,
            f"the server sends us elsewhere ({status})",
            means="the sink pauses, since a redirected POST would arrive as a GET",
            advice="write the address that it redirects to into LLM_METERING_SINKS",
            sink=name,
        )
    if status == 403:
        return warning(
            check,
            f"the server answers, but {key} we may not list its meters (403)",
            means="whether it takes events, and has a meter for them, is not known",
            advice="give the key the right to read meters for this check, or use --send",
            sink=name,
        )
    if status in (404, 405):
        return warning(
            check,
            f"{sink.base} has no list of meters ({status})",
            means="the address is wrong and no event will arrive, or it is a collector that only "
            "takes events",
            advice="mind the base of the URL and its parameter api; --send tells them apart",
            sink=name,
        )
    return warning(
        check,
        f"the server answers {status}",
        means="it is not well; events wait on disk and are offered again",
        advice="look at the server's log",
        sink=name,
    )
