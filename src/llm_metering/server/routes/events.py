"""Events come in."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from ..callers import Caller
from ..desk import Asker, Desk, TheDesk
from ..documents import refusals
from ..incoming import BATCH, EITHER, SINGLE, read_events
from ..intake import Taken

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
async def ingest(request: Request, desk: TheDesk, caller: Asker) -> Response:
    """Record one event or many. Needs `ingest`.

    With the answer all of them are in the journal. An event that was recorded before, under its source
    and id, is counted once; another one under the same source and id is refused. A request is refused
    as a whole.
    """
    caller.needs("ingest")
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
        caller.may_send(source, paying)
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
