"""OpenMeter's schema of an event, checked by hand, in the words of its validator.

Sources: `components.schemas.Event` of `api/openapi.yaml` (v1) and `MeteringEvent` of
`api/v3/openapi.yaml`, https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c,
as kin-openapi 0.146 applies them (`openapi3/schema.go`): properties in alphabetical order, then
what is missing. A test compares the verdicts with the documents themselves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["ATTRIBUTES", "Problem", "event_problems"]

REQUIRED: Final = ("id", "source", "specversion", "type", "subject")
ATTRIBUTES: Final = frozenset([*REQUIRED, "time", "data", "datacontenttype", "dataschema"])
"""What an event may hold; v1 drops everything else, v3 refuses it."""

_DATE_TIME: Final = (
    r"[0-9]{4}-(0[1-9]|10|11|12)-(0[1-9]|[12][0-9]|3[01])"
    r"T([0-1][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?(Z|(\+|-)[0-9]{2}:[0-9]{2})"
)
_NULL: Final = "Value is not nullable"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an event is refused.

    Attributes:
        path: Where, from the top of the body: `("3", "subject")`.
        rule: The keyword of the schema that it breaks.
        reason: What the validator says of it.
    """

    path: tuple[str, ...]
    rule: str
    reason: str

    def __str__(self) -> str:
        where = "".join(f"/{part}" for part in self.path)
        return f'Error at "{where}": {self.reason}' if where else self.reason


def event_problems(event: object, *, closed: bool, path: tuple[str, ...] = ()) -> Iterator[Problem]:
    """What is wrong with an event, in the order in which the validator finds it.

    Args:
        event: Decoded JSON.
        closed: Whether attributes that the schema does not name are refused, as in v3.
        path: Where in the body the event stands.
    """
    if event is None:
        yield Problem(path, "nullable", _NULL)
        return
    if not isinstance(event, Mapping):
        yield Problem(path, "type", "value must be an object")
        return
    for key in sorted(event):
        if key in ATTRIBUTES:
            yield from _attribute_problems(key, event[key], (*path, key))
        elif closed:
            quoted = json.dumps(key, ensure_ascii=False)
            yield Problem(path, "properties", f"property {quoted} is unsupported")
    for key in REQUIRED:
        if key not in event:
            yield Problem((*path, key), "required", f'property "{key}" is missing')


def _attribute_problems(key: str, value: object, path: tuple[str, ...]) -> Iterator[Problem]:
    if value is None:
        if key in REQUIRED:
            yield Problem(path, "nullable", _NULL)
    elif key == "data":
        yield from _data_problems(value, path)
    elif key == "datacontenttype":
        if value != "application/json":
            reason = 'value is not one of the allowed values ["application/json"]'
            yield Problem(path, "enum", reason)
    elif not isinstance(value, str):
        yield Problem(path, "type", "value must be a string")
    elif key == "time":
        if not re.fullmatch(_DATE_TIME, value):
            reason = f'string doesn\'t match the format "date-time": pattern "^{_DATE_TIME}$"'
            yield Problem(path, "format", reason)
    elif not value:
        yield Problem(path, "minLength", "minimum string length is 1")


def _data_problems(data: object, path: tuple[str, ...]) -> Iterator[Problem]:
    if not isinstance(data, Mapping):
        yield Problem(path, "type", "value must be an object")
        return
    for key in sorted(data):
        # The schema of its values is empty, and in OpenAPI 3.0 such a one takes all but null.
        if data[key] is None:
            yield Problem((*path, key), "nullable", _NULL)
