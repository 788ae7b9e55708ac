"""The filters of OpenMeter's lists of events: v2's JSON and v3's `filter[id][oeq]=a,b`.

Source: https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c
(`openmeter/meterevent/service.go`, `pkg/filter/filter.go`; `api/v3/filters/parse.go` and
`convert.go`). v2 has one operator for a field, `$and` and `$or` one level deep; v3 joins several,
of at most 1,024 bytes each and 50 values in a list. Customers are not known here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from ...meters.text_conditions import only_operator, text_test
from .rows import Column, Row
from .values import UnknownError

__all__ = ["Wanted", "moment", "wanted_v2", "wanted_v3"]

Test = Callable[[Any], bool]

_OF_TIMES: Final = frozenset(["$gt", "$gte", "$lt", "$lte"])
_TEXTS: Final = frozenset(["id", "source", "subject", "type"])
_TIMES_V2: Final[Mapping[str, Column]] = {"time": "time", "ingestedAt": "ingested_at"}
_TIMES_V3: Final[Mapping[str, Column]] = {
    name: name for name in ("time", "ingested_at", "stored_at")
}

_MAX_VALUE: Final = 1024
_MAX_ITEMS: Final = 50
_V3_FILTER: Final = re.compile(r"filter\[([^\]]+)\](.*)", re.DOTALL)
_V3_TEXTS: Final = {
    "eq": "$eq",
    "neq": "$ne",
    "contains": "$contains",
    "gt": "$gt",
    "gte": "$gte",
    "lt": "$lt",
    "lte": "$lte",
    "oeq": "$in",
}
_V3_TIMES: Final = {"eq": "$eq", "gt": "$gt", "gte": "$gte", "lt": "$lt", "lte": "$lte"}


@dataclass(slots=True)
class Wanted:
    """What a list asks for.

    Attributes:
        ids: The ids one of which an event must have, if some are named.
        tests: What must hold besides, by what is looked at.
        spans: The first and the last second that may fit, of columns that are bounded.
    """

    ids: list[str] | None = None
    tests: list[tuple[str, Test]] = field(default_factory=list)
    spans: dict[Column, tuple[float, float]] = field(default_factory=dict)

    def fits(self, row: Row) -> bool:
        """Whether a row is asked for, leaving aside the ids."""
        event = row.event
        return all(
            test(event[name] if name in _TEXTS else getattr(row, name)) for name, test in self.tests
        )

    def add_text(self, name: str, condition: object, **allowed: bool) -> None:
        """Ask for something of a text."""
        test = text_test(condition, **allowed)
        wanted = only_operator(condition)
        if name == "id" and wanted[0] in ("$eq", "$in") and self.ids is None:
            self.ids = [wanted[1]] if wanted[0] == "$eq" else wanted[1]
        else:
            self.tests.append((name, test))

    def add_time(self, name: Column, conditions: Iterable[tuple[str, object]]) -> None:
        """Ask for something of a time."""
        for sign, text in conditions:
            # ClickHouse is asked in whole seconds.
            seconds = math.floor(moment(text))
            first, last = self.spans.get(name, (-math.inf, math.inf))
            if sign in ("$eq", "$gt", "$gte"):
                first = max(first, seconds + (sign == "$gt"))
            if sign in ("$eq", "$lt", "$lte"):
                last = min(last, seconds - (sign == "$lt"))
            self.spans[name] = first, last


def wanted_v2(document: object) -> Wanted:
    """Read a filter of v2.

    Raises:
        ValueError: If OpenMeter would refuse it.
        UnknownError: If only this server does.
    """
    if not isinstance(document, dict):
        raise ValueError("filter must be an object")  # noqa: TRY004 - a client's mistake
    wanted = Wanted()
    for name, condition in document.items():
        if name in _TEXTS:
            wanted.add_text(name, condition)
        elif name in _TIMES_V2:
            _add_v2_time(wanted, _TIMES_V2[name], condition)
        elif name == "customerId":
            raise UnknownError(f"the filter {name}")
        else:
            raise UnknownError(f"the filter {name}, which OpenMeter passes over")
    return wanted


def wanted_v3(parameters: Iterable[tuple[str, str]]) -> Wanted:
    """Read the filters of v3.

    Args:
        parameters: Those whose names begin with `filter[`.

    Raises:
        ValueError: If OpenMeter would refuse one.
        UnknownError: If only this server does.
    """
    parts: dict[str, dict[str, str]] = {}
    for name, value in parameters:
        match = _V3_FILTER.fullmatch(name)
        if match is None:
            raise ValueError(f"malformed filter {name}")
        column, sign = match[1], _v3_operator(match[2], value)
        if len(value.encode()) > _MAX_VALUE:
            raise ValueError(f"filter parameter {name!r}: value too long (max {_MAX_VALUE} bytes)")
        if sign in parts.setdefault(column, {}):
            raise ValueError(f"filter parameter {name!r}: repeated query parameter not allowed")
        parts[column][sign] = value
    wanted = Wanted()
    for column, given in parts.items():
        if column in _TEXTS:
            wanted.add_text(column, _v3_condition(column, given), contains=True)
        elif column in _TIMES_V3:
            signs = {_v3_sign(_V3_TIMES, column, sign): value for sign, value in given.items()}
            wanted.add_time(_TIMES_V3[column], signs.items())
        elif column == "customer_id":
            raise UnknownError(f"the filter {column}")
        else:
            raise ValueError(f"unknown filter field(s): {column}")
    return wanted


def moment(text: object) -> float:
    """The seconds since 1970 of a time in RFC 3339.

    Raises:
        ValueError: If it is none.
    """
    time = datetime.fromisoformat(str(text))
    if time.tzinfo is None:
        raise ValueError(f"{text} names no zone")
    return time.timestamp()


def _add_v2_time(wanted: Wanted, column: Column, condition: object, depth: int = 1) -> None:
    name, operand = only_operator(condition)
    if name == "$and":
        if not depth:
            raise ValueError("filter complexity exceeds maximum allowed depth")
        for each in _conditions(operand):
            _add_v2_time(wanted, column, each, depth - 1)
    elif name is not None:
        if name not in _OF_TIMES:
            raise UnknownError(f"the operator {name} for times")
        wanted.add_time(column, [(name, operand)])


def _v3_operator(rest: str, value: str) -> str:
    if not rest:
        return "eq" if value else "exists"
    if not (rest.startswith("[") and rest.endswith("]") and len(rest) > len("[]")):
        raise ValueError(f"malformed operator segment {rest!r}")
    return rest[1:-1]


def _v3_sign(signs: Mapping[str, str], column: str, sign: str) -> str:
    if sign not in signs:
        raise ValueError(f"filter[{column}][{sign}]: unsupported operator")
    return signs[sign]


def _v3_condition(column: str, given: Mapping[str, str]) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    for sign, value in given.items():
        if sign in ("exists", "nexists"):
            raise UnknownError(f"the operator {sign}")
        if sign not in ("oeq", "ocontains"):
            parts.append({_v3_sign(_V3_TEXTS, column, sign): value})
        elif items := _v3_items(column, sign, value):
            several = {"$or": [{"$contains": item} for item in items]}
            parts.append({"$in": items} if sign == "oeq" else several)
    if len(parts) > 1:
        return {"$and": parts}
    return parts[0] if parts else {}


def _v3_items(column: str, sign: str, value: str) -> list[str]:
    items = [item.strip() for item in value.split(",") if item.strip()]
    if len(items) > _MAX_ITEMS:
        reason = f"too many comma-separated items (max {_MAX_ITEMS})"
        raise ValueError(f"filter[{column}][{sign}]: {reason}")
    return items


def _conditions(operand: object) -> list[Any]:
    if not isinstance(operand, list):
        raise ValueError("filter is invalid: format mismatch")  # noqa: TRY004 - a client's mistake
    return operand
