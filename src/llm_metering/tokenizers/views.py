"""Looking into a request, whatever it is made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .prompt import NO_FIELDS

__all__ = ["as_json", "as_text", "field", "fields", "items"]


def fields(value: object) -> Mapping[str, Any]:
    """The fields of a mapping, or of an object of an SDK; none if it has none."""
    if isinstance(value, Mapping):
        return value
    if value is None or isinstance(value, str | bytes | int | float | list | tuple | type):
        return NO_FIELDS
    own = getattr(value, "__dict__", None)
    return own if isinstance(own, dict) else NO_FIELDS


def field(mapping: Mapping[str, Any], *names: str) -> Any:
    """The first of these fields that holds something; JSON and Python spell some differently."""
    for name in names:
        value = mapping.get(name)
        if value is not None:
            return value
    return None


def items(value: object) -> list[Any] | tuple[Any, ...]:
    """`value` if it is a list; nothing if not. An iterator is the caller's to consume, not ours."""
    return value if isinstance(value, list | tuple) else ()


def as_text(value: object) -> str:
    """`value` if it is a string, else the empty one."""
    return value if isinstance(value, str) else ""


def as_json(value: object) -> str:
    """`value` as a model is shown it: text as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=_encode)


def _encode(value: object) -> object:
    if isinstance(value, bytes | bytearray | memoryview):
        # Never text: pictures and documents are counted by rules of their own.
        return ""
    return fields(value) or str(value)
