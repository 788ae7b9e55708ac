"""Events as rows of a table: which columns there are, and what of an event is in which.

The columns are the attributes of the CloudEvent, and the keys of `data` that are this library's own
(`llm_metering.events.DATA_KEYS`). A value that is not of its column's type, as events of others may
have one, is not bent: it stays in the column `data`, with the keys that have no column.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final, Literal

import msgspec

from ..events import MEASURES
from ..ledger.extracts import StoredEvent
from ..token_usage import TokenUsage

__all__ = ["COLUMNS", "ColumnType", "row_of"]

ColumnType = Literal["text", "time", "integer", "number", "texts", "json", "boolean"]
"""What a column holds: `texts` is a list of them, `json` an object written as JSON."""

_NUMBERS: Final = {"quantity", "reported_cost", "audio_seconds", "search_units"}
"""What need not be whole."""

_ATTRIBUTES: Final = ("id", "source", "type", "subject", "time")
_TEXTS: Final = (
    *("provider", "model", "request_model", "operation", "framework", "provenance", "status"),
    *("count_method", "run_id", "response_id", "unit"),
)
_LATER: Final = ("service_tier",)
"""Texts that came when there were columns behind the others."""
_COUNTS: Final = (
    "total_tokens",
    *(each.name for each in fields(TokenUsage)),
    *("prompt_tokens", "completion_tokens", "calls", "batch_size"),
    *("duration_ms", "time_to_first_token_ms"),
    *sorted(MEASURES),
    "quantity",
)

_OF_DATA: Final[Mapping[str, ColumnType]] = {
    **dict.fromkeys(_TEXTS, "text"),
    **{name: "number" if name in _NUMBERS else "integer" for name in _COUNTS},
    "flags": "texts",
    **dict.fromkeys(_LATER, "text"),
}

COLUMNS: Final[Mapping[str, ColumnType]] = {
    **dict.fromkeys(_ATTRIBUTES, "text"),
    "time": "time",
    **{name: kind for name, kind in _OF_DATA.items() if name not in _LATER},
    "data": "json",
    "attributes": "json",
    "pruned": "boolean",
    **dict.fromkeys(_LATER, "text"),
}
"""The columns in their order, which only ever grows at its end, with their types."""

_LARGEST: Final = 2**63
_EXACT: Final = 2**53

# Values as they are written: what stays in a column of JSON is not rounded on its way there.
_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_value: Final = msgspec.json.Decoder()
_encode: Final = msgspec.json.Encoder().encode


def row_of(event: StoredEvent) -> dict[str, Any]:
    """The values of an event by column; what it lacks is not there.

    `time` is in microseconds since 1970. Of an event whose body was pruned there is what the ledger
    keeps in columns of its own.
    """
    if not event.payload:
        kept = {name: value for name, value in event.columns.items() if value is not None}
        return {**kept, "pruned": True}
    attributes = _object.decode(event.payload)
    data = _object.decode(attributes.pop("data"))
    row: dict[str, Any] = {name: event.columns[name] for name in _ATTRIBUTES}
    for name in (*_ATTRIBUTES, "specversion"):
        attributes.pop(name, None)
    for name, kind in _OF_DATA.items():
        if name in data and (value := _fitting(data[name], kind)) is not None:
            row[name] = value
            del data[name]
    if data:
        row["data"] = _encode(data).decode()
    if attributes:
        row["attributes"] = _encode(attributes).decode()
    return row | {"pruned": False}


def _fitting(raw: msgspec.Raw, kind: ColumnType) -> object:
    """The value, as a column of this type holds it; `None` if it cannot without a loss."""
    try:
        value = _value.decode(raw)
    except msgspec.DecodeError:
        return None  # half a character, or a number beyond all bounds
    if kind == "text":
        # In CSV an empty text would be none at all.
        return value if type(value) is str and value else None
    if kind == "integer":
        return value if type(value) is int and -_LARGEST <= value < _LARGEST else None
    if kind == "number":
        if type(value) is int and abs(value) <= _EXACT:
            return float(value)
        return value if type(value) is float and math.isfinite(value) else None
    is_texts = type(value) is list and value and all(type(each) is str for each in value)
    return value if is_texts else None
