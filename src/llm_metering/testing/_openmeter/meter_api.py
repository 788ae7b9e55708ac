"""The fake server's meters as OpenMeter's v1 and v3 answer for them: queries, and one by name.

Source: https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c
(`openmeter/meter/httphandler`, `api/v3/handlers/meters`, `api/openapi.yaml`,
`api/v3/openapi.yaml`). What a client may ask there and may not here is answered with 501.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

from ...meters.text_conditions import text_test
from ..received import Received
from .ingest import API, Answer, problem_answer
from .meters import described, in_v3
from .queries import Query, Result, WindowSize, answer_query
from .rows import Rows
from .values import Meter, UnknownError, decimal_text, number_text

__all__ = ["METER_PATH", "answer_meter"]

METER_PATH: Final = re.compile(
    r"/api/(?:v1/meters|(?P<v3>v3)/openmeter/meters)/(?P<name>[^/]+)(?P<query>/query)?"
)

_METHODS: Final[Mapping[tuple[API, bool], tuple[str, ...]]] = {
    ("v1", False): ("GET",),
    ("v1", True): ("GET", "POST"),
    ("v3", False): ("GET",),
    ("v3", True): ("POST",),
}
_MOST_ITEMS: Final = 100
_DEPTH_V1: Final = 100
_DEPTH_V3: Final = 2
_SIZES: Final[Mapping[str, WindowSize]] = {
    name: name for name in ("MINUTE", "HOUR", "DAY", "MONTH")
}
_GRANULARITIES: Final[Mapping[str, WindowSize]] = {
    "PT1M": "MINUTE",
    "PT1H": "HOUR",
    "P1D": "DAY",
    "P1M": "MONTH",
}
_V3_SIGNS: Final = {
    "eq": "$eq",
    "neq": "$ne",
    "in": "$in",
    "nin": "$nin",
    "contains": "$contains",
    "and": "$and",
    "or": "$or",
}
_IN_QUERY: Final = re.compile(r"filterGroupBy\[([^\]]+)\]")
_ONCE: Final = frozenset(["from", "to", "windowSize", "windowTimeZone", "clientId"])
_V1: Final = _ONCE | {"subject", "groupBy", "filterGroupBy", "advancedMeterGroupByFilters"}
_V3: Final = frozenset(["from", "to", "granularity", "time_zone", "group_by_dimensions", "filters"])


def answer_meter(
    request: Received, match: re.Match[str], rows: Rows, meters: Sequence[Meter]
) -> Answer:
    """Answer a request that is about one meter.

    Args:
        request: The request.
        match: Its path, as `METER_PATH` takes it apart.
        rows: What is stored.
        meters: All there are.
    """
    api: API = "v3" if match["v3"] else "v1"
    if request.method not in _METHODS[api, bool(match["query"])]:
        return problem_answer(api, 405, None)
    listed = [described(number, meter) for number, meter in enumerate(meters)]
    meter = next((each for each in listed if match["name"] in (each["slug"], each["id"])), None)
    if meter is None:
        return problem_answer(api, 404, f"meter not found: {match['name']}")
    if not match["query"]:
        return _json(in_v3(meter) if api == "v3" else meter)
    if "text/csv" in request.headers.get("Accept", ""):
        return problem_answer(api, 501, "the fake server does not know CSV")
    try:
        if api == "v3":
            return _json(_query_v3(json.loads(request.body), rows, meter))
        reads = request.method == "GET"
        asked = _from_query(request.query) if reads else json.loads(request.body)
        return _json(_query_v1(asked, rows, meter))
    except UnknownError as error:
        return problem_answer(api, 501, f"the fake server does not know {error}")
    except (ValueError, TypeError) as error:
        return problem_answer(api, 400, f"validation error: {error}")


def _from_query(query: str) -> dict[str, Any]:
    """The parameters of a GET as the body of a POST."""
    asked: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in _ONCE:
            asked[name] = value
        elif name in ("subject", "groupBy"):
            asked.setdefault(name, []).append(value)
        elif key := _IN_QUERY.fullmatch(name):
            asked.setdefault("filterGroupBy", {})[key[1]] = [value]
        elif name == "advancedMeterGroupByFilters":
            asked[name] = json.loads(value)
        else:
            raise UnknownError(f"the parameter {name}")
    return asked


def _query_v1(asked: dict[str, Any], rows: Rows, meter: Meter) -> dict[str, Any]:
    _refuse_rest(asked, _V1, UnknownError)
    subjects = _texts(asked, "subject")
    group_by = _groups(_texts(asked, "groupBy"), meter)
    if asked.get("subject") is not None and "subject" not in group_by:
        group_by = (*group_by, "subject")
    simple = asked.get("filterGroupBy") or {}
    advanced = asked.get("advancedMeterGroupByFilters") or {}
    if simple and advanced:
        raise ValueError(
            "advanced meter group by filters and filter group by cannot be used together"
        )
    conditions = {key: {"$in": values} if values else {} for key, values in simple.items()}
    query = Query(
        start=_time(asked.get("from")),
        end=_time(asked.get("to")),
        window=_one_of(_SIZES, asked.get("windowSize"), "window size"),
        zone=_zone(asked.get("windowTimeZone")),
        subjects=subjects,
        group_by=group_by,
        filters=_filters(conditions or advanced, meter, _DEPTH_V1),
    )
    return {
        **_period(query),
        **({"windowSize": query.window} if query.window else {}),
        "data": [_row_v1(result) for result in answer_query(rows, meter, query)],
    }


def _query_v3(asked: dict[str, Any], rows: Rows, meter: Meter) -> dict[str, Any]:
    _refuse_rest(asked, _V3, ValueError)
    filters = asked.get("filters") or {}
    _refuse_rest(filters, ["dimensions"], ValueError)
    conditions = dict(filters.get("dimensions") or {})
    group_by = _groups(_texts(asked, "group_by_dimensions"), meter)
    subjects = _v3_subjects(conditions.pop("subject", None))
    if subjects and "subject" not in group_by:
        group_by = (*group_by, "subject")
    if "customer_id" in conditions:
        raise UnknownError("the filter customer_id")
    query = Query(
        start=_time(asked.get("from")),
        end=_time(asked.get("to")),
        window=_one_of(_GRANULARITIES, asked.get("granularity"), "granularity"),
        zone=_zone(asked.get("time_zone")),
        subjects=subjects,
        group_by=group_by,
        filters=_filters(
            {key: _v3_condition(each) for key, each in conditions.items()},
            meter,
            _DEPTH_V3,
            contains=True,
        ),
    )
    return {
        **_period(query),
        "data": [_row_v3(result) for result in answer_query(rows, meter, query)],
    }


def _row_v1(result: Result) -> dict[str, Any]:
    groups = dict(result.groups)
    return {
        "value": json.loads(number_text(result.value)),
        "windowStart": _rfc3339(result.start),
        "windowEnd": _rfc3339(result.end),
        "subject": groups.pop("subject", None),
        "groupBy": groups,
    }


def _row_v3(result: Result) -> dict[str, Any]:
    return {
        "value": decimal_text(result.value),
        "from": _rfc3339(result.start),
        "to": _rfc3339(result.end),
        "dimensions": result.groups,
    }


def _period(query: Query) -> dict[str, str]:
    given = {"from": query.start, "to": query.end}
    return {name: _rfc3339(time) for name, time in given.items() if time is not None}


def _refuse_rest(asked: object, known: Iterable[str], error: type[ValueError]) -> None:
    if not isinstance(asked, dict):
        raise ValueError("value must be an object")  # noqa: TRY004 - a client's mistake
    if rest := sorted(asked.keys() - set(known)):
        raise error(f'the property "{rest[0]}"')


def _texts(asked: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values = asked.get(name) or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{name} must be an array of strings")
    if len(values) > _MOST_ITEMS:
        raise ValueError(f"{name} has at most {_MOST_ITEMS} items")
    return tuple(values)


def _groups(wanted: tuple[str, ...], meter: Meter) -> tuple[str, ...]:
    known = {"subject", "customer_id", *(meter.get("groupBy") or {})}
    for key in wanted:
        if key not in known:
            raise ValueError(f"invalid group by: {key}")
    return wanted


def _filters(
    conditions: Mapping[str, Any], meter: Meter, depth: int, *, contains: bool = False
) -> dict[str, Callable[[str], bool]]:
    for key in conditions:
        if key not in (meter.get("groupBy") or {}):
            raise ValueError(f"invalid group by filter: {key}")
    return {
        key: text_test(condition, depth, contains=contains) for key, condition in conditions.items()
    }


def _v3_subjects(condition: Any) -> tuple[str, ...]:
    if condition is None:
        return ()
    if not condition.keys() <= {"eq", "in"} or len(condition) > 1:
        raise ValueError("only eq and in filter operators are supported for this field")
    return (condition["eq"],) if "eq" in condition else _texts(condition, "in")


def _v3_condition(condition: Mapping[str, Any]) -> dict[str, Any]:
    signs: dict[str, Any] = {}
    for sign, operand in condition.items():
        if sign not in _V3_SIGNS:
            raise UnknownError(f"the operator {sign}")
        several = sign in ("and", "or")
        signs[_V3_SIGNS[sign]] = [_v3_condition(each) for each in operand] if several else operand
    return signs


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text} names no zone")
    return time


def _zone(name: str | None) -> ZoneInfo:
    try:
        return ZoneInfo(name or "UTC")
    except (LookupError, ValueError, OSError):
        raise ValueError(f"invalid time zone: {name}") from None


def _one_of(sizes: Mapping[str, WindowSize], name: str | None, what: str) -> WindowSize | None:
    if name is not None and name not in sizes:
        raise ValueError(f"invalid {what}: {name}")
    return None if name is None else sizes[name]


def _rfc3339(time: datetime) -> str:
    text = time.isoformat()
    moment, offset = text[:-6], text[-6:]
    moment = moment.rstrip("0") if "." in moment else moment
    return moment + ("Z" if offset == "+00:00" else offset)


def _json(document: Any) -> Answer:
    return Answer(200, {"Content-Type": "application/json"}, json.dumps(document).encode())
