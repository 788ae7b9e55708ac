"""Whether a server has the user's own meters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..errors import MeterError
from ..meters import MeterDefinition, PropertyPath, parse_path
from ..sinks.openmeter import OpenMeterSink
from ..sinks.server_meters import ServerMeter
from ..sinks.shaped_meters import meter_in_shape
from ..sinks.shapes import event_type_of
from .finding import Finding, ok, warning

__all__ = ["judge_own_meters"]


def judge_own_meters(
    own: Iterable[MeterDefinition], listed: Sequence[ServerMeter], sink: OpenMeterSink
) -> Iterator[Finding]:
    """Say which of the user's meters the server could answer for.

    Args:
        own: The user's.
        listed: The server's.
        sink: The sink, whose shape says what a meter must look at.
    """
    check = "sink.own_meters"
    # Another type than the shape's own was asked for, and is that of everything.
    event_type = None if sink.event_type == event_type_of(sink.shape) else sink.event_type
    there: list[str] = []
    missing: list[str] = []
    for meter in own:
        wanted = meter_in_shape(meter, sink.shape, event_type=event_type)
        if wanted is None:
            missing.append(f"{meter.slug} (shape {sink.shape} does not send what it needs)")
        elif any(_is_same(wanted, each) for each in listed):
            there.append(meter.slug)
        else:
            of = f" {wanted.value_property}" if wanted.value_property else ""
            missing.append(f"{meter.slug} ({wanted.aggregation}{of} of {wanted.event_type})")
    if missing:
        yield warning(
            check,
            f"the server has no such meter: {', '.join(missing)}",
            means="it keeps the events, and says nothing of them; the ledger does",
            advice="`llm-metering meters --format json` writes what its API takes; such a meter "
            "counts what came before as well",
            sink=sink.name,
        )
    elif there:
        yield ok(check, f"your own meters are there: {', '.join(there)}", sink=sink.name)


def _is_same(wanted: MeterDefinition, listed: ServerMeter) -> bool:
    # By any slug: what it counts is what matters.
    return (
        listed.event_type == wanted.event_type
        and listed.aggregation == wanted.aggregation
        and _path(listed.value_property) == _path(wanted.value_property or "")
    )


def _path(text: str) -> PropertyPath | str:
    try:
        return parse_path(text)
    except MeterError:
        return text
