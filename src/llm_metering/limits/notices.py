"""`BalanceNotice`: a subject has used so much of what there was."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from ..cloud_events import dump
from ..event_ids import keyed_event_id
from ..events import THRESHOLD_EVENT_TYPE
from .account import Account
from .balances import Balance

__all__ = ["THRESHOLD_EVENT_TYPE", "BalanceNotice", "crossed", "notice_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceNotice:
    """A subject has used so much of what there was to use.

    Attributes:
        id: The id of its event; the same of whoever notices it.
        threshold: How much, in percent; the highest of those that were passed.
        balance: What was left then.
    """

    id: str
    threshold: int
    balance: Balance

    def event(self, source: str, time: datetime) -> bytes:
        """The notice as a CloudEvent in structured JSON: `type` is `llm.balance.threshold`.

        Its `data` has `feature`, `threshold` and the amounts of the balance; no tokens and no `calls`,
        so that it counts in no meter of usage.

        Args:
            source: The application's.
            time: When.
        """
        balance = self.balance
        data: dict[str, Any] = {
            "feature": balance.feature,
            "balance_unit": balance.unit,
            "threshold": self.threshold,
            "used": _number(balance.used),
            "granted": _number(balance.granted),
            "available": _number(balance.available),
            "overage": _number(balance.overage),
        }
        return dump(self.id, source, THRESHOLD_EVENT_TYPE, balance.subject, time, data)


def crossed(account: Account, thresholds: tuple[int, ...]) -> int:
    """The highest threshold that an account has reached, in percent; 0 if none."""
    return max((each for each in thresholds if each <= account.percent_used), default=0)


def notice_of(balance: Balance, account: Account, threshold: int) -> BalanceNotice:
    """The notice of a threshold that was reached since the account was last granted something."""
    # What was ever granted grows with each grant, recurrence and period: the same threshold reached
    # again behind one of these is another event, and told twice by two processes it is one.
    key = f"{balance.subject}\n{balance.feature}\n{account.granted}\n{threshold}"
    return BalanceNotice(
        id=keyed_event_id("llm-metering/balance-threshold", key),
        threshold=threshold,
        balance=balance,
    )


def _number(amount: int | Decimal) -> int | str:
    return amount if isinstance(amount, int) else f"{amount:f}"
