"""Whether the server works, and what it did."""

from __future__ import annotations

import logging
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from ...errors import MeteringError
from ..desk import Desk, ReaderOfAll, TheDesk
from ..documents import refusals
from ..intake import in_files
from ..measures import CONTENT_TYPE
from ..problems import Refusal

__all__ = ["router"]

logger = logging.getLogger("llm_metering")

router = APIRouter(tags=["Health"])


class Works(BaseModel):
    """It does."""

    status: Literal["ok"] = "ok"


@router.get("/healthz", operation_id="health", summary="Whether the process lives")
def health() -> Works:
    """Answers as long as the process does; no key is wanted."""
    return Works()


@router.get(
    "/readyz",
    operation_id="ready",
    summary="Whether events are taken",
    responses=refusals(503),
)
async def ready(desk: TheDesk) -> Works:
    """Whether the journal and the ledger take events now; no key is wanted, and nothing else is said."""
    await in_files(desk.sources.meters())
    await run_in_threadpool(_read, desk)
    return Works()


@router.get(
    "/metrics",
    operation_id="metrics",
    summary="What Prometheus scrapes",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        **refusals(401, 403, 429),
    },
)
def metrics(desk: TheDesk, _caller: ReaderOfAll) -> Response:
    """Requests, events, and what became of them, by sink. Needs `read`, of everybody."""
    return Response(desk.measures.text(), media_type=CONTENT_TYPE)


def _read(desk: Desk) -> None:
    try:
        desk.keys.all()
        desk.intake.look()
    except MeteringError as error:
        logger.error("not ready: %s", error)  # noqa: TRY400 - the request has its own line
        raise Refusal(
            503, "the ledger or the keys cannot be read now", headers={"Retry-After": "5"}
        ) from error
