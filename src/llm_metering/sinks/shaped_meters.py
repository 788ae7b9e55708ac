"""Meters as an OpenMeter server needs them, which is sent events in one of the shapes.

Source: `MeterCreate` of `api/openapi.yaml` (v1) and `CreateMeterRequest` of `api/v3/openapi.yaml`,
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from ..events import DATA_KEYS, EVENT_TYPE, MEASURES
from ..meters import MeterDefinition, parse_path
from .shapes import GROUP_KEYS, event_type_of

__all__ = ["create_body", "meter_in_shape"]

_OF_NUMBERS: Final = frozenset(["SUM", "AVG", "MIN", "MAX", "LATEST"])
"""Aggregations that pass over an event without the value."""

_TOKENS: Final = {
    "total_tokens": "total_tokens",
    "input_tokens": "prompt_tokens",
    "prompt_tokens": "prompt_tokens",
    "output_tokens": "completion_tokens",
    "completion_tokens": "completion_tokens",
}
_RENAMED: Final[Mapping[str, Mapping[str, str]]] = {
    "openai": _TOKENS,
    "litellm": {**_TOKENS, "reported_cost": "cost"},
}
"""By shape with one event a call: what it calls the values that it sends."""


def meter_in_shape(
    meter: MeterDefinition, shape: str = "call", *, event_type: str | None = None
) -> MeterDefinition | None:
    """The meter that says of what is sent what `meter` says of what was recorded.

    With one exception: `kind` sends the known side of a call of which the other is unknown, so its
    sum of all tokens has it, and `total_tokens` has not.

    >>> from llm_metering.meters import METERS
    >>> meter = meter_in_shape(METERS["tokens_total"], "kind")
    >>> meter.event_type, meter.value_property
    ('prompt', '$.tokens')

    Args:
        meter: As the ledger has it. One of events of another type than ours is as it was: such events
            are not sent by us.
        shape: One of `SHAPES`.
        event_type: The CloudEvents `type` of all that is sent; the shape's own if left out.

    Returns:
        The meter, without the keys of `group_by` that are not sent; `None` where no meter could say it.
    """
    if meter.event_type != EVENT_TYPE:
        return meter
    if shape == "call":
        return replace(meter, event_type=event_type or EVENT_TYPE)
    name = _only_key(meter.value_property)
    if name == "quantity" and meter.aggregation in _OF_NUMBERS:
        # Only the shape of the journal has words for it, so it is sent as it was recorded.
        return replace(meter, event_type=event_type or EVENT_TYPE)
    if shape != "kind" and name == "calls" and event_type is not None:
        # To count events would count those of other units, which have the same type then.
        return None
    shaped = _by_kind(meter, name) if shape == "kind" else _by_call(meter, name, shape)
    return shaped and replace(shaped, event_type=event_type or event_type_of(shape))


def create_body(meter: MeterDefinition, api: str = "v1") -> dict[str, Any]:
    """What OpenMeter's API takes to create a meter.

    Args:
        meter: The meter, in the shape of what is sent.
        api: `v1` or `v3`.
    """
    body = meter.to_dict()
    if api == "v1":
        return body
    value_property = body.get("valueProperty")
    return {
        "key": meter.slug,
        "name": meter.slug,
        "description": meter.description,
        "event_type": meter.event_type,
        "aggregation": meter.aggregation.lower(),
        **({"value_property": value_property} if value_property else {}),
        "dimensions": body["groupBy"],
    }


def _only_key(path: str | None) -> str | None:
    """The key of `data` that a path names; `None` if it leads further, or nowhere."""
    steps = parse_path(path) if path else ()
    return steps[0] if len(steps) == 1 and isinstance(steps[0], str) else None


def _by_kind(meter: MeterDefinition, name: str | None) -> MeterDefinition | None:
    group_by = {
        key: path
        for key, path in meter.group_by.items()
        # A dimension is any key that is none of ours.
        if (of := _only_key(path)) in GROUP_KEYS or (of is not None and of not in DATA_KEYS)
    }
    # Several events make up a call: their tokens add up to its own, and what else is known of it is
    # in one of them.
    if name == "total_tokens" and meter.aggregation == "SUM":
        by_type = {**group_by, "type": group_by.get("type", "$.type")}
        return replace(meter, value_property="$.tokens", group_by=by_type)
    fits = name in MEASURES and meter.aggregation in _OF_NUMBERS
    if fits or (name == "calls" and meter.aggregation == "SUM"):
        return replace(meter, group_by=group_by)
    return None


def _by_call(meter: MeterDefinition, name: str | None, shape: str) -> MeterDefinition | None:
    if not meter.estimates:
        # Nothing that is sent tells them apart.
        return None
    group_by = {key: path for key, path in meter.group_by.items() if _only_key(path) == "model"}
    if name == "calls" and meter.aggregation == "SUM":
        # An event is a call there, and nothing else is.
        return replace(meter, aggregation="COUNT", value_property=None, group_by=group_by)
    sent = _RENAMED[shape].get(name or "")
    if sent is None or meter.aggregation not in _OF_NUMBERS:
        return None
    return replace(meter, value_property=f"$.{sent}", group_by=group_by)
