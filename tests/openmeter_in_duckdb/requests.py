"""Questions of v1 and v3, and what OpenMeter refuses of them.

Source: `MeterQueryRequest` of `api/openapi.yaml` and `api/v3/openapi.yaml`, which a validator holds
each request against, `openmeter/streaming/query_params.go`, `openmeter/meter/httphandler/mapping.go`,
`api/v3/handlers/meters/query/params.go` and `pkg/filter/filter.go`. What v1 passes over, a property
that it does not know, is refused here: it would be a mistake of ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from .engine import Query

__all__ = ["RefusedError", "query_of_v1", "query_of_v3"]

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_V1 = frozenset(
    [
        *("from", "to", "windowSize", "windowTimeZone", "subject", "groupBy"),
        *("filterGroupBy", "advancedMeterGroupByFilters"),
    ]
)
_V3 = frozenset(["from", "to", "granularity", "time_zone", "group_by_dimensions", "filters"])
_SIZES = {"MINUTE": "MINUTE", "HOUR": "HOUR", "DAY": "DAY", "MONTH": "MONTH"}
_GRANULARITIES = {"PT1M": "MINUTE", "PT1H": "HOUR", "P1D": "DAY", "P1M": "MONTH"}
_TEXT_SIGNS = {"$eq", "$ne", "$lt", "$lte", "$gt", "$gte"}
_LIST_SIGNS = {"$in", "$nin"}
_V3_SIGNS = {"eq": "$eq", "neq": "$ne", "in": "$in", "nin": "$nin", "and": "$and", "or": "$or"}

Meter = Mapping[str, Any]


class RefusedError(Exception):
    """A question that OpenMeter does not take."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def query_of_v1(asked: Any, meter: Meter, knows_zone: Callable[[str], bool]) -> Query:
    """Read the body of `POST /api/v1/meters/{slug}/query`."""
    _known(asked, _V1)
    subjects = _texts(asked, "subject")
    group_by = _groups(_texts(asked, "groupBy"), meter)
    if "subject" in asked:
        group_by += ("subject",)
    simple = asked.get("filterGroupBy", {})
    advanced = asked.get("advancedMeterGroupByFilters", {})
    if simple and advanced:
        raise RefusedError("advanced meter group by filters and filter group by cannot be used …")
    filters = {key: {"$in": values} for key, values in simple.items() if values} or advanced
    for key in (*simple, *filters):
        if key not in meter.get("groupBy", {}):
            raise RefusedError(f"meter does not have group by: {key}")
    for condition in filters.values():
        _check_condition(condition, depth=1000)
    return _checked(
        Query(
            start=_seconds(asked, "from"),
            end=_seconds(asked, "to"),
            window=_size(_SIZES, asked.get("windowSize")),
            zone=_zone(asked.get("windowTimeZone"), knows_zone),
            subjects=subjects,
            group_by=group_by,
            filters=filters,
        ),
        asked,
    )


def query_of_v3(asked: Any, meter: Meter, knows_zone: Callable[[str], bool]) -> Query:
    """Read the body of `POST /api/v3/openmeter/meters/{id}/query`."""
    _known(asked, _V3)
    _known(asked.get("filters", {}), {"dimensions"})
    dimensions = dict(asked.get("filters", {}).get("dimensions", {}))
    if len(dimensions) > 10:
        raise RefusedError("maximum number of properties is 10")
    for condition in dimensions.values():
        _check_v3(condition)
    group_by = _groups(_texts(asked, "group_by_dimensions"), meter)
    named = dimensions.pop("subject", {})
    if named.keys() - {"eq", "in"} or len(named) > 1:
        raise RefusedError("only eq and in filter operators are supported for this field")
    subjects = tuple(named.get("in", [])) or tuple([named["eq"]] if "eq" in named else [])
    if subjects:
        group_by += ("subject",)
    filters = {key: _as_v1(condition) for key, condition in dimensions.items()}
    for key, condition in filters.items():
        if key not in meter.get("groupBy", {}):
            raise RefusedError(f"invalid dimension filter: {key}")
        _check_condition(condition, depth=2)
    return _checked(
        Query(
            start=_seconds(asked, "from"),
            end=_seconds(asked, "to"),
            window=_size(_GRANULARITIES, asked.get("granularity")),
            zone=_zone(asked.get("time_zone"), knows_zone),
            subjects=subjects,
            group_by=group_by,
            filters=filters,
        ),
        asked,
    )


