"""`Allowance`: what subjects may use, asked and reserved by programs that make their calls elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import ceil
from typing import Any, Final, TypeVar
from uuid import uuid4

from ..errors import (
    BalanceExceeded,
    BillError,
    CallRefusedError,
    ConfigurationError,
    InvalidArgumentError,
    LedgerError,
    LimitStoreError,
    MissingExtraError,
    PlanError,
    PriceError,
    QueryError,
    RateExceeded,
    SubjectError,
    UnpricedCallError,
)
from ..event_ids import keyed_event_id
from ..limits import AccountKey, Hold, Needs, Settlement
from ..meter import Meter
from ..subjects import check_subject
from .problems import Refusal
from .threads import Threads

__all__ = ["Allowance", "Checked", "Reserved", "Wanted"]

logger = logging.getLogger("llm_metering")

AT_ONCE: Final = 8
"""Requests that ask the store of balances at once; as many as it has connections."""

MOST_WAITING: Final = 256

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a subject is to use.

    Attributes:
        subject: Who.
        amount: How much; `None` where it is a call.
        unit: Of what.
        needs: What the call may need.
    """

    subject: str
    amount: int | Decimal | str | None = None
    unit: str = "tokens"
    needs: Needs = field(default_factory=Needs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Whether a subject may use something now.

    Attributes:
        reason: Why not: `balance`, `no_grant` or `unpriced`; `None` if it may.
        short: Of what there is too little: feature, unit, what is available, what is needed, and when that
            changes by itself.
    """

    reason: str | None = None
    short: tuple[str, str, int | Decimal, int | Decimal, datetime | None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """What nobody else gets until it is settled, given back, or ends.

    Attributes:
        id: Names it.
        amounts: How much, by feature.
        ends_at: When it ends by itself.
    """

    id: str
    amounts: dict[str, int | Decimal]
    ends_at: datetime


class Allowance:
    """What the limits of a home say.

    Args:
        meter: Of the home.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._threads = Threads("allowance", at_once=AT_ONCE, most_waiting=MOST_WAITING)

    def __repr__(self) -> str:
        return f"<Allowance of {self._meter!r}>"

    async def ask(self, function: Callable[[Meter], T]) -> T:
        """What a function makes of the meter, worked out in one of the threads.

        Raises:
            Refusal: If it makes no sense (400), there is too little (402), it is too soon (429), nobody
                knows what it would cost (422), limits are off here (501), or the store cannot be used
                now (503).
        """
        return await self._threads.run(lambda: self._worked_out(function))

    def check(self, wanted: Wanted) -> Checked:
        """Whether a subject may use something now; nothing is reserved.

        Raises:
            MeteringError: As `ask` tells apart.
        """
        limits = self._meter.limits
        try:
            hold = self._hold(wanted, "-", 1.0)
        except UnpricedCallError:
            return Checked(reason="unpriced")
        except BalanceExceeded as error:
            nothing = (error.feature, error.unit, 0, error.needed, error.resets_at)
            return Checked(reason="no_grant", short=nothing)
        for key, steps in sorted(hold.amounts.items()):
            feature = limits.feature(key.feature)
            needed = feature.amount(steps * feature.step)
            balance = limits.balance(key.subject, key.feature)
            if not balance.is_soft_limit and balance.available < needed:
                reason = "balance" if balance.grants else "no_grant"
                short = (key.feature, balance.unit, balance.available, needed, balance.resets_at)
                return Checked(reason=reason, short=short)
        return Checked()

    def reserve(self, wanted: Wanted, seconds: float, key: str | None) -> Reserved:
        """Reserve something.

        Args:
            wanted: What.
            seconds: How long it counts, unless it is renewed.
            key: What is reserved under one key is reserved once.

        Raises:
            MeteringError: As `ask` tells apart.
        """
        id = uuid4().hex if key is None else keyed_event_id(f"reserve {wanted.subject}", key)
        hold = self._hold(wanted, id, seconds)
        limits = self._meter.limits
        limits.hold(hold)
        features = limits.features
        return Reserved(
            id=id,
            amounts={
                each.feature: features[each.feature].amount(steps * features[each.feature].step)
                for each, steps in sorted(hold.amounts.items())
            },
            ends_at=datetime.now(UTC) + timedelta(seconds=seconds),
        )

    def settle(self, id: str, subject: str, amounts: dict[str, int | str]) -> None:
        """Burn what was used under a reservation, and give the rest back; a second time changes nothing.

        Raises:
            MeteringError: As `ask` tells apart.
            Refusal: If it is another subject's, or there is no such balance (404).
        """
        limits = self._meter.limits
        check_subject(subject)
        self._check_whose(id, subject)
        burnt = {
            AccountKey(subject, unit): limits.feature(unit).parts(amount)
            for unit, amount in amounts.items()
        }
        if not limits.terms(subject, with_default=False).features >= amounts.keys():
            # What has no balance is passed over where it is settled, which is nothing to be silent about.
            raise Refusal(404, "the subject has no such balance")
        source = self._meter.settings.source
        limits.store.settle([Settlement(source=source, id=id, reservation=id, amounts=burnt)])

    def void(self, id: str, subject: str) -> bool:
        """Give back what is reserved; whether it was still there.

        Raises:
            MeteringError: As `ask` tells apart.
            Refusal: If it is another subject's (404).
        """
        self._check_whose(id, subject)
        return self._meter.limits.store.release(id)

    def renew(self, id: str, subject: str, seconds: float) -> bool:
        """Let it count for so long from now on; whether it was still there.

        Raises:
            MeteringError: As `ask` tells apart.
            Refusal: If it is another subject's (404).
        """
        self._check_whose(id, subject)
        return bool(self._meter.limits.store.renew([id], seconds))

    def close(self) -> None:
        """End the threads, when what is under way is done."""
        self._threads.close()

    def _hold(self, wanted: Wanted, id: str, seconds: float) -> Hold:
        check_subject(wanted.subject)
        if wanted.amount is None:
            return self._meter.estimates.hold_for(wanted.needs, id, wanted.subject, seconds=seconds)
        limits = self._meter.limits
        feature = limits.feature(wanted.unit)
        steps = feature.steps_up(feature.parts(wanted.amount))
        if steps == 0:
            raise InvalidArgumentError("amount is more than 0")
        # Whoever is given something by default gets it now, and what is granted elsewhere is looked at.
        limits.terms(wanted.subject)
        amounts = {AccountKey(wanted.subject, wanted.unit): steps}
        return Hold(id=id, subject=wanted.subject, amounts=amounts, seconds=seconds)

    def _check_whose(self, id: str, subject: str) -> None:
        found = self._meter.limits.store.reservations(id=id)
        if any(each.key.subject != subject for each in found):
            # As if it were not there: who asks for another's is not told that it is.
            raise Refusal(404, "nothing is reserved under this id", reason="subject")

    def _worked_out(self, function: Callable[[Meter], T]) -> T:
        try:
            return function(self._meter)
        except SubjectError:
            raise Refusal(400, "this cannot be a subject") from None
        except (InvalidArgumentError, QueryError, BillError) as error:
            raise Refusal(400, str(error)) from None
        except CallRefusedError as error:
            raise _refused(error) from None
        except (ConfigurationError, PlanError) as error:
            logger.error("a request cannot be answered: %s", error)  # noqa: TRY400
            raise Refusal(501, _NOT_HERE[type(error)]) from error
        except (LimitStoreError, LedgerError, PriceError, MissingExtraError) as error:
            logger.error("a request cannot be answered now: %s", error)  # noqa: TRY400
            raise Refusal(
                503, "balances, prices or the ledger cannot be used now", headers=_AGAIN
            ) from error


_AGAIN: Final = {"Retry-After": "5"}
_NOT_HERE: Final[dict[type[Exception], str]] = {
    ConfigurationError: "the settings of this server have nothing of this: limits are off (limits = 'on' "
    "switches them on), or no plans are named",
    PlanError: "the plans of this server cannot be used",
}


def _refused(error: CallRefusedError) -> Refusal:
    if isinstance(error, BalanceExceeded):
        facts: dict[str, Any] = {
            "feature": error.feature,
            "unit": error.unit,
            "available": _plain(error.balance),
            "needed": _plain(error.needed),
            "resetsAt": None if error.resets_at is None else error.resets_at.isoformat(),
        }
        known = {name: fact for name, fact in facts.items() if fact is not None}
        return Refusal(402, "the balance does not cover this", **known)
    if isinstance(error, RateExceeded):
        headers = {}
        if error.retry_at is not None:
            wait = (error.retry_at - datetime.now(UTC)).total_seconds()
            headers["Retry-After"] = str(max(ceil(wait), 1))
        return Refusal(
            429,
            f"this subject begins at most {error.per_minute} {error.kind} a minute",
            headers=headers,
        )
    return Refusal(422, "nobody knows what this call would cost")


def _plain(amount: int | Decimal | None) -> int | str | None:
    return f"{amount:f}" if isinstance(amount, Decimal) else amount
