"""Bills: what subjects owe, by the plans of the settings."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import ConfigDict, Field

from ...bills.asking import Bills
from ...meter import Meter
from ..desk import Reader, TheDesk
from ..documents import refusals
from ..parameters import check_parameters, parameter
from ..shapes import Answered

__all__ = ["router"]

router = APIRouter(prefix="/api/v1/bills", tags=["Bills"])


class BillsShape(Answered):
    """What subjects owe."""

    model_config = ConfigDict(title="Bills")

    bills: list[dict[str, Any]] = Field(
        description="As `llm-metering bill --format json` has each."
    )
    refused: dict[str, str] = Field(
        description="Who cannot be billed though there is usage, with the reason."
    )


@router.get(
    "",
    operation_id="listBills",
    summary="What is owed",
    response_model=BillsShape,
    responses=refusals(400, 401, 403, 429, 501, 503),
    openapi_extra={
        "parameters": [
            parameter(
                "month", {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}$"}, "Such as 2026-11."
            ),
            parameter(
                "subject", {"type": "string"}, "Who; everybody with a plan or usage, if left out."
            ),
        ]
    },
)
async def list_bills(request: Request, desk: TheDesk, caller: Reader) -> Response:
    """Of a month, in the time zone of each one's plan; of this month, if none is named. Needs `read`.

    A bill is of what the ledger had about a second ago.
    """
    check_parameters(request, ["month", "subject"])
    asked = request.query_params
    subject = asked.get("subject")
    caller.needs_subjects(None if subject is None else [subject])
    month = asked.get("month") or f"{desk.now():%Y-%m}"

    def made(meter: Meter) -> str:
        subjects = None if subject is None else [subject]
        found: Bills = meter.bills(month, subjects=subjects, allow_incomplete=True)
        document = {"bills": [each.to_dict() for each in found], "refused": dict(found.refused)}
        return json.dumps(document)

    return Response(await desk.allowance.ask(made), media_type="application/json")
