"""OpenMeter's own API documents as JSON Schema, where the environment names them.

LLM_METERING_OPENMETER_SPEC is the path of `api/openapi.yaml` (v1 and v2); the document of v3 is
looked for beside it, as `openapi.v3.yaml`.
"""

from __future__ import annotations

import functools
import json
import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import yaml

SPEC_VARIABLE = "LLM_METERING_OPENMETER_SPEC"
_RFC3339 = re.compile(
    # As kin-openapi has it (openapi3/schema_formats.go), which OpenMeter validates with.
    r"[0-9]{4}-(0[1-9]|10|11|12)-(0[1-9]|[12][0-9]|3[01])"
    r"T([0-1][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?(Z|(\+|-)[0-9]{2}:[0-9]{2})"
)


def spec_path(name: str = "") -> Path | None:
    """The document that the environment names, or the one of that name beside it."""
    given = os.environ.get(SPEC_VARIABLE)
    if given is None:
        return None
    path = Path(given).with_name(name) if name else Path(given)
    return path if path.exists() else None


def validator(schema: dict[str, Any]) -> jsonschema.protocols.Validator:
    """A validator that knows times as OpenMeter's does, and no other format."""
    formats = jsonschema.FormatChecker(formats=())
    formats.checks("date-time")(lambda text: not isinstance(text, str) or _is_time(text))
    return jsonschema.Draft202012Validator(schema, format_checker=formats)


@functools.cache
def event_validators() -> tuple[jsonschema.protocols.Validator, ...]:
    """What our events must be valid against: our schema, and OpenMeter's where it is known."""
    ours = Path(__file__).parent / "schemas" / "cloudevent.json"
    schemas = [json.loads(ours.read_text("utf-8"))]
    if path := spec_path():
        schemas.append(openmeter_schema(path, "Event"))
    return tuple(validator(schema) for schema in schemas)


def _is_time(text: str) -> bool:
    return _RFC3339.fullmatch(text) is not None


@functools.cache
def openmeter_schema(path: Path, name: str) -> dict[str, Any]:
    """A schema of OpenMeter's own document, as JSON Schema.

    Args:
        path: The document, OpenAPI 3.0.
        name: The schema below `components.schemas`.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the other takes ten seconds
    schemas = yaml.load(path.read_text("utf-8"), loader)["components"]["schemas"]
    schema: dict[str, Any] = {**_as_json_schema(schemas[name]), "components": {"schemas": {}}}
    missing = _references(schema)
    while missing:
        wanted = missing.pop()
        if wanted not in schema["components"]["schemas"]:
            converted = _as_json_schema(schemas[wanted])
            schema["components"]["schemas"][wanted] = converted
            missing |= _references(converted)
    return schema


def _references(node: Any) -> set[str]:
    if isinstance(node, dict):
        found = {node["$ref"].rpartition("/")[2]} if isinstance(node.get("$ref"), str) else set()
        return found.union(*(_references(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(_references(value) for value in node))
    return set()


def _as_json_schema(node: Any) -> Any:
    """Turn OpenAPI 3.0's dialect into JSON Schema's: nothing may be null that does not say so."""
    if isinstance(node, list):
        return [_as_json_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    converted = {
        key: value if key in ("example", "default", "enum") else _as_json_schema(value)
        for key, value in node.items()
    }
    if converted.get("additionalProperties") == {}:
        # An empty schema takes anything but null in OpenAPI 3.0.
        converted["additionalProperties"] = {"not": {"type": "null"}}
    if converted.pop("nullable", False):
        return {"anyOf": [{"type": "null"}, converted]}
    return converted
