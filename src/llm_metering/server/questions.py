"""Questions about usage as OpenMeter's API takes them, in the address of a GET or the body of a POST.

Source: `MeterQuery.*` and `MeterQueryRequest` of `api/openapi.yaml`, and `toQueryParamsFromAPIParams` of
`openmeter/meter/httphandler/mapping.go`,
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c. A parameter that
nobody knows is refused: a filter that was passed over would make a number wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pydantic import ConfigDict, Field, ValidationError

from ..ledger import Ledger
from ..meters import MeterDefinition, UsageQuery, UsageReport, usage_query
from ..meters.text_conditions import listed_texts, text_test
from ..meters.windows import Window
from .problems import Refusal
from .reading import Reading
from .shapes import Given
from .stored_meters import StoredMeter

__all__ = [
    "Asked",
    "QueryRequest",
    "answer",
    "keys_of",
    "question_of",
    "subjects_of",
    "values_of",
]

MOST_ITEMS: Final = 100
_DEPTH: Final = 30
_FILTER: Final = re.compile(r"filterGroupBy\[([^\]]*)\]")
_ONCE: Final = ("clientId", "from", "to", "windowSize", "windowTimeZone")
_ADVANCED: Final = "advancedMeterGroupByFilters"


class QueryRequest(Given):
    """A question, as it is posted."""

    model_config = ConfigDict(title="MeterQueryRequest")

    client_id: str | None = Field(
        default=None, min_length=1, max_length=36, description="Is not used."
    )
    from_: str | None = Field(
        default=None,
        alias="from",
        description="The first moment that counts, by RFC 3339; the beginning of time if left out.",
        json_schema_extra={"format": "date-time"},
    )
    to: str | None = Field(
        default=None,
        description="The first moment after it that no longer counts.",
        json_schema_extra={"format": "date-time"},
    )
    window_size: Window | None = Field(
        default=None,
        description="How long a row's window is; without it, all of the period is one.",
    )
    window_time_zone: str | None = Field(
        default=None,
        description="Whose hours, days and months: a name of the IANA database; else UTC.",
    )
    subject: list[str] | None = Field(
        default=None,
        max_length=MOST_ITEMS,
        description="Whose usage; each has rows of its own then.",
    )
    filter_customer_id: list[str] | None = Field(
        default=None,
        max_length=MOST_ITEMS,
        description="There are no customers here: it is refused.",
    )
    filter_group_by: dict[str, list[str]] | None = Field(
        default=None, description="By key of the meter, the values one of which an event must have."
    )
    advanced_meter_group_by_filters: dict[str, dict[str, Any]] | None = Field(
        default=None,
        description='By key of the meter, a condition, such as {"$in": ["gpt-5", "o3"]}.',
    )
    group_by: list[str] | None = Field(
        default=None,
        max_length=MOST_ITEMS,
        description="Keys of the meter, or `subject`, to tell apart.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question about some meter, not yet checked.

    Attributes:
        start: The first moment that counts, by RFC 3339.
        end: The first that no longer counts.
        window: How long a row's window is.
        time_zone: Whose windows.
        subjects: Whose usage; `None` is everybody's together.
        group_by: What is told apart.
        conditions: By key, what its value has to be like.
    """

    start: str | None = None
    end: str | None = None
    window: str | None = None
    time_zone: str | None = None
    subjects: tuple[str, ...] | None = None
    group_by: tuple[str, ...] = ()
    conditions: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of_parameters(
        cls, parameters: Iterable[tuple[str, str]], *, of_subjects: tuple[str, ...] | None = None
    ) -> Asked:
        """Read the parameters of a GET.

        Args:
            parameters: Names and values.
            of_subjects: Whose usage, where the parameters have no say in that.

        Raises:
            Refusal: If one is not known, comes twice, or is no JSON (400).
        """
        found: dict[str, Any] = {}
        for name, value in parameters:
            if name in (*_ONCE, _ADVANCED):
                if name in found:
                    raise Refusal(400, f"the parameter {name} comes twice")
                found[name] = _json(value) if name == _ADVANCED else value
            elif name in ("groupBy", "filterCustomerId") or (
                name == "subject" and of_subjects is None
            ):
                found.setdefault(name, []).append(value)
            elif key := _FILTER.fullmatch(name):
                found.setdefault("filterGroupBy", {}).setdefault(key[1], []).append(value)
            elif name == "filterGroupBy":
                raise Refusal(400, f"write filterGroupBy[key]=value, or {_ADVANCED}")
            else:
                raise Refusal(400, f"there is no parameter {name[:100]}")
        try:
            asked = cls.of_request(QueryRequest.model_validate(found))
        except ValueError as error:
            raise Refusal(400, _first(error)) from None
        return asked if of_subjects is None else replace(asked, subjects=of_subjects)

    @classmethod
    def of_request(cls, asked: QueryRequest) -> Asked:
        """Read the body of a POST.

        Raises:
            Refusal: If it asks for customers, or filters in both ways at once (400).
        """
        if asked.filter_customer_id:
            raise Refusal(400, "there are no customers here; ask for subjects")
        simple, advanced = asked.filter_group_by or {}, asked.advanced_meter_group_by_filters or {}
        if simple and advanced:
            raise Refusal(400, f"filterGroupBy and {_ADVANCED} do not go together")
        listed = {key: {"$in": values} for key, values in simple.items() if values}
        return cls(
            start=asked.from_,
            end=asked.to,
            window=asked.window_size,
            time_zone=asked.window_time_zone,
            subjects=None if asked.subject is None else tuple(asked.subject),
            group_by=tuple(asked.group_by or ()),
            conditions=listed or advanced,
        )


