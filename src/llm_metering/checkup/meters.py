"""Whether a server's meters count what we send it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Final

from ..events import DATA_KEYS, MEASURES
from ..sinks.openmeter import OpenMeterSink
from ..sinks.server_meters import ServerMeter
from ..sinks.shapes import SHAPES, event_type_of
from ..token_usage import TokenUsage
from .finding import Finding, ok, warning

__all__ = ["judge_meters"]

_TOKENS: Final[Mapping[str, frozenset[str]]] = {
    "call": frozenset(
        [
            "total_tokens",
            "prompt_tokens",
            "completion_tokens",
            *(f.name for f in fields(TokenUsage)),
        ]
    ),
    "kind": frozenset(["tokens"]),
    "openai": frozenset(["total_tokens", "prompt_tokens", "completion_tokens", "tokens"]),
    "litellm": frozenset(["total_tokens", "prompt_tokens", "completion_tokens"]),
}
"""The properties that hold numbers of tokens, by shape."""

_OTHERS: Final[Mapping[str, frozenset[str]]] = {
    "call": DATA_KEYS - {"tokens", "type", "reservation_id"},
    "kind": MEASURES | {"calls", "quantity"},
    "openai": frozenset(),
    "litellm": frozenset(["cost"]),
}
"""Whatever else is sent and can be aggregated."""


def judge_meters(
    meters: Sequence[ServerMeter], sink: OpenMeterSink, *, now: datetime | None = None
) -> Iterator[Finding]:
    """Say which meters count what the sink sends, and which never will.

    Args:
        meters: The server's.
        sink: The sink.
        now: The time; now, if left out.
    """
    check = "sink.meters"
    ours = [meter for meter in meters if meter.event_type == sink.event_type]
    counting = [meter for meter in ours if meter.sums(_TOKENS[sink.shape])]
    wanted = f"a meter with event type {sink.event_type}, SUM, $.{_most_wanted(sink.shape)}"
    if counting:
        yield ok(check, f"tokens are counted by {', '.join(map(str, counting))}", sink=sink.name)
    elif ours:
        yield warning(
            check,
            f"no meter for events of type {sink.event_type} sums tokens: there are "
            f"{', '.join(map(str, ours))}",
            means="the server keeps the events, and no bill has their tokens",
            advice=f"make {wanted}; it counts what came before as well",
            sink=sink.name,
        )
    else:
        yield warning(
            check,
            f"no meter looks at events of type {sink.event_type}{_near(meters, sink)}",
            means="the server keeps the events, and no bill has their tokens",
            advice=f"make {wanted}, which counts what came before as well; or send what your "
            "meters look for, with ?shape= or ?event_type=",
            sink=sink.name,
        )
    sent = _TOKENS[sink.shape] | _OTHERS[sink.shape]
    idle = [
        meter
        for meter in ours
        if meter.aggregation != "COUNT" and meter.value_property.removeprefix("$.") not in sent
    ]
    if idle:
        yield warning(
            "sink.meter_properties",
            f"these meters look for what shape {sink.shape} does not send: "
            f"{', '.join(map(str, idle))}",
            means="they stay at 0, unless it is a dimension of yours",
            advice="choose the shape that your meters were made for, or another property",
            sink=sink.name,
        )
    waiting = [meter for meter in counting if _begins_later(meter, now or datetime.now(UTC))]
    if waiting:
        listed = ", ".join(f"{meter.slug} from {meter.since}" for meter in waiting)
        yield warning(
            "sink.meter_begins",
            f"these meters count later events only: {listed}",
            means="what is used until then is on no bill of theirs",
            advice="make a meter that begins earlier, if that is not meant",
            sink=sink.name,
        )


def _most_wanted(shape: str) -> str:
    return "tokens" if shape == "kind" else "total_tokens"


def _near(meters: Sequence[ServerMeter], sink: OpenMeterSink) -> str:
    types = sorted({meter.event_type for meter in meters})
    for event_type in types:
        if event_type.strip().casefold() == sink.event_type.casefold():
            return f", but one looks at {event_type!r}, which is not the same"
    for shape in SHAPES:
        if shape != sink.shape and event_type_of(shape) in types:
            return f", but one looks at {event_type_of(shape)!r}, as ?shape={shape} sends it"
    return f"; the server has {len(meters)} other meters" if meters else ""


def _begins_later(meter: ServerMeter, now: datetime) -> bool:
    try:
        return bool(meter.since) and datetime.fromisoformat(meter.since) > now
    except (ValueError, TypeError):
        return False