def _checked(query: Query, asked: Mapping[str, Any]) -> Query:
    if "from" in asked and "to" in asked:
        start, end = (datetime.fromisoformat(asked[name]) for name in ("from", "to"))
        if start >= end:
            raise RefusedError("from must be before to")
    if len(query.subjects) > 1 and "subject" not in query.group_by:
        raise RefusedError("multiple subject filters are only allowed with subject group by")
    if "customer_id" in query.group_by:
        raise RefusedError("customer filter is required with customer_id group by")
    return query


def _known(asked: Any, names: Iterable[str]) -> None:
    if not isinstance(asked, dict):
        raise RefusedError("value must be an object")
    if rest := asked.keys() - set(names):
        raise RefusedError(f"property {min(rest)!r} is unsupported")


def _texts(asked: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values = asked.get(name, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise RefusedError(f"{name}: value must be an array of strings")
    if len(values) > 100:
        raise RefusedError(f"{name}: maximum number of items is 100")
    return tuple(values)


def _groups(wanted: tuple[str, ...], meter: Meter) -> tuple[str, ...]:
    for key in wanted:
        if key not in {"subject", "customer_id", *meter.get("groupBy", {})}:
            raise RefusedError(f"invalid group by: {key}")
    return wanted


def _seconds(asked: Mapping[str, Any], name: str) -> int | None:
    if name not in asked:
        return None
    if not isinstance(asked[name], str) or not _RFC3339.fullmatch(asked[name]):
        raise RefusedError(f"{name}: string doesn't match the format date-time")
    return int(datetime.fromisoformat(asked[name]).timestamp() // 1)


def _size(sizes: Mapping[str, str], name: str | None) -> str | None:
    if name is not None and name not in sizes:
        raise RefusedError("value is not one of the allowed values")
    return None if name is None else sizes[name]


def _zone(name: str | None, knows_zone: Callable[[str], bool]) -> str:
    if name is not None and not knows_zone(name):
        raise RefusedError(f"invalid time zone: {name}")
    return name or "UTC"


def _check_condition(condition: Any, *, depth: int) -> None:
    if not isinstance(condition, dict) or len(condition) != 1:
        raise RefusedError("filter is invalid: multiple operators are set")
    [(sign, operand)] = condition.items()
    if sign in ("$and", "$or"):
        if depth == 0:
            raise RefusedError("filter complexity exceeds maximum allowed depth")
        for each in operand:
            _check_condition(each, depth=depth - 1)
    elif sign not in _TEXT_SIGNS | _LIST_SIGNS:
        raise RefusedError(f"not known here: {sign}", 501)
    elif (sign in _LIST_SIGNS) != isinstance(operand, list):
        raise RefusedError(f"wrong operand of {sign}")
    elif "" in (operand if isinstance(operand, list) else [operand]):
        raise RefusedError("filter is invalid: format mismatch")


def _check_v3(condition: Any) -> None:
    _known(condition, _V3_SIGNS)
    for sign, most in (("in", 100), ("nin", 100), ("and", 10), ("or", 10)):
        if sign in condition and not 1 <= len(condition[sign]) <= most:
            raise RefusedError(f"{sign}: from 1 to {most} items")
    for each in (*condition.get("and", []), *condition.get("or", [])):
        _check_v3(each)


def _as_v1(condition: Mapping[str, Any]) -> dict[str, Any]:
    return {
        _V3_SIGNS[sign]: [_as_v1(each) for each in operand] if sign in ("and", "or") else operand
        for sign, operand in condition.items()
    }