def keys_of(meter: MeterDefinition) -> frozenset[str]:
    """What usage of a meter can be told apart by, besides the subject."""
    if meter.book is not None:
        return frozenset(meter.group_by)
    return frozenset(meter.to_dict()["groupBy"])


def answer(reading: Reading, ledger: Ledger, stored: StoredMeter, asked: Asked) -> UsageReport:
    """Answer a question.

    Args:
        reading: Who asks.
        ledger: Its ledger.
        stored: The meter.
        asked: What about it.

    Raises:
        QueryError: If the question makes no sense.
        Refusal: If the meter has no such key (400).
        LedgerError: If the ledger cannot be read.
    """
    query = question_of(stored, asked)
    if query is None:
        return UsageReport(query=_query(stored, asked))
    filters = {}
    for key, condition in asked.conditions.items():
        values = _fitting(ledger, query, key, condition)
        if values == ():
            return UsageReport(query=query)
        if values is not None:
            filters[key] = values
    return reading.usage(ledger, replace(query, filters=tuple(filters.items())))


def question_of(stored: StoredMeter, asked: Asked) -> UsageQuery | None:
    """The question to the ledger, without its conditions; `None` if the meter counts nothing of the period.

    Args:
        stored: The meter.
        asked: What about it.

    Raises:
        QueryError: If the question makes no sense.
        Refusal: If the meter has no such key (400).
    """
    known = keys_of(stored.definition)
    for key in (*(each for each in asked.group_by if each != "subject"), *asked.conditions):
        if key not in known:
            raise Refusal(
                400,
                f"the meter {stored.slug} has no key {key[:100]}; "
                f"there are {', '.join(['subject', *sorted(known)])}",
            )
    query = _query(stored, asked)
    since = stored.event_from
    if since is not None and (query.start is None or query.start < since):
        if query.end is not None and query.end <= since:
            return None
        query = replace(query, start=since)
    return query


def _query(stored: StoredMeter, asked: Asked) -> UsageQuery:
    by_subject = ("subject",) if asked.subjects == () else ()
    return usage_query(
        stored.definition,
        subject=asked.subjects or None,
        window=asked.window,
        start=asked.start,
        end=asked.end,
        group_by=(*asked.group_by, *by_subject),
        time_zone=asked.time_zone or "UTC",
    )


def values_of(ledger: Ledger, query: UsageQuery, key: str) -> list[str]:
    """The values of a key, sorted, of all events that a question may count; `""` stands for none.

    Raises:
        QueryError: If the key cannot be looked up.
        LedgerError: If the ledger cannot be read.
    """
    rows = ledger.query(replace(_counting(query), group_by=(key,))).rows
    return sorted({row.group_by[key] or "" for row in rows})


def subjects_of(ledger: Ledger, query: UsageQuery) -> list[str]:
    """The subjects, sorted, of all events that a question may count.

    Raises:
        LedgerError: If the ledger cannot be read.
    """
    rows = ledger.query(replace(_counting(query), group_by=("subject",))).rows
    return sorted({row.subject for row in rows if row.subject is not None})


def _counting(query: UsageQuery) -> UsageQuery:
    """The question of how many events there are, which each of them has a part in."""
    meter = query.meter
    if meter.book is not None:
        # A currency is no property of events.
        return replace(query, window=None, filters=(), group_by=())
    counting = MeterDefinition(
        slug=meter.slug,
        event_type=meter.event_type,
        aggregation="COUNT",
        group_by={key: query.path_of(key) for key in keys_of(meter)},
        estimates=meter.estimates,
    )
    return replace(query, meter=counting, window=None, filters=(), group_by=())


def _fitting(
    ledger: Ledger, query: UsageQuery, key: str, condition: object
) -> tuple[str, ...] | None:
    """The values of a key that fit a condition; `None` if all do."""
    test = text_test(condition, _DEPTH)
    listed = listed_texts(condition)
    if listed is not None:
        return listed
    if condition == {}:
        return None
    # Looked at one by one, as the ledger looks for values that it is told.
    return tuple(value for value in values_of(ledger, query, key) if test(value))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Refusal(400, f"{_ADVANCED} is no JSON") from None


def _first(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return "the question is not as it should be"
    found = error.errors()[0]
    return f"{'.'.join(map(str, found['loc']))}: {found['msg']}"
