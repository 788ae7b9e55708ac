"""The fake server's lists of meters, `/api/v1/meters` and `/api/v3/openmeter/meters`: GET and POST.

Source: `Meter` and what creates one in `api/openapi.yaml` (v1) and `api/v3/openapi.yaml`,
`openmeter/meter/meter.go` and `openmeter/meter/adapter/manage.go`,
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

from ..received import Received
from .ingest import API, Answer, problem_answer
from .values import Meter

__all__ = ["METER_LISTS", "check_meters", "create_meter", "described", "in_v3", "list_meters"]

_REQUIRED: Final = frozenset(["slug", "eventType", "aggregation"])
_KNOWN: Final = _REQUIRED | {"valueProperty", "groupBy", "eventFrom", "name", "description"}
_AGGREGATIONS: Final = frozenset(["SUM", "COUNT", "UNIQUE_COUNT", "AVG", "MIN", "MAX", "LATEST"])
_V3_NAMES: Final = {
    "slug": "key",
    "eventType": "event_type",
    "valueProperty": "value_property",
    "groupBy": "dimensions",
    "eventFrom": "events_from",
}
_SINCE: Final = "2026-01-01T00:00:00Z"
_PAGE_SIZE: Final = 100
_SLUG: Final = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*")
_MAX_NUMBER: Final = 1000


def check_meters(meters: Sequence[Meter]) -> list[dict[str, Any]]:
    """The meters, as the server keeps them.

    Raises:
        ValueError: If OpenMeter would not take one.
    """
    for meter in meters:
        if not _REQUIRED <= meter.keys() <= _KNOWN:
            raise ValueError(f"a meter has {sorted(_REQUIRED)}, and may have {sorted(_KNOWN)}")
        if meter["aggregation"] not in _AGGREGATIONS:
            raise ValueError(f"aggregation is one of {sorted(_AGGREGATIONS)}")
        if meter["aggregation"] != "COUNT" and not meter.get("valueProperty"):
            raise ValueError("a meter that does not count has a valueProperty")
    return [dict(meter) for meter in meters]


def list_meters(path: str, query: str, meters: Sequence[Meter]) -> Answer:
    """Answer a request for a list.

    Args:
        path: One of `METER_LISTS`.
        query: What follows the question mark.
        meters: All there are.
    """
    asked = dict(parse_qsl(query, keep_blank_values=True))
    number_name, size_name, make = METER_LISTS[path]
    try:
        number = _number(asked.pop(number_name, "1"))
        size = _number(asked.pop(size_name, str(_PAGE_SIZE)))
    except ValueError as error:
        return problem_answer("v1", 400, f"validation error: {error}")
    if asked:
        return problem_answer("v1", 501, f"the fake server does not know {', '.join(asked)}")
    page = list(enumerate(meters))[(number - 1) * size : number * size]
    document = make([described(*each) for each in page], number, size, len(meters))
    return Answer(200, {"Content-Type": "application/json"}, json.dumps(document).encode())


def create_meter(request: Received, meters: list[dict[str, Any]]) -> Answer:
    """Answer a request to create a meter; one whose slug is there is refused.

    Args:
        request: The request.
        meters: All there are; the new one is added.
    """
    api: API = "v3" if request.path.startswith("/api/v3/") else "v1"
    if request.headers["Content-Type"] != "application/json":
        return problem_answer(api, 400, "header Content-Type has unexpected value")
    try:
        asked = json.loads(request.body)
        [meter] = check_meters([_from_v3(asked) if api == "v3" else _from_v1(asked)])
        _check_strictly(meter)
    except (ValueError, TypeError, AttributeError) as error:
        return problem_answer(api, 400, f"validation error: {error}")
    if meter["slug"] in [each["slug"] for each in meters]:
        return problem_answer(api, 409, "meter with the same slug already exists")
    meters.append(meter)
    shown = described(len(meters) - 1, meter)
    body = json.dumps(in_v3(shown) if api == "v3" else shown).encode()
    # v1's document says 201, and `openmeter/meter/httphandler/meter.go` answers otherwise.
    status = 201 if api == "v3" else 200
    return Answer(status, {"Content-Type": "application/json"}, body)


def _check_strictly(meter: Meter) -> None:
    if not _SLUG.fullmatch(meter["slug"]):
        raise ValueError("the slug does not match its pattern")
    paths = [*(meter.get("groupBy") or {}).values(), meter.get("valueProperty", "$")]
    if not all(path.startswith("$") for path in paths):
        raise ValueError("value property and group by values must start with $")
    if meter["aggregation"] == "COUNT" and "valueProperty" in meter:
        raise ValueError("meter value property is not allowed when the aggregation is count")


def _from_v1(asked: Mapping[str, Any]) -> dict[str, Any]:
    # What it does not know it passes over.
    return {name: value for name, value in asked.items() if name in _KNOWN}


def _from_v3(asked: Mapping[str, Any]) -> dict[str, Any]:
    if not {"name", "key", "aggregation", "event_type"} <= asked.keys():
        raise ValueError("name, key, aggregation and event_type are required")
    if rest := asked.keys() - {"name", "description", "aggregation", *_V3_NAMES.values()}:
        raise ValueError(f"property {min(rest)!r} is unsupported")
    if asked["aggregation"] != asked["aggregation"].lower():
        raise ValueError("aggregation is none of those there are")
    names = {name: ours for ours, name in _V3_NAMES.items()}
    meter = {names.get(name, name): value for name, value in asked.items()}
    return {**meter, "aggregation": asked["aggregation"].upper()}


def _number(text: str) -> int:
    if not 1 <= (number := int(text)) <= _MAX_NUMBER:
        raise ValueError(f"a page and its size are from 1 to {_MAX_NUMBER}")
    return number


def described(number: int, meter: Meter) -> dict[str, Any]:
    """A meter as v1 shows it."""
    # Ids are ULIDs, whose letters leave out I, L, O and U.
    added = {"id": f"01HZ{number:022d}", "createdAt": _SINCE, "updatedAt": _SINCE}
    return {"name": meter["slug"], **meter, **added}


def _v1(meters: list[dict[str, Any]], _number: int, _size: int, _total: int) -> Any:
    return meters


def _v3(meters: list[dict[str, Any]], number: int, size: int, total: int) -> Any:
    return {
        "data": [in_v3(meter) for meter in meters],
        "meta": {"page": {"number": number, "size": size, "total": total}},
    }


def in_v3(meter: Meter) -> dict[str, Any]:
    """A meter of v1 as v3 shows it."""
    renamed = {_V3_NAMES.get(name, name): value for name, value in meter.items()}
    renamed["created_at"] = renamed.pop("createdAt")
    renamed["updated_at"] = renamed.pop("updatedAt")
    return {**renamed, "aggregation": meter["aggregation"].lower()}


_Make = Callable[[list[dict[str, Any]], int, int, int], Any]

METER_LISTS: Final[Mapping[str, tuple[str, str, _Make]]] = {
    "/api/v1/meters": ("page", "pageSize", _v1),
    "/api/v3/openmeter/meters": ("page[number]", "page[size]", _v3),
}
"""By path: what the parameters are called, and how the document is made."""
