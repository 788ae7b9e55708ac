"""Events come in, and are listed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ConfigDict, Field

from ...ledger import EventQuery, Ledger, ListedEvent
from ..callers import Caller
from ..desk import Desk, Reader, Sender, TheDesk
from ..documents import refusals
from ..incoming import BATCH, EITHER, SINGLE, read_events
from ..intake import Taken
from ..parameters import PERIOD, check_parameters, moment_of, parameter, whole_number_of
from ..problems import Refusal
from ..shapes import Answered, Moment, json_of

__all__ = ["router"]

router = APIRouter(prefix="/api/v1/events", tags=["Events"])

_EVENT: Final[dict[str, Any]] = {
    "type": "object",
    "title": "Event",
    "description": "A CloudEvent 1.0 in structured JSON.",
    "required": ["id", "source", "type", "subject"],
    "properties": {
        "specversion": {"type": "string", "enum": ["1.0"], "default": "1.0"},
        "id": {"type": "string", "minLength": 1, "maxLength": 1024},
        "source": {"type": "string", "minLength": 1, "maxLength": 1024},
        "type": {"type": "string", "minLength": 1, "maxLength": 1024},
        "subject": {
            "type": "string",
            "minLength": 1,
            "maxLength": 1024,
            "description": "Who pays, or a token that llm_metering.sign_subject has made of that, for "
            "this source.",
        },
        "time": {
            "type": ["string", "null"],
            "format": "date-time",
            "description": "When it was, with a time zone; now, if left out.",
        },
        "datacontenttype": {"type": ["string", "null"], "enum": ["application/json", None]},
        "dataschema": {"type": ["string", "null"]},
        "data": {"type": ["object", "null"], "additionalProperties": True},
    },
    "additionalProperties": True,
}
_REACH: Final = timedelta(days=32)
"""How far a list reaches back that says nothing else; OpenMeter's no farther."""

_MOST_LISTED: Final = 100


class IngestedEvent(Answered):
    """An event, and when it came."""

    model_config = ConfigDict(title="IngestedEvent")

    event: dict[str, Any] = Field(description="The CloudEvent as it came.")
    ingested_at: Moment = Field(
        description="When the ledger took it, to the second; its own time if nobody knows."
    )
    stored_at: Moment = Field(description="The same.")
    validation_error: str | None = Field(default=None, description="Why no meter counts it.")


_EVENTS: Final[dict[str, Any]] = {"type": "array", "items": _EVENT, "minItems": 1}


@router.post(
    "",
    operation_id="ingestEvents",
    summary="Take in events",
    status_code=204,
    response_class=Response,
    responses=refusals(400, 401, 403, 408, 409, 413, 415, 429, 503),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                SINGLE: {"schema": _EVENT},
                BATCH: {"schema": _EVENTS},
                EITHER: {"schema": {"anyOf": [_EVENT, _EVENTS]}},
            },
        }
    },
)
async def ingest(request: Request, desk: TheDesk, caller: Sender) -> Response:
    """Record one event or many. Needs `ingest`.

    With the answer all of them are in the journal. An event that was recorded before, under its source
    and id, is counted once; another one under the same source and id is refused. A request is refused
    as a whole.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await request.body()
    taken = await asyncio.get_running_loop().run_in_executor(
        desk.one_thread, _take, desk, caller, media_type, body
    )
    await desk.intake.secure(taken)
    desk.measures.ingested(recorded=taken.recorded, duplicates=taken.duplicates)
    return Response(status_code=204)


def _take(desk: Desk, caller: Caller, media_type: str, body: bytes) -> Taken:
    def payer(source: str, subject: str) -> str:
        paying = desk.payer(source, subject)
        caller.may_send(source, paying, is_signed=paying != subject)
        return paying

    options = desk.options
    events = read_events(
        media_type,
        body,
        now=desk.now(),
        payer=payer,
        max_events=options.max_events,
        max_event=options.max_event,
    )
    return desk.intake.take(events)


@router.get(
    "",
    operation_id="listEvents",
    summary="The latest events",
    response_model=list[IngestedEvent],
    responses=refusals(400, 401, 403, 429, 501, 503),
    openapi_extra={
        "parameters": [
            *PERIOD,
            parameter(
                "ingestedAtFrom",
                {"type": "string", "format": "date-time"},
                "The first second in which it may have come.",
            ),
            parameter(
                "ingestedAtTo",
                {"type": "string", "format": "date-time"},
                "The first second in which it may no longer have come.",
            ),
            parameter("id", {"type": "string"}, "A part of its id."),
            parameter("subject", {"type": "string"}, "Its subject."),
            parameter(
                "limit",
                {"type": "integer", "minimum": 1, "maximum": _MOST_LISTED, "default": _MOST_LISTED},
                "How many at most.",
            ),
            parameter("clientId", {"type": "string", "maxLength": 36}, "Is not used."),
            parameter(
                "customerId",
                {"type": "array", "items": {"type": "string"}},
                "There are no customers here: it is refused.",
            ),
        ]
    },
)
async def list_events(request: Request, desk: TheDesk, caller: Reader) -> Response:
    """Those of the last 32 days, if nothing else is asked for, by their time. Needs `read`.

    A key that is bound to subjects has to name which.
    """
    asked = request.query_params
    if "customerId" in asked:
        raise Refusal(400, "there are no customers here; ask for a subject")
    period = ["from", "to", "ingestedAtFrom", "ingestedAtTo"]
    check_parameters(request, [*period, "id", "subject", "limit", "clientId"])
    subject = asked.get("subject")
    caller.needs_subjects(None if subject is None else [subject])
    query = EventQuery(
        start=moment_of(request, "from") or desk.now() - _REACH,
        end=moment_of(request, "to"),
        arrived_from=moment_of(request, "ingestedAtFrom"),
        arrived_before=moment_of(request, "ingestedAtTo"),
        id=asked.get("id"),
        subject=subject,
        limit=whole_number_of(request, "limit", default=_MOST_LISTED, most=_MOST_LISTED),
    )

    def listed(ledger: Ledger) -> list[dict[str, Any]]:
        counted = {meter.definition.event_type for meter in desk.meters.all()}
        return [json_of(_shown(each, counted)) for each in ledger.events(query)]

    return JSONResponse(await desk.reading.ask(listed))


def _shown(listed: ListedEvent, counted: set[str]) -> IngestedEvent:
    moment = listed.arrived_at or listed.time
    is_counted = listed.type in counted
    error = None if is_counted else f"no meter found for event type: {listed.type}"
    return IngestedEvent(
        event=listed.to_dict(), ingested_at=moment, stored_at=moment, validation_error=error
    )
