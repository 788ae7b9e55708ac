"""Whether a meter of a server counts what one of ours does, in the shape that its sink sends.

A shape (`sinks/shapes.py`) tells where a number of ours stands in what a server has of a call: in
`kind`, the tokens of a call are several events, whose sum alone is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..errors import MeterError, QueryError, RemoteUsageError
from ..events import DATA_KEYS, EVENT_TYPE, MEASURES
from ..meters import MeterDefinition, UsageQuery, parse_path, read_moment, rfc3339
from ..sinks.openmeter import OpenMeterSink
from ..sinks.server_meters import ServerMeter

__all__ = ["check_keys", "check_meter", "check_period", "key_of_provenance"]

_NAMES: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "kind": {
        "$.total_tokens": ("$.tokens",),
        **{path: (path,) for path in ("$.calls", *(f"$.{each}" for each in sorted(MEASURES)))},
    },
    "openai": {
        "$.total_tokens": ("$.total_tokens", "$.tokens"),
        "$.input_tokens": ("$.prompt_tokens",),
        "$.output_tokens": ("$.completion_tokens",),
    },
    "litellm": {
        "$.total_tokens": ("$.total_tokens",),
        "$.input_tokens": ("$.prompt_tokens",),
        "$.output_tokens": ("$.completion_tokens",),
        "$.reported_cost": ("$.cost",),
    },
}
"""By shape: where the value of a meter of ours stands in what is sent."""

_KINDS: Final = frozenset(
    ["model", "request_model", "provider", "operation", "framework", "provenance", "status"]
)
_PROVENANCE: Final = "$.provenance"
_UNKNOWN_TO_US: Final = "what OpenMeter calls customer_id is a customer of its own"


def check_meter(listed: ServerMeter, meter: MeterDefinition, sink: OpenMeterSink) -> None:
    """Look whether a meter of the server counts what ours does.

    Raises:
        RemoteUsageError: If it counts something else.
    """
    wanted = _wanted(meter, sink)
    aggregation = listed.aggregation
    given = None if aggregation == "COUNT" else _same(listed.value_property)
    if (aggregation, listed.event_type, given) in wanted:
        return
    ours = _words(meter.aggregation, meter.event_type, meter.value_property)
    theirs = _words(aggregation, listed.event_type, listed.value_property)
    ways = sorted(_words(*way) for way in _wanted(meter, sink, as_written=True))
    advice = (
        f"there it would have to be {' or '.join(ways)}"
        if ways
        else f"what shape {sink.shape} sends has nothing that says the same"
    )
    raise RemoteUsageError(
        f"meter {meter.slug} of the OpenMeter server of sink {sink.name} is {theirs}, and here "
        f"{ours}, sent in shape {sink.shape}: its answer would be another one; {advice}"
    )


def check_keys(listed: ServerMeter, query: UsageQuery, sink: OpenMeterSink) -> None:
    """Look whether the server's meter knows the keys that a question groups and filters by.

    Raises:
        QueryError: If it lacks one, or finds it elsewhere in the events.
    """
    known = ", ".join(["subject", *sorted(listed.group_by)])
    for key in (*query.keys, *(key for key, _ in query.filters)):
        if key == "customer_id":
            raise QueryError(f"customer_id: {_UNKNOWN_TO_US}; ask the ledger")
        path = query.path_of(key)
        if key not in listed.group_by:
            raise QueryError(
                f"meter {listed.slug} of the OpenMeter server of sink {sink.name} has no key {key!r} "
                f"({path}); it has {known}"
            )
        if _same(listed.group_by[key]) != _same(path):
            raise QueryError(
                f"meter {listed.slug} of the OpenMeter server of sink {sink.name} takes {key} from "
                f"{listed.group_by[key]}, and here it is {path}; it has {known}"
            )
        if not _is_sent(path, sink):
            raise QueryError(f"shape {sink.shape} of sink {sink.name} does not send {path}")


def key_of_provenance(listed: ServerMeter, sink: OpenMeterSink) -> str:
    """The key by which a server's meter tells estimates.

    Raises:
        QueryError: If it has none.
    """
    keys = [key for key, path in listed.group_by.items() if _same(path) == _same(_PROVENANCE)]
    if not keys or not _is_sent(_PROVENANCE, sink):
        raise QueryError(
            f"meter {listed.slug} leaves out estimates, which the OpenMeter server of sink "
            f"{sink.name} cannot: its meter has no key for {_PROVENANCE}"
            + (f", which shape {sink.shape} does not send" if keys else "")
        )
    return keys[0]


def check_period(listed: ServerMeter, query: UsageQuery) -> None:
    """Look whether the server's meter counts all of the period.

    Raises:
        QueryError: If it begins later.
    """
    since = read_moment("the beginning of the server's meter", listed.since or None)
    if since is not None and (query.start is None or query.start < since):
        raise QueryError(
            f"meter {listed.slug} of the server counts from {rfc3339(since)} on, so the answer "
            "would be short; ask with start= that moment or a later one"
        )


def _wanted(
    meter: MeterDefinition, sink: OpenMeterSink, *, as_written: bool = False
) -> set[tuple[str, object, object]]:
    """What the server's meter may be: aggregation, event type, value property."""
    read = (lambda path: path) if as_written else _same
    aggregation, path = meter.aggregation, meter.value_property
    if sink.shape == "call":
        # An event type of the sink's own is that of all events, whatever theirs was.
        renamed = sink.event_type != EVENT_TYPE
        if renamed and meter.event_type != EVENT_TYPE:
            return set()
        return {
            (aggregation, sink.event_type if renamed else meter.event_type, path and read(path))
        }
    if meter.event_type != EVENT_TYPE or path is None:
        return set()
    if sink.shape == "kind" and aggregation != "SUM":
        return set()
    names = {_same(name): others for name, others in _NAMES[sink.shape].items()}
    return {(aggregation, sink.event_type, read(other)) for other in names.get(_same(path), ())}


def _is_sent(path: str, sink: OpenMeterSink) -> bool:
    steps = _same(path)
    if sink.shape == "call" or not isinstance(steps, tuple):
        return True
    if len(steps) != 1:
        return False
    if sink.shape == "kind":
        return steps[0] in _KINDS or steps[0] not in DATA_KEYS
    return steps == ("model",)


def _same(path: str) -> object:
    """A path in the one form in which `$.a` and `$['a']` are equal."""
    try:
        return parse_path(path)
    except MeterError:
        return path


def _words(aggregation: str, event_type: object, path: object) -> str:
    of = f" of {path}" if path and aggregation != "COUNT" else ""
    return f"{aggregation}{of} in events of type {event_type}"
