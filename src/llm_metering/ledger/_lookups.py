"""Where a ledger has what a JSONPath of a meter names: a column of its own, or the event's body.

What is read is what OpenMeter reads with ClickHouse's `JSON_VALUE` and `toFloat64OrNull`
(`openmeter/streaming/clickhouse/meter_query.go`,
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c): text of every
scalar, `''` where there is none; and as a number a JSON number or a text that is one, if it is
finite. Whole numbers stay whole. What SQLite cannot parse, which takes less nesting than Python does,
has neither.
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
from typing import Any, Final

from ..meters import parse_path

__all__ = ["COUNTS", "NAMES", "Parameters", "column_of", "number", "number_in", "prepare", "text"]

NAMES: Final = ("provider", "model", "operation", "framework", "provenance", "status")
"""Columns with the text of the key in `data` of the same name; NULL where it is lacking or no text."""

COUNTS: Final = (
    "total_tokens",
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "reasoning_output_tokens",
    "calls",
)
"""Columns with the whole number under the key of the same name; NULL where it is lacking."""

_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,4000}", re.ASCII)
_FINDS_ESCAPED: Final = sqlite3.sqlite_version_info >= (3, 45)
_NEVER_ESCAPED: Final = re.compile(r"[A-Za-z0-9_.: -]+")
"""Keys that every encoder of JSON writes as they are."""

_ESCAPES: Final = re.compile(r"(?:\\u[0-9a-fA-F]{4})+|\\.")
_LARGEST: Final = "1.7976931348623157e308"
_EXPONENT_FROM: Final = 1e21


class Parameters(dict[str, Any]):
    """What a caller wrote: it reaches a database as a parameter only.

    Args:
        prefix: What its SQL marks parameters with.
    """

    def __init__(self, prefix: str = ":") -> None:
        super().__init__()
        self._prefix = prefix

    def __call__(self, value: object) -> str:
        """The parameter that stands for a value."""
        name = f"p{len(self)}"
        self[name] = value
        return f"{self._prefix}{name}"


def column_of(path: str) -> str | None:
    """The column that has what is under a JSONPath in an event's `data`; `None` if none has."""
    steps = parse_path(path)
    return steps[0] if steps[0] in NAMES + COUNTS and len(steps) == 1 else None


def text(path: str, parameters: Parameters) -> str:
    """The SQL of the text that is under a JSONPath; `''` where none is."""
    column = column_of(path)
    if column in NAMES:
        return f"ifnull({column}, '')"
    if column is not None:
        return f"ifnull(CAST({column} AS TEXT), '')"
    step = parameters(_path(path))
    body = _body(path)
    found = f"json_extract({body}, {step})"
    return f"""CASE WHEN json_valid(payload) THEN CASE json_type({body}, {step})
        WHEN 'text' THEN {found}
        WHEN 'integer' THEN
            CASE typeof({found}) WHEN 'integer' THEN CAST({found} AS TEXT) ELSE json_number({found}) END
        WHEN 'real' THEN json_number({found})
        WHEN 'true' THEN 'true'
        WHEN 'false' THEN 'false'
        WHEN 'null' THEN 'null'
        ELSE '' END ELSE '' END"""


def number(path: str, parameters: Parameters) -> str:
    """The SQL of the number that is under a JSONPath; NULL where none is."""
    column = column_of(path)
    if column in COUNTS:
        return column
    step = parameters(_path(path))
    body = _body(path)
    found = f"json_extract({body}, {step})"
    # An integer of hundreds of digits is infinite, too.
    finite = f"CASE WHEN {found} BETWEEN -{_LARGEST} AND {_LARGEST} THEN {found} END"
    return f"""CASE WHEN json_valid(payload) THEN CASE json_type({body}, {step})
        WHEN 'integer' THEN {finite}
        WHEN 'real' THEN {finite}
        WHEN 'text' THEN number_in({found})
        END END"""


def prepare(connection: sqlite3.Connection) -> None:
    """Give a connection the functions that `text` and `number` call for what is rare."""
    connection.create_function("json_number", 1, _json_number, deterministic=True)
    connection.create_function("number_in", 1, number_in, deterministic=True)
    connection.create_function("without_escapes", 1, _without_escapes, deterministic=True)


def _path(path: str) -> str:
    return "$.data" + "".join(
        f"[{step}]" if isinstance(step, int) else f'."{step}"' for step in parse_path(path)
    )


def _body(path: str) -> str:
    """The SQL of an event's body as the keys of a JSONPath are found in it."""
    # SQLite before 3.45 compares keys as they are written.
    if _FINDS_ESCAPED or all(
        isinstance(step, int) or _NEVER_ESCAPED.fullmatch(step) for step in parse_path(path)
    ):
        return "payload"
    return "without_escapes(payload)"


def _without_escapes(payload: str) -> str:
    """The same JSON, with no escapes in keys that a JSONPath can have."""
    return _ESCAPES.sub(_literal, payload) if "\\" in payload else payload


def _literal(escapes: re.Match[str]) -> str:
    found: str = json.loads(f'"{escapes[0]}"')
    return found if found.isprintable() and not set(found) & set('"\\') else escapes[0]


def _json_number(number: float) -> str:
    # Go, which decodes and writes events before ClickHouse has them, writes whole numbers as such.
    if number.is_integer() and abs(number) < _EXPONENT_FROM:
        return str(int(number))
    return repr(number)


def number_in(text: str) -> int | float | None:
    """The number that a text is; a whole one as an `int` as far as SQLite's integers go."""
    if _NUMBER.fullmatch(text) is None:
        return None
    if _WHOLE.fullmatch(text) and -(2**63) <= (whole := int(text)) < 2**63:
        return whole
    found = float(text)
    return found if math.isfinite(found) else None
