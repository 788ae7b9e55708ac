"""What a meter reads in an event, and what OpenMeter's lists say where it cannot.

Source: `openmeter/meter/parse.go`, `validateEvents` of `openmeter/meterevent/adapter/event.go` and
the SQL of `openmeter/streaming/clickhouse/meter_query.go`,
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c; for what is a
number in a string, `readFloat` and `special` of Go 1.27.3's `strconv/atof.go`. Of JSONPath it
knows keys and places in arrays: `$.a.b`, `$['a']["b"]` and `$.a[0]`.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from .ingest import Event

__all__ = [
    "MISSING",
    "Meter",
    "UnknownError",
    "decimal_text",
    "json_value",
    "look_up",
    "number_in",
    "number_text",
    "path_of",
    "problems_of",
]

Meter = Mapping[str, Any]
"""In the words of v1: `slug`, `eventType`, `aggregation`, `valueProperty`, `groupBy`, `eventFrom`."""

MISSING: Final = object()
_STEP: Final = re.compile(
    r"""\.([^.\[\]*@?()'"\s]+)|\['([^'\\]+)'\]|\["([^"\\]+)"\]|\[([0-9]+)\]"""
)
_DECIMAL: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
_INFINITE: Final = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
_GO_TYPES: Final = {bool: "bool", dict: "map[string]interface {}", list: "[]interface {}"}
_LARGE: Final = 1e21


class UnknownError(ValueError):
    """OpenMeter may know it; the fake server does not."""


@functools.cache
def path_of(text: str) -> tuple[str | int, ...]:
    """The keys and places of a JSONPath.

    Raises:
        UnknownError: If it is of another kind.
    """
    steps: list[str | int] = []
    at = 1
    while text.startswith("$") and (step := _STEP.match(text, at)):
        steps.append(int(step[4]) if step[4] else step[1] or step[2] or step[3])
        at = step.end()
    if not steps or at != len(text):
        raise UnknownError(f"the path {text!r}; a path is $.key, $.key.key or $.key[0] here")
    return tuple(steps)


def look_up(data: object, path: Sequence[str | int]) -> object:
    """What stands in `data` under a path; `MISSING` if nothing does."""
    for step in path:
        if isinstance(step, int):
            if not isinstance(data, list) or step >= len(data):
                return MISSING
            data = data[step]
        elif not isinstance(data, Mapping) or step not in data:
            return MISSING
        else:
            data = data[step]
    return data


def number_in(value: object) -> float | str:
    """A value as a number, or what OpenMeter says against it."""
    if isinstance(value, str):
        number = _parse_float(value)
        if number is None:
            return f"value cannot be parsed as float64: {value}"
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    else:
        return f"unsupported value property type: {_GO_TYPES.get(type(value), '<nil>')}"
    if math.isnan(number):
        return "value cannot be NaN"
    return "value cannot be infinity" if math.isinf(number) else number


def problems_of(event: Event, meters: Sequence[Meter], *, has_customer: bool) -> list[str]:
    """What OpenMeter's lists say of an event that was taken and stored all the same.

    Args:
        event: The event.
        meters: All meters.
        has_customer: Whether its subject is one of a customer's.
    """
    mine = [meter for meter in meters if meter["eventType"] == event["type"]]
    found = [f"invalid event: {problem}" for meter in mine if (problem := _problem(event, meter))]
    if not mine:
        found.append(f"no meter found for event type: {event['type']}")
    if not has_customer:
        found.append(f"no customer found for event subject: {event['subject']}")
    return found


def number_text(number: float) -> str:
    """A number as Go writes it in JSON: 120 and not 120.0."""
    if number.is_integer() and abs(number) < _LARGE:
        # Its shortest digits, and zeros behind them; 0 has no sign.
        return format(Decimal(repr(number)), "f").removesuffix(".0") if number else "0"
    return repr(number)


def decimal_text(number: float) -> str:
    """A number as v3 writes it: a decimal without an exponent."""
    text = format(Decimal(repr(number)), "f")
    return text.removesuffix(".0")


def json_value(data: object, path: Sequence[str | int]) -> str:
    """What ClickHouse's `JSON_VALUE` gives: text, and none for what is missing or not a scalar."""
    found = look_up(data, path)
    if found is MISSING or isinstance(found, dict | list):
        return ""
    if isinstance(found, str):
        return found
    if isinstance(found, int | float) and not isinstance(found, bool):
        # Go has decoded it and written it anew before ClickHouse reads it.
        return number_text(float(found))
    return json.dumps(found)


def _problem(event: Event, meter: Meter) -> str | None:
    if meter["aggregation"] == "COUNT":
        return None
    data = event.get("data")
    if data is None:
        return "null and missing value property"
    value = look_up(data, path_of(meter["valueProperty"]))
    if value is MISSING:
        return f"missing value property: {json.dumps(meter['valueProperty'], ensure_ascii=False)}"
    if value is None:
        return "value cannot be null"
    if meter["aggregation"] == "UNIQUE_COUNT":
        return None
    number = number_in(value)
    return number if isinstance(number, str) else None


def _parse_float(text: str) -> float | None:
    if text.lower() == "nan" or _INFINITE.fullmatch(text):
        return float(text)
    if _DECIMAL.fullmatch(text) is None:
        return _parse_hex(text)
    number = float(text)
    return None if math.isinf(number) else number  # out of range


def _parse_hex(text: str) -> float | None:
    # Underscores are only taken behind a prefix; the exponent must be there.
    plain = text.replace("_", "")
    if not re.fullmatch(
        r"[+-]?0[xX]([0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)[pP][+-]?[0-9]+", plain
    ):
        return None
    try:
        return float.fromhex(plain)
    except OverflowError:
        return None
