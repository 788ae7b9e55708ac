"""`Balance`: what a subject has left, and of which grants."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from ..cloud_events import format_time
from .account import Account, Holding
from .features import Feature
from .recurrence import Recurrence
from .stores import AccountKey, Held

__all__ = ["Balance", "GrantBalance", "balance_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantBalance:
    """A grant, and what is left of it.

    Attributes:
        id: Names it, among the grants of its subject and feature.
        amount: How much it is.
        left: What is left of it now.
        priority: Which is used first: from 1 to 255, the lower the sooner.
        created_at: When it was made.
        effective_at: From when on it can be used.
        expires_at: The first moment at which it can no longer be used; `None` is never.
        voided_at: The same, where somebody took back what was left.
        recurrence: When it is all there again.
        min_rollover: How much there is at least when a usage period begins.
        max_rollover: How much is kept at most from one usage period to the next.
    """

    id: str
    amount: int | Decimal
    left: int | Decimal
    priority: int
    created_at: datetime
    effective_at: datetime
    expires_at: datetime | None
    voided_at: datetime | None
    recurrence: Recurrence | None
    min_rollover: int | Decimal
    max_rollover: int | Decimal

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it; what does not hold is absent."""
        found: dict[str, Any] = {
            "id": self.id,
            "amount": _plain(self.amount),
            "left": _plain(self.left),
            "priority": self.priority,
            "recurrence": None if self.recurrence is None else self.recurrence.interval,
            "created_at": self.created_at,
            "effective_at": self.effective_at,
            "expires_at": self.expires_at,
            "voided_at": self.voided_at,
            "min_rollover": _plain(self.min_rollover),
            "max_rollover": _plain(self.max_rollover),
        }
        return _written(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What a subject may use of one feature, at a moment.

    Always `available == granted - used + overage - reserved`. Tokens are whole numbers; credits and
    money are `Decimal`.

    Attributes:
        subject: Who pays.
        feature: What may be used: `tokens`, `credits`, `money`, or one of the settings'.
        unit: What it is counted in: `tokens`, `credits`, or the code of a currency.
        granted: What there was to use in this usage period.
        used: What was used of it, and beyond it.
        reserved: What calls under way have reserved.
        available: What a call may still reserve. It is below 0 where more is reserved than is left,
            because a grant has ended meanwhile, or because the limit is soft.
        overage: What was used beyond all grants.
        is_soft_limit: Whether nothing is refused for it.
        resets_at: When there will be more or less by itself; `None` if never.
        as_of: The moment.
        grants: Those that have not ended.
    """

    subject: str
    feature: str
    unit: str
    granted: int | Decimal
    used: int | Decimal
    reserved: int | Decimal
    available: int | Decimal
    overage: int | Decimal
    is_soft_limit: bool
    resets_at: datetime | None
    as_of: datetime
    grants: tuple[GrantBalance, ...]

    @property
    def has_access(self) -> bool:
        """Whether anything may be reserved."""
        return self.is_soft_limit or self.available > 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: amounts of tokens are numbers, all others strings; times are RFC 3339."""
        amounts = ("granted", "used", "reserved", "available", "overage")
        found: dict[str, Any] = {
            "subject": self.subject,
            "feature": self.feature,
            "unit": self.unit,
            **{name: _plain(getattr(self, name)) for name in amounts},
            "is_soft_limit": self.is_soft_limit,
            "has_access": self.has_access,
            "resets_at": self.resets_at,
            "as_of": self.as_of,
        }
        return {**_written(found), "grants": [each.to_dict() for each in self.grants]}


def balance_of(key: AccountKey, feature: Feature, held: Held) -> Balance:
    """What an account comes to."""
    account, reserved = held.account, held.reserved * feature.step
    return Balance(
        subject=key.subject,
        feature=key.feature,
        unit=feature.shown,
        granted=feature.amount(account.issued),
        used=feature.amount(account.usage),
        reserved=feature.amount(reserved),
        available=feature.amount(account.left - reserved),
        overage=feature.amount(account.overage),
        is_soft_limit=account.is_soft,
        resets_at=account.next_change(),
        as_of=account.as_of,
        grants=tuple(_grants(account, feature)),
    )


def grant_balance(holding: Holding, feature: Feature) -> GrantBalance:
    """A grant of an account, in the unit of its feature."""
    grant = holding.grant
    return GrantBalance(
        id=grant.id,
        amount=feature.amount(grant.amount),
        left=feature.amount(holding.left),
        priority=grant.priority,
        created_at=grant.created_at,
        effective_at=grant.effective_at,
        expires_at=grant.expires_at,
        voided_at=grant.voided_at,
        recurrence=grant.recurrence,
        min_rollover=feature.amount(grant.min_rollover),
        max_rollover=feature.amount(grant.max_rollover),
    )


def _grants(account: Account, feature: Feature) -> list[GrantBalance]:
    lives = [
        each
        for each in account.holdings
        if each.grant.ends_at is None or each.grant.ends_at > account.as_of
    ]
    lives.sort(key=lambda each: each.grant.order)
    return [grant_balance(each, feature) for each in lives]


def _plain(amount: int | Decimal) -> int | str:
    return amount if isinstance(amount, int) else f"{amount:f}"


def _written(found: dict[str, Any]) -> dict[str, Any]:
    return {
        key: format_time(value) if isinstance(value, datetime) else value
        for key, value in found.items()
        if value is not None
    }
