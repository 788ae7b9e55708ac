"""What meters say."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Request, Response
from pydantic import ConfigDict, Field

from ...ledger import Ledger
from ...meters import UsageQuery, usage_query
from ...meters.windows import Window
from ..desk import Desk, Reader, ReaderOfAll, TheDesk
from ..documents import refusals
from ..parameters import PERIOD, check_parameters, moment_of, parameter
from ..problems import Refusal
from ..questions import Asked, QueryRequest, answer, keys_of, subjects_of, values_of
from ..shapes import Answered, Moment
from ..stored_meters import StoredMeter
from .meters import found_meter

__all__ = ["QUERY", "QueryResult", "answered", "router"]

router = APIRouter(prefix="/api/v1/meters", tags=["Usage"])


class QueryRow(Answered):
    """Usage of one window and group."""

    model_config = ConfigDict(title="MeterQueryRow")

    value: float | str = Field(
        description="What the meter says; of meters of money and credits the digits of a decimal."
    )
    window_start: Moment
    window_end: Moment
    subject: str | None = Field(description="Null where subjects are not told apart.")
    group_by: dict[str, str | None] = Field(description="Null where the events have none.")


class QueryResult(Answered):
    """The answer to a question; a window or group without events has no row."""

    model_config = ConfigDict(title="MeterQueryResult")

    from_: Moment | None = Field(default=None, alias="from")
    to: Moment | None = None
    window_size: Window | None = None
    data: list[QueryRow]
    unpriced: int | None = Field(
        default=None, description="Of meters of money and credits, how many events have no price."
    )
    currency: str | None = Field(
        default=None, description="What the values are of, by ISO 4217, or credits."
    )


CSV: Final = "text/csv"
_FILTERS: Final = {
    "type": "object",
    "additionalProperties": {"type": "string"},
}
_TEXTS: Final = {"type": "array", "items": {"type": "string"}, "maxItems": 100}

QUERY: Final[list[dict[str, Any]]] = [
    parameter("clientId", {"type": "string", "minLength": 1, "maxLength": 36}, "Is not used."),
    *PERIOD,
    parameter(
        "windowSize",
        {"type": "string", "enum": ["MINUTE", "HOUR", "DAY", "MONTH"]},
        "How long a row's window is; without it, all of the period is one.",
    ),
    parameter(
        "windowTimeZone",
        {"type": "string"},
        "Whose hours, days and months: a name of the IANA database; else UTC.",
    ),
    parameter(
        "filterGroupBy",
        _FILTERS,
        "The value that an event must have, by key: filterGroupBy[model]=gpt-5.",
        style="deepObject",
        explode=True,
    ),
    {
        "name": "advancedMeterGroupByFilters",
        "in": "query",
        "description": "Conditions by key, as JSON.",
        "content": {
            "application/json": {
                "schema": {"type": "object", "additionalProperties": {"type": "object"}}
            }
        },
    },
    parameter("groupBy", _TEXTS, "Keys of the meter, or subject, to tell apart."),
]
_SUBJECTS: Final = parameter("subject", _TEXTS, "Whose usage; each has rows of its own then.")
_CUSTOMERS: Final = parameter(
    "filterCustomerId", _TEXTS, "There are no customers here: it is refused."
)
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {CSV: {"schema": {"type": "string"}}}},
    **refusals(400, 401, 403, 404, 429, 501, 503),
}
_LIST_ANSWERS: Final = refusals(400, 401, 403, 404, 429, 501, 503)


@router.get(
    "/{name}/query",
    operation_id="queryMeter",
    summary="What a meter says",
    response_model=QueryResult,
    responses=_ANSWERS,
    openapi_extra={"parameters": [*QUERY, _SUBJECTS, _CUSTOMERS]},
)
async def query_meter(name: str, request: Request, desk: TheDesk, caller: Reader) -> Response:
    """Usage by window, subject and key, as JSON or, if asked for, as CSV. Needs `read`.

    A key that is bound to subjects has to name which of them.
    """
    asked = Asked.of_parameters(request.query_params.multi_items())
    caller.needs_subjects(asked.subjects)
    return await answered(request, desk, await found_meter(desk, name), asked)


@router.post(
    "/{name}/query",
    operation_id="queryMeterPost",
    summary="What a meter says",
    response_model=QueryResult,
    responses={**_ANSWERS, **refusals(413)},
)
async def query_meter_post(
    name: str,
    given: Annotated[QueryRequest, Body()],
    request: Request,
    desk: TheDesk,
    caller: Reader,
) -> Response:
    """The same, with a body, which is in nobody's access log. Needs `read`."""
    check_parameters(request, ())
    asked = Asked.of_request(given)
    caller.needs_subjects(asked.subjects)
    return await answered(request, desk, await found_meter(desk, name), asked)


@router.get(
    "/{name}/subjects",
    operation_id="listMeterSubjects",
    summary="The subjects of a meter",
    responses=_LIST_ANSWERS,
    openapi_extra={"parameters": PERIOD},
)
async def meter_subjects(
    name: str, request: Request, desk: TheDesk, _caller: ReaderOfAll
) -> list[str]:
    """Whose events it looks at, sorted. Needs `read`, of everybody."""
    _, query = await _period(name, request, desk)
    if query is None:
        return []
    return await desk.reading.ask(lambda ledger: subjects_of(ledger, query))


@router.get(
    "/{name}/group-by/{key}/values",
    operation_id="listMeterGroupByValues",
    summary="The values of a key",
    responses=_LIST_ANSWERS,
    openapi_extra={"parameters": PERIOD},
)
async def group_by_values(
    name: str, key: str, request: Request, desk: TheDesk, _caller: ReaderOfAll
) -> list[str]:
    """Of all events that a meter looks at, sorted; empty stands for those without. Needs `read`, of everybody."""
    meter, query = await _period(name, request, desk)
    if key not in keys_of(meter.definition):
        raise Refusal(400, f"the meter {meter.slug} has no key {key[:100]}")
    if query is None:
        return []
    return await desk.reading.ask(lambda ledger: values_of(ledger, query, key))


async def answered(request: Request, desk: Desk, meter: StoredMeter, asked: Asked) -> Response:
    """The answer to a question, in the form that is asked for: CSV or JSON.

    Raises:
        Refusal: If there is none.
    """
    accepted = request.headers.get("accept", "")
    as_csv = CSV in accepted and "application/json" not in accepted

    def written(ledger: Ledger) -> str:
        report = answer(desk.reading, ledger, meter, asked)
        return report.to_csv() if as_csv else report.to_json()

    # Written there as well: a month of minutes is megabytes.
    text = await desk.reading.ask(written)
    if not as_csv:
        return Response(text, media_type="application/json")
    headers = {"Content-Disposition": f'attachment; filename="{meter.slug}.csv"'}
    return Response(text, media_type=CSV, headers=headers)


async def _period(name: str, request: Request, desk: Desk) -> tuple[StoredMeter, UsageQuery | None]:
    """The meter, and the question about all that it counts in a period; `None` if it counts none of it."""
    check_parameters(request, ["from", "to"])
    meter = await found_meter(desk, name)
    start, end = moment_of(request, "from"), moment_of(request, "to")
    if start is not None and end is not None and start >= end:
        raise Refusal(400, "from must be before to")
    if meter.event_from is not None:
        start = max(start or meter.event_from, meter.event_from)
        if end is not None and end <= start:
            return meter, None
    return meter, usage_query(meter.definition, start=start, end=end)
