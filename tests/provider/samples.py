"""Words to answer with, and values that fit a JSON schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["WORDS", "sample_of", "value_of"]

WORDS: Final = ("amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath", "inlet")

_VALUES: Final[Mapping[str, Any]] = {
    "string": "x",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "null": None,
}


def sample_of(schema: Mapping[str, Any]) -> str:
    """JSON that fits a schema."""
    return json.dumps(value_of(schema, schema))


def value_of(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """A value that fits a schema; `root` is where its references point to."""
    if "$ref" in schema:
        found: Any = root
        for name in schema["$ref"].lstrip("#/").split("/"):
            found = found[name]
        return value_of(found, root)
    if "enum" in schema:
        return schema["enum"][0]
    for name in ("anyOf", "oneOf", "allOf"):
        if name in schema:
            return value_of(schema[name][0], root)
    kind = str(schema.get("type", "object")).lower()
    if kind == "object":
        fields = schema.get("properties") or {}
        return {name: value_of(field, root) for name, field in fields.items()}
    if kind == "array":
        return [value_of(schema.get("items") or {"type": "string"}, root)]
    return _VALUES[kind]
