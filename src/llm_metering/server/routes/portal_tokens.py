"""Portal tokens: made, listed, taken back, and the codes for links that stand for them."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Body, Request, Response
from pydantic import AwareDatetime, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from ...access import PortalToken
from ...access.portal_tokens import CODE_LIFE, DEFAULT_LIFE
from ...errors import InvalidArgumentError, PortalTokenError, SubjectError
from ..desk import Admin, TheDesk
from ..documents import refusals
from ..parameters import check_parameters, parameter, whole_number_of
from ..paths import link_path
from ..problems import Refusal
from ..shapes import Answered, Given, Moment

__all__ = ["router"]

router = APIRouter(prefix="/api/v1/portal/tokens", tags=["Portal tokens"])

_MOST_LISTED: Final = 100


class Token(Answered):
    """A portal token."""

    model_config = ConfigDict(title="PortalToken")

    id: str = Field(description="A ULID.")
    subject: str
    allowed_meter_slugs: list[str] | None = Field(
        default=None,
        description="The meters that it shows; all but those of money and credits, if absent.",
    )
    created_at: Moment
    expires_at: Moment
    expired: bool = Field(description="Whether it no longer holds, or was taken back.")
    token: str | None = Field(default=None, description="Its text; only where it is made.")


class TokenCreate(Given):
    """A portal token to be."""

    model_config = ConfigDict(title="PortalTokenCreate")

    subject: str = Field(min_length=1)
    allowed_meter_slugs: list[str] | None = Field(default=None, min_length=1, max_length=100)
    expires_at: AwareDatetime | None = Field(default=None, description="In an hour, if left out.")
    # What OpenMeter's server makes; its clients send it back, as null.
    id: None = None
    created_at: None = None
    expired: None = None
    token: None = None


class Invalidation(Given):
    """Which tokens are taken back."""

    model_config = ConfigDict(title="PortalTokenInvalidation")

    id: str | None = None
    subject: str | None = None


class Code(Answered):
    """What a link carries."""

    model_config = ConfigDict(title="PortalCode")

    code: str = Field(description="To be exchanged once.")
    path: str = Field(description="Of the page that exchanges it, where there are pages.")
    expires_at: Moment


@router.post(
    "",
    operation_id="createPortalToken",
    summary="Make a portal token",
    response_model_exclude_none=True,
    responses=refusals(400, 401, 403, 413, 429, 503),
)
async def create_token(
    given: Annotated[TokenCreate, Body()], desk: TheDesk, caller: Admin
) -> Token:
    """It shows the usage of a subject until it expires or is taken back. Needs `admin`."""
    slugs = given.allowed_meter_slugs
    known = {meter.slug for meter in await run_in_threadpool(desk.meters.all)}
    if unknown := sorted(set(slugs or ()) - known):
        raise Refusal(400, f"there is no meter {unknown[0][:100]}")
    now = desk.now()
    life = DEFAULT_LIFE if given.expires_at is None else given.expires_at - now
    try:
        token, text = await run_in_threadpool(
            lambda: desk.tokens.create(given.subject, meters=slugs, life=life)
        )
    except SubjectError:
        raise Refusal(400, "this cannot be a subject") from None
    except InvalidArgumentError as error:
        raise Refusal(400, str(error)) from None
    await desk.noted("token.create", caller, token=token.id, subject=token.subject)
    return _shown(token, now, text=text)


@router.get(
    "",
    operation_id="listPortalTokens",
    summary="The latest portal tokens",
    response_model_exclude_none=True,
    responses=refusals(400, 401, 403, 429, 503),
    openapi_extra={
        "parameters": [
            parameter(
                "limit",
                {"type": "integer", "minimum": 1, "maximum": _MOST_LISTED, "default": 25},
                "How many at most.",
            )
        ]
    },
)
async def list_tokens(request: Request, desk: TheDesk, _caller: Admin) -> list[Token]:
    """Also those that hold no more, for a month, without their texts. Needs `admin`."""
    check_parameters(request, ["limit"])
    most = whole_number_of(request, "limit", default=25, most=_MOST_LISTED)
    found = await run_in_threadpool(partial(desk.tokens.all, most=most))
    return [_shown(token, desk.now()) for token in found]


@router.post(
    "/invalidate",
    operation_id="invalidatePortalTokens",
    summary="Take portal tokens back",
    status_code=204,
    response_class=Response,
    responses=refusals(400, 401, 403, 413, 429, 503),
)
async def invalidate_tokens(
    given: Annotated[Invalidation, Body()], desk: TheDesk, caller: Admin
) -> Response:
    """One, or all of a subject; at once, and in all processes. Needs `admin`."""
    if (given.id is None) == (given.subject is None):
        raise Refusal(400, "either an id or a subject is wanted")
    count = await run_in_threadpool(lambda: desk.tokens.revoke(id=given.id, subject=given.subject))
    facts = {"token": given.id, "subject": given.subject, "count": count}
    await desk.noted("token.revoke", caller, **facts)
    return Response(status_code=204)


@router.post(
    "/{id}/code",
    operation_id="createPortalCode",
    summary="A code for a link",
    responses=refusals(400, 401, 403, 404, 429, 503),
)
async def create_code(id: str, desk: TheDesk, caller: Admin) -> Code:
    """What a link carries instead of the token, which would end up in histories and logs.

    It is exchanged for the token once, within five minutes. Needs `admin`.
    """
    moment = desk.now()
    try:
        code = await run_in_threadpool(desk.tokens.code_for, id)
    except PortalTokenError:
        raise Refusal(404, "there is no such token, or it holds no more") from None
    await desk.noted("token.code", caller, token=id)
    return Code(code=code, path=link_path(code), expires_at=moment + CODE_LIFE)


def _shown(token: PortalToken, now: datetime, *, text: str | None = None) -> Token:
    return Token(
        id=token.id,
        subject=token.subject,
        allowed_meter_slugs=None if token.meters is None else sorted(token.meters),
        created_at=token.created_at,
        expires_at=token.expires_at,
        expired=token.revoked_at is not None or now >= token.expires_at,
        token=text,
    )
