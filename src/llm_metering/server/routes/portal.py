"""What customers see: portal tokens, the links that stand for them, and the usage that they show."""

from __future__ import annotations

import json

from fastapi import APIRouter, Request, Response
from pydantic import ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool

from ...access import PortalToken
from ...errors import PortalTokenError
from ..cookies import clear_portal_cookie, set_portal_cookie
from ..desk import Asker, Desk, TheDesk
from ..documents import refusals
from ..problems import Refusal
from ..questions import Asked
from ..shapes import Answered, Given, Moment
from ..stored_meters import StoredMeter
from .meters import found_meter
from .queries import QUERY, QueryResult, answered

__all__ = ["router", "shows"]

router = APIRouter(prefix="/api/v1/portal", tags=["Portal"])


class Exchange(Given):
    """A code that somebody has got with a link."""

    model_config = ConfigDict(title="PortalExchange")

    code: str = Field(min_length=1, max_length=256)


class Session(Answered):
    """What a customer may see."""

    model_config = ConfigDict(title="PortalSession")

    subject: str
    meters: list[str] = Field(description="Slugs.")
    expires_at: Moment


@router.post(
    "/session",
    operation_id="beginPortalSession",
    summary="Exchange a code for a cookie",
    responses=refusals(400, 401, 408, 413, 415, 503),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": Exchange.model_json_schema()}},
        },
    },
)
async def begin_session(request: Request, response: Response, desk: TheDesk) -> Session:
    """Sets the token of a code as a cookie that no script can read and no other site can use.

    No key is wanted: whoever has the code was given it.
    """
    # A page of another site can make a browser send a form here, or plain text, but no JSON.
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Refusal(415, "a code is sent as application/json")
    try:
        given = Exchange.model_validate(json.loads(await request.body()))
    except (ValidationError, ValueError, RecursionError):
        raise Refusal(400, 'what is wanted is {"code": "…"}') from None
    try:
        token, text = await run_in_threadpool(desk.tokens.exchange, given.code)
    except PortalTokenError as error:
        raise Refusal(401, "the code is not accepted", reason=f"code {error.reason}") from None
    set_portal_cookie(request, response, text, token.expires_at - desk.now())
    return await _session(desk, token)


@router.get(
    "/session",
    operation_id="portalSession",
    summary="What the token shows",
    responses=refusals(401, 403, 503),
)
async def session(desk: TheDesk, caller: Asker) -> Session:
    """Whose usage, by which meters, and until when. Takes a portal token."""
    return await _session(desk, caller.needs_token())


@router.delete(
    "/session",
    operation_id="endPortalSession",
    summary="Forget the cookie",
    status_code=204,
    response_class=Response,
    responses=refusals(401, 403, 503),
)
async def end_session(request: Request, caller: Asker) -> Response:
    """The token holds on, elsewhere; it is taken back with `invalidate`. Takes a portal token."""
    caller.needs_token()
    response = Response(status_code=204)
    clear_portal_cookie(request, response)
    return response


@router.get(
    "/meters/{slug}/query",
    operation_id="queryPortalMeter",
    summary="What a meter says of a customer",
    response_model=QueryResult,
    responses={
        200: {"content": {"text/csv": {"schema": {"type": "string"}}}},
        **refusals(400, 401, 403, 404, 429, 501, 503),
    },
    openapi_extra={"parameters": QUERY},
)
async def query_portal_meter(slug: str, request: Request, desk: TheDesk, caller: Asker) -> Response:
    """Usage of the token's subject alone, by window and key. Takes a portal token."""
    token = caller.needs_token()
    asked = Asked.of_parameters(request.query_params.multi_items(), of_subjects=(token.subject,))
    meter = await found_meter(desk, slug)
    if not shows(token, meter):
        raise Refusal(403, "this token does not show that meter", reason="meter")
    return await answered(request, desk, meter, asked)


def shows(token: PortalToken, meter: StoredMeter) -> bool:
    """Whether a token shows a meter."""
    # What a call cost whoever sells it is none of a customer's business, unless somebody says so.
    if token.meters is None:
        return meter.definition.book is None
    return token.covers_meter(meter.slug)


async def _session(desk: Desk, token: PortalToken) -> Session:
    meters = await run_in_threadpool(desk.meters.all)
    return Session(
        subject=token.subject,
        meters=sorted(meter.slug for meter in meters if shows(token, meter)),
        expires_at=token.expires_at,
    )
