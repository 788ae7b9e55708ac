"""Whether a call may be made, and what is reserved for it."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from fastapi import APIRouter, Body, Response
from pydantic import ConfigDict, Field, model_validator

from ...limits import Needs
from ..allowance import Wanted
from ..desk import Sender, TheDesk
from ..documents import refusals
from ..problems import Refusal
from ..shapes import Amount, Answered, Given, GivenAmount, Moment

__all__ = ["router"]

router = APIRouter(prefix="/api/v1", tags=["Allowance"])

_MOST_SECONDS = 86_400.0
_MOST_TOKENS = 10**12

Seconds = Annotated[float, Field(gt=0, le=_MOST_SECONDS)]
Id = Annotated[str, Field(min_length=1, max_length=256)]
Subject = Annotated[str, Field(min_length=1, max_length=1024)]


class Call(Given):
    """What a subject is to use: an amount, or what a call may need at most."""

    subject: Subject
    amount: GivenAmount | None = Field(
        default=None, description="How much of the unit; without it, what the call may need."
    )
    unit: str = Field(
        default="tokens", description="tokens, credits, money, or a feature of the settings."
    )
    provider: str | None = Field(default=None, description="Whom the call will ask.")
    model: str | None = Field(default=None, description="Which model, as it is asked for.")
    input_tokens: int = Field(default=0, ge=0, le=_MOST_TOKENS, description="Tokens that go in.")
    max_output_tokens: int | None = Field(
        default=None,
        ge=0,
        le=_MOST_TOKENS,
        description="Tokens that come out at most; what the server's settings say, if left out.",
    )

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> Call:
        call = (self.provider, self.model, self.max_output_tokens)
        if self.amount is not None and (
            self.input_tokens or any(each is not None for each in call)
        ):
            raise ValueError("an amount, or a call; not both")
        return self

    def wanted(self) -> Wanted:
        """As the allowance is asked."""
        return Wanted(
            subject=self.subject,
            amount=self.amount,
            unit=self.unit,
            needs=Needs(
                provider=self.provider,
                model=self.model,
                input_tokens=self.input_tokens,
                output_tokens=self.max_output_tokens,
            ),
        )


class CheckRequest(Call):
    """What a subject would like to use."""

    model_config = ConfigDict(title="CheckRequest")


class ReserveRequest(Call):
    """What is to be reserved."""

    model_config = ConfigDict(title="ReserveRequest")

    expires_in: Seconds = Field(
        default=600.0, description="Seconds after which it is given back by itself."
    )
    idempotency_key: Id | None = Field(
        default=None, description="What is reserved for a subject under one key is reserved once."
    )


class SettleRequest(Given):
    """What was used."""

    model_config = ConfigDict(title="SettleRequest")

    id: Id
    subject: Subject
    amounts: dict[str, GivenAmount] = Field(
        min_length=1, max_length=20, description="How much of each unit."
    )


class VoidRequest(Given):
    """What is given back."""

    model_config = ConfigDict(title="VoidRequest")

    id: Id
    subject: Subject


class RenewRequest(VoidRequest):
    """What is to be kept."""

    model_config = ConfigDict(title="RenewRequest")

    expires_in: Seconds = Field(default=600.0, description="Seconds from now on.")


class CheckResult(Answered):
    """Whether it may."""

    model_config = ConfigDict(title="CheckResult")

    allowed: bool
    reason: Literal["balance", "no_grant", "unpriced"] | None = Field(
        default=None, description="Why not."
    )
    feature: str | None = Field(default=None, description="Of what there is too little.")
    unit: str | None = None
    available: Amount | None = None
    needed: Amount | None = None
    resets_at: Moment | None = Field(
        default=None, description="When there will be more or less by itself."
    )


class ReservationShape(Answered):
    """What nobody else gets."""

    model_config = ConfigDict(title="Reservation")

    id: str
    subject: str
    amounts: dict[str, Amount] = Field(description="How much, by feature.")
    expires_at: Moment


@router.post(
    "/check",
    operation_id="check",
    summary="May this subject make this call?",
    response_model_exclude_none=True,
    responses=refusals(400, 401, 403, 413, 429, 501, 503),
)
async def check(
    given: Annotated[CheckRequest, Body()], desk: TheDesk, caller: Sender
) -> CheckResult:
    """Says whether the balance covers it now, and reserves nothing. Needs `ingest`.

    Of many who ask at once, all may be told yes: who has to be sure reserves.
    """
    caller.needs_to_name(given.subject)
    found = await desk.allowance.ask(lambda _: desk.allowance.check(given.wanted()))
    if found.short is None:
        return CheckResult(allowed=found.reason is None, reason=found.reason)  # type: ignore[arg-type]
    feature, unit, available, needed, resets_at = found.short
    return CheckResult(
        allowed=False,
        reason=found.reason,  # type: ignore[arg-type]
        feature=feature,
        unit=unit,
        available=available,
        needed=needed,
        resets_at=resets_at,
    )


@router.post(
    "/reserve",
    operation_id="reserve",
    summary="Reserve what a call may need",
    status_code=201,
    responses=refusals(400, 401, 402, 403, 413, 422, 429, 501, 503),
)
async def reserve(
    given: Annotated[ReserveRequest, Body()], desk: TheDesk, caller: Sender
) -> ReservationShape:
    """Nobody else gets it, until it is settled, given back, or expires. Needs `ingest`.

    The event of the call settles it whose `data` has `reservation_id`; or `settle` does.
    """
    caller.needs_to_name(given.subject)
    made = await desk.allowance.ask(
        lambda _: desk.allowance.reserve(given.wanted(), given.expires_in, given.idempotency_key)
    )
    return ReservationShape(
        id=made.id, subject=given.subject, amounts=made.amounts, expires_at=made.ends_at
    )


@router.post(
    "/settle",
    operation_id="settle",
    summary="Burn what was used",
    status_code=204,
    response_class=Response,
    responses=refusals(400, 401, 403, 404, 413, 429, 501, 503),
)
async def settle(
    given: Annotated[SettleRequest, Body()], desk: TheDesk, caller: Sender
) -> Response:
    """Be it more or less than was reserved; the rest is given back. Needs `ingest`.

    A second time it changes nothing. What an event with `reservation_id` settles is not settled here as
    well.
    """
    caller.needs_to_name(given.subject)
    amounts = {unit: _plain(amount) for unit, amount in given.amounts.items()}
    await desk.allowance.ask(lambda _: desk.allowance.settle(given.id, given.subject, amounts))
    return Response(status_code=204)


@router.post(
    "/void",
    operation_id="void",
    summary="Give back what is reserved",
    status_code=204,
    response_class=Response,
    responses=refusals(400, 401, 403, 404, 413, 429, 501, 503),
)
async def void(given: Annotated[VoidRequest, Body()], desk: TheDesk, caller: Sender) -> Response:
    """For a call that was not made. Needs `ingest`."""
    caller.needs_to_name(given.subject)
    if not await desk.allowance.ask(lambda _: desk.allowance.void(given.id, given.subject)):
        raise Refusal(404, "nothing is reserved under this id")
    return Response(status_code=204)


@router.post(
    "/renew",
    operation_id="renew",
    summary="Keep what is reserved",
    status_code=204,
    response_class=Response,
    responses=refusals(400, 401, 403, 404, 413, 429, 501, 503),
)
async def renew(given: Annotated[RenewRequest, Body()], desk: TheDesk, caller: Sender) -> Response:
    """For a call that takes longer. Needs `ingest`."""
    caller.needs_to_name(given.subject)
    kept = await desk.allowance.ask(
        lambda _: desk.allowance.renew(given.id, given.subject, given.expires_in)
    )
    if not kept:
        raise Refusal(404, "nothing is reserved under this id")
    return Response(status_code=204)


def _plain(amount: int | Decimal | str) -> int | str:
    return amount if isinstance(amount, int) else str(amount)
