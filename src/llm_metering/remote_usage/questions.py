"""Questions about usage as OpenMeter's v1 and v3 take them, by POST.

By POST, since a GET has one value of a key at most, and everybody's access log shows who was asked
for. Sources: `MeterQueryRequest` of `api/openapi.yaml` and `api/v3/openapi.yaml`,
`openmeter/meter/httphandler/mapping.go`, `api/v3/handlers/meters/query/params.go` and
`pkg/filter/filter.go`, https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c:

- A filter with an empty text in it is refused. v1 finds what lacks a key by comparing: nothing but
  the empty text is less than U+0001. v3 has no such comparison, so we group by the key and choose;
  of several groups one has to be made, of which those without any value are not told.
- A list has at most 100 items in v3, and `or` at most 10 of them.
- v1 knows `advancedMeterGroupByFilters` from v1.0.0-beta.225 on; older servers pass over it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..errors import QueryError
from ..meters import UsageQuery, rfc3339
from ..meters.definitions import Aggregation
from ..meters.text_conditions import LEAST
from ..meters.windows import Window

__all__ = ["JOINED", "MOST_SUBJECTS", "Question", "questions_of"]

MOST_SUBJECTS: Final = 100
"""That a server takes in one request, in both APIs."""

_MOST_VALUES: Final = 100
_MOST_LISTS: Final = 10
_GRANULARITIES: Final[Mapping[Window, str]] = {
    "MINUTE": "PT1M",
    "HOUR": "PT1H",
    "DAY": "P1D",
    "MONTH": "P1M",
}
JOINED: Final[Mapping[Aggregation, Callable[[Any, Any], Any]]] = {
    "SUM": lambda one, other: one + other,
    "COUNT": lambda one, other: one + other,
    "MIN": min,
    "MAX": max,
}
"""How the values of two groups make that of both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request.

    Attributes:
        body: What is posted.
        choose: Keys that the server groups by so that we can choose, each with what is wanted.
        needs_conditions: Whether v1 has to know `advancedMeterGroupByFilters`.
    """

    body: Mapping[str, Any]
    choose: Mapping[str, frozenset[str]] = field(default_factory=dict)
    needs_conditions: bool = False


def questions_of(query: UsageQuery, api: str, provenance: str | None) -> Iterator[Question]:
    """What to ask, so that the answers together are that of the question.

    Args:
        query: The question; its bounds are whole seconds.
        api: `v1` or `v3`.
        provenance: The server's key of the provenance, if estimates are left out.

    Raises:
        QueryError: If v3 cannot be asked that.
    """
    make = _v1 if api == "v1" else _v3
    subjects = query.subjects
    if subjects is None:
        yield make(query, (), provenance)
        return
    for first in range(0, len(subjects), MOST_SUBJECTS):
        yield make(query, subjects[first : first + MOST_SUBJECTS], provenance)


def _v1(query: UsageQuery, subjects: Sequence[str], provenance: str | None) -> Question:
    conditions: dict[str, list[Any]] = {}
    for key, values in query.filters:
        texts = [value for value in values if value]
        parts: list[Any] = [{"$in": texts}] if texts else []
        if len(texts) < len(values):
            parts.append({"$lt": LEAST})
        conditions[key] = [parts[0] if len(parts) == 1 else {"$or": parts}]
    simple = {key: each["$in"] for key, [each] in conditions.items() if "$in" in each}
    body: dict[str, Any] = {**_period(query), "groupBy": list(_groups(query))}
    if query.window:
        body |= {"windowSize": query.window, "windowTimeZone": query.time_zone}
    if subjects:
        body["subject"] = list(subjects)
    if provenance is None and len(simple) == len(conditions):
        return Question(body={**body, **({"filterGroupBy": simple} if simple else {})})
    if provenance is not None:
        without = {"$nin": list(query.excluded_provenances)}
        conditions.setdefault(provenance, []).append(without)
    body["advancedMeterGroupByFilters"] = {
        key: parts[0] if len(parts) == 1 else {"$and": parts} for key, parts in conditions.items()
    }
    return Question(body=body, needs_conditions=True)


def _v3(query: UsageQuery, subjects: Sequence[str], provenance: str | None) -> Question:
    choose: dict[str, frozenset[str]] = {}
    conditions: dict[str, list[Any]] = {}
    for key, values in query.filters:
        if "" in values:
            if len(values) > 1:
                _check_joining(query)
            choose[key] = frozenset(values)
        else:
            conditions[key] = [_one_of(key, values)]
    if provenance is not None:
        without = {"nin": list(query.excluded_provenances)}
        conditions.setdefault(provenance, []).append(without)
    dimensions = {
        key: parts[0] if len(parts) == 1 else {"and": parts} for key, parts in conditions.items()
    }
    if subjects:
        dimensions["subject"] = {"in": list(subjects)}
    groups = dict.fromkeys((*_groups(query), *choose))
    body: dict[str, Any] = {**_period(query), "group_by_dimensions": list(groups)}
    if query.window:
        body |= {"granularity": _GRANULARITIES[query.window], "time_zone": query.time_zone}
    if dimensions:
        body["filters"] = {"dimensions": dimensions}
    return Question(body=body, choose=choose)


def _check_joining(query: UsageQuery) -> None:
    instead = 'ask for "" by itself, or by API v1'
    if query.meter.aggregation not in JOINED:
        raise QueryError(
            f"filters: OpenMeter's API v3 cannot ask {query.meter.aggregation} for events that lack a "
            f"key and others at once; {instead}"
        )
    if query.window is None and (query.start is None or query.end is None):
        raise QueryError(
            "filters: OpenMeter's API v3 cannot say when the first and the last event was of those "
            f"that lack a key and others at once; give start and end, {instead}"
        )


def _one_of(key: str, values: Sequence[str]) -> Any:
    if len(values) > _MOST_VALUES * _MOST_LISTS:
        raise QueryError(
            f"filters: {key} has {len(values)} values, and OpenMeter's API v3 takes at most "
            f"{_MOST_VALUES * _MOST_LISTS}"
        )
    lists = [
        {"in": list(values[first : first + _MOST_VALUES])}
        for first in range(0, len(values), _MOST_VALUES)
    ]
    return lists[0] if len(lists) == 1 else {"or": lists}


def _groups(query: UsageQuery) -> Iterator[str]:
    if query.by_subject:
        yield "subject"
    yield from query.keys


def _period(query: UsageQuery) -> dict[str, str]:
    bounds = {"from": query.start, "to": query.end}
    return {name: rfc3339(moment) for name, moment in bounds.items() if moment is not None}
