"""Entitlement values, as OpenMeter has them: whether a subject has something left of a feature.

Source: `EntitlementValue` of `api/openapi.yaml`,
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c. Subjects stand for
customers here, and the features are those of limits: tokens, credits, money, and the settings' own.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field

from ...limits import Balance
from ...meter import Meter
from ..callers import Caller
from ..desk import Desk, Reader, TheDesk
from ..documents import refusals
from ..parameters import check_parameters
from ..problems import Refusal
from ..shapes import Answered

__all__ = ["router"]

router = APIRouter(prefix="/api", tags=["Entitlements"])


class EntitlementValue(Answered):
    """What a subject has left of a feature."""

    model_config = ConfigDict(title="EntitlementValue")

    has_access: bool
    balance: float = Field(description="What is left of the grants, never below 0.")
    usage: float = Field(description="What was used in this usage period.")
    overage: float = Field(description="What was used beyond all grants.")
    total_available_grant_amount: float = Field(description="What there was to use.")


_ANSWERS = refusals(400, 401, 403, 404, 429, 501, 503)


@router.get(
    "/v1/subjects/{subject}/entitlements/{feature}/value",
    operation_id="getEntitlementValue",
    summary="What a subject has left of a feature",
    responses=_ANSWERS,
)
async def of_subject(
    subject: str, feature: str, request: Request, desk: TheDesk, caller: Reader
) -> EntitlementValue:
    """Now, as of about a second ago. Needs `read`, of that subject."""
    return await _value(subject, feature, request, desk, caller)


@router.get(
    "/v1/customers/{subject}/entitlements/{feature}/value",
    operation_id="getCustomerEntitlementValue",
    summary="The same, by customer",
    responses=_ANSWERS,
)
async def of_customer(
    subject: str, feature: str, request: Request, desk: TheDesk, caller: Reader
) -> EntitlementValue:
    """A customer's key is its subject here. Needs `read`, of that subject."""
    return await _value(subject, feature, request, desk, caller)


@router.get(
    "/v2/customers/{subject}/entitlements/{feature}/value",
    operation_id="getCustomerEntitlementValueV2",
    summary="The same, by OpenMeter's API v2",
    responses=_ANSWERS,
)
async def of_customer_v2(
    subject: str, feature: str, request: Request, desk: TheDesk, caller: Reader
) -> EntitlementValue:
    """A customer's key is its subject here. Needs `read`, of that subject."""
    return await _value(subject, feature, request, desk, caller)


async def _value(
    subject: str, feature: str, request: Request, desk: Desk, caller: Caller
) -> EntitlementValue:
    # At another time than now nobody knows: the past of a balance is not kept.
    check_parameters(request, ())
    caller.needs_subject(subject)

    def read(meter: Meter) -> Balance | None:
        limits = meter.limits
        terms = limits.terms(subject)
        if feature not in terms.features or feature not in limits.features:
            return None
        return limits.balance(subject, feature)

    balance = await desk.allowance.ask(read)
    if balance is None:
        raise Refusal(404, "the subject has no entitlement to such a feature")
    left = balance.granted - balance.used + balance.overage
    return EntitlementValue(
        has_access=balance.has_access,
        balance=float(max(left, 0)),
        usage=float(balance.used),
        overage=float(balance.overage),
        total_available_grant_amount=float(balance.granted),
    )
