"""Whether a token is good, for programs that are shown one."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Body
from pydantic import ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from ...access.portal_token import PREFIX as PORTAL_PREFIX
from ...errors import PortalTokenError, SubjectTokenError
from ...subjects import SubjectVerifier
from ...subjects.tokens import DEFAULT_AUDIENCE
from ..desk import Desk, Reader, TheDesk
from ..documents import refusals
from ..shapes import Answered, Given, Moment

__all__ = ["router"]

router = APIRouter(prefix="/api/v1/tokens", tags=["Tokens"])


class Validation(Given):
    """A token that somebody has shown."""

    model_config = ConfigDict(title="TokenValidation")

    token: str = Field(min_length=1, max_length=16_384)
    audience: str = Field(
        DEFAULT_AUDIENCE,
        description="Whom a subject token has to be meant for: a source of events.",
    )


class Validated(Answered):
    """What is known of a token."""

    model_config = ConfigDict(title="TokenValidated")

    valid: bool
    kind: Literal["portal", "subject"]
    subject: str | None = Field(default=None, description="Whom it is for, if it is good.")
    allowed_meter_slugs: list[str] | None = Field(
        default=None, description="What a portal token shows."
    )
    expires_at: Moment | None = Field(default=None, description="Until when it is good.")
    reason: str | None = Field(
        default=None,
        description="Why it is not good: malformed, wrong_signature, unknown, unknown_key, revoked, expired "
        "or wrong_audience.",
    )


@router.post(
    "/validate",
    operation_id="validateToken",
    summary="Whether a token is good",
    response_model_exclude_none=True,
    responses=refusals(400, 401, 403, 413, 429, 503),
)
async def validate(
    given: Annotated[Validation, Body()], desk: TheDesk, caller: Reader
) -> Validated:
    """Of a portal token or a signed subject: for whom it is, and until when. Needs `read`, of that subject."""
    found = await run_in_threadpool(_looked_at, desk, given)
    if found.subject is not None:
        caller.needs_subject(found.subject)
    return found


def _looked_at(desk: Desk, given: Validation) -> Validated:
    if given.token.startswith(PORTAL_PREFIX):
        try:
            token = desk.tokens.recognise(given.token)
        except PortalTokenError as error:
            return Validated(valid=False, kind="portal", reason=error.reason)
        return Validated(
            valid=True,
            kind="portal",
            subject=token.subject,
            allowed_meter_slugs=None if token.meters is None else sorted(token.meters),
            expires_at=token.expires_at,
        )
    secrets = desk.meter.settings.subject_token_secrets
    try:
        signed = SubjectVerifier(secrets, audience=given.audience).read(given.token)
    except SubjectTokenError as error:
        return Validated(valid=False, kind="subject", reason=error.reason)
    return Validated(
        valid=True, kind="subject", subject=signed.subject, expires_at=signed.expires_at
    )
