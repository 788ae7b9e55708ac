"""What subjects have left, and what they were granted."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response
from pydantic import AwareDatetime, ConfigDict, Field

from ...limits import Balance, GrantBalance, Interval
from ..desk import Admin, Reader, TheDesk
from ..documents import refusals
from ..parameters import check_parameters, parameter
from ..problems import Refusal
from ..shapes import Amount, Answered, Given, GivenAmount, Moment

__all__ = ["router"]

router = APIRouter(prefix="/api/v1", tags=["Balances"])

_SUBJECT: dict[str, Any] = parameter("subject", {"type": "string"}, "Whose.")
_UNIT: dict[str, Any] = parameter(
    "unit", {"type": "string", "default": "tokens"}, "Of what: tokens, credits, money, a feature."
)


class GrantShape(Answered):
    """A grant, and what is left of it."""

    model_config = ConfigDict(title="Grant")

    id: str
    amount: Amount
    left: Amount
    priority: int = Field(description="Which is used first: from 1 to 255, the lower the sooner.")
    recurrence: Interval | None = Field(
        default=None, description="How often it is all there again."
    )
    created_at: Moment
    effective_at: Moment
    expires_at: Moment | None = None
    voided_at: Moment | None = None
    min_rollover: Amount
    max_rollover: Amount


class BalanceShape(Answered):
    """What a subject may use of something."""

    model_config = ConfigDict(title="Balance")

    subject: str
    feature: str
    unit: str = Field(description="tokens, credits, or the code of a currency.")
    granted: Amount
    used: Amount
    reserved: Amount
    available: Amount = Field(description="What may still be reserved.")
    overage: Amount = Field(description="What was used beyond all grants.")
    is_soft_limit: bool
    has_access: bool
    resets_at: Moment | None = None
    as_of: Moment
    grants: list[GrantShape]


class GrantCreate(Given):
    """What a subject is to be granted."""

    model_config = ConfigDict(title="GrantCreate")

    subject: str = Field(min_length=1, max_length=1024)
    amount: GivenAmount
    unit: str = "tokens"
    priority: int = Field(default=100, ge=1, le=255)
    effective_at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None
    recurrence: Interval | None = None
    usage_period: Interval | None = None
    min_rollover: GivenAmount = 0
    max_rollover: GivenAmount | None = None
    soft_limit: bool | None = None
    key: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="The grant of one key is made once, however often it is asked for.",
    )


@router.get(
    "/balances",
    operation_id="listBalances",
    summary="What is left",
    response_model_exclude_none=True,
    responses=refusals(400, 401, 403, 429, 501, 503),
    openapi_extra={"parameters": [_SUBJECT]},
)
async def list_balances(request: Request, desk: TheDesk, caller: Reader) -> list[BalanceShape]:
    """Of everybody who was granted something, or of a subject; as of about a second ago. Needs `read`."""
    check_parameters(request, ["subject"])
    subject = request.query_params.get("subject")
    caller.needs_subjects(None if subject is None else [subject])
    found = await desk.allowance.ask(lambda meter: meter.limits.balances(subject))
    return [_shown(each) for each in found]


@router.post(
    "/grants",
    operation_id="createGrant",
    summary="Grant something",
    status_code=201,
    response_model_exclude_none=True,
    responses=refusals(400, 401, 403, 413, 429, 501, 503),
)
async def create_grant(
    given: Annotated[GrantCreate, Body()], desk: TheDesk, caller: Admin
) -> GrantShape:
    """Let a subject use something. Needs `admin`."""
    arguments = given.model_dump()
    subject, amount = arguments.pop("subject"), arguments.pop("amount")
    made = await desk.allowance.ask(lambda meter: meter.grant(subject, amount, **arguments))
    await desk.noted(
        "grant.create", caller, grant=made.id, subject=subject, amount=str(amount), unit=given.unit
    )
    return _grant(made)


@router.delete(
    "/grants/{id}",
    operation_id="voidGrant",
    summary="Take a grant back",
    status_code=204,
    response_class=Response,
    responses=refusals(400, 401, 403, 404, 429, 501, 503),
    openapi_extra={"parameters": [{**_SUBJECT, "required": True}, _UNIT]},
)
async def void_grant(id: str, request: Request, desk: TheDesk, caller: Admin) -> Response:
    """What is left of it can no longer be used. Needs `admin`."""
    check_parameters(request, ["subject", "unit"])
    subject = request.query_params.get("subject")
    if not subject:
        raise Refusal(400, "whose grant it is is wanted: subject=…")
    unit = request.query_params.get("unit", "tokens")
    if not await desk.allowance.ask(lambda meter: meter.limits.void_grant(subject, id, unit)):
        raise Refusal(404, "the subject has no such grant that has not ended")
    await desk.noted("grant.void", caller, grant=id, subject=subject, unit=unit)
    return Response(status_code=204)


def _shown(balance: Balance) -> BalanceShape:
    return BalanceShape(
        subject=balance.subject,
        feature=balance.feature,
        unit=balance.unit,
        granted=balance.granted,
        used=balance.used,
        reserved=balance.reserved,
        available=balance.available,
        overage=balance.overage,
        is_soft_limit=balance.is_soft_limit,
        has_access=balance.has_access,
        resets_at=balance.resets_at,
        as_of=balance.as_of,
        grants=[_grant(each) for each in balance.grants],
    )


def _grant(grant: GrantBalance) -> GrantShape:
    return GrantShape(
        id=grant.id,
        amount=grant.amount,
        left=grant.left,
        priority=grant.priority,
        recurrence=None if grant.recurrence is None else grant.recurrence.interval,
        created_at=grant.created_at,
        effective_at=grant.effective_at,
        expires_at=grant.expires_at,
        voided_at=grant.voided_at,
        min_rollover=grant.min_rollover,
        max_rollover=grant.max_rollover,
    )
