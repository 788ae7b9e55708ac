"""`BurnDown`: how a balance came to what it is, and when it will be used up at this rate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from ..meters import PRICED_METERS, UsageQuery, UsageRow, usage_query
from .balances import Balance, GrantBalance
from .features import Feature

if TYPE_CHECKING:
    import altair

    from ..meters.time_axis import TickLabels

__all__ = ["BurnDown", "Point", "burn_down", "burn_down_query"]

LOOK_BACK: Final = timedelta(days=30)
"""How far a balance is followed back, if nothing renewed it since."""

RATE_OVER: Final = timedelta(days=7)
"""Usage of this long before now is the rate; of a shorter time, if the balance is younger."""

LEAST: Final = timedelta(hours=1)
"""Less is no rate."""

_HOURS_UNTIL: Final = timedelta(days=8)
_METERS: Final = {"tokens": "tokens_total", "credits": "credits_total", "money": "cost_total"}

Amount = int | Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What was left at a moment.

    Attributes:
        moment: In UTC.
        left: In the balance's unit; below 0 where more was used than there was.
    """

    moment: datetime
    left: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnDown:
    """How a balance came to what it is.

    It is worked out backwards from what is left now, by what the ledger says was used and by the grants
    that began since; so it ends at what is left, whatever reached the ledger late.

    Attributes:
        balance: What is left now.
        points: What was left before, in the order of time; the last one is now.
        rate: What was used an hour, of late; `None` if there is nothing to tell it from.
        exhausted_at: When nothing will be left at this rate; `None` if never, or if it renews before.
    """

    balance: Balance
    points: tuple[Point, ...]
    rate: Amount | None
    exhausted_at: datetime | None

    @property
    def is_enough(self) -> bool:
        """Whether it lasts until it renews, or for ever, at this rate."""
        return self.balance.available > 0 and self.exhausted_at is None

    def plot(self, *, labels: TickLabels | None = None) -> altair.LayerChart:
        """The balance over time as a chart of Altair, with a dashed line for what is to come.

        Args:
            labels: What stands below the ticks; English if left out.

        Raises:
            MissingExtraError: If Altair is not installed.
        """
        from .charts import plot_burn_down

        return plot_burn_down(self, labels=labels)


def burn_down_query(balance: Balance, feature: Feature) -> UsageQuery:
    """What to ask the ledger for, to tell how a balance came to what it is."""
    start = _since(balance)
    narrow = balance.as_of - start <= _HOURS_UNTIL
    meter = PRICED_METERS.get(_METERS[feature.unit], _METERS[feature.unit])
    return usage_query(
        meter,
        subject=balance.subject,
        window="HOUR" if narrow else "DAY",
        start=start,
        end=max(balance.as_of, start + LEAST),
        filters={
            **({"provider": feature.providers} if feature.providers else {}),
            **({"model": feature.models} if feature.models else {}),
            **({"currency": feature.currency} if feature.unit == "money" else {}),
        },
    )


def burn_down(balance: Balance, rows: Iterable[UsageRow]) -> BurnDown:
    """How a balance came to what it is.

    Args:
        balance: What is left.
        rows: The answer to `burn_down_query`.
    """
    now, start = balance.as_of, _since(balance)
    used = sorted(
        (max(row.window_start, start), min(row.window_end, now), _exact(row.value)) for row in rows
    )
    begun = [
        (grant.effective_at, grant.effective_at, -grant.amount)
        for grant in balance.grants
        if start < grant.effective_at <= now
    ]
    left: Amount = balance.available
    points = [Point(moment=now, left=left)]
    for begin, end, amount in sorted([*used, *begun], reverse=True):
        # It is not known when within the window it was used: evenly, say, and before what came in it.
        points.append(Point(moment=min(end, points[-1].moment), left=left))
        left += amount
        points.append(Point(moment=begin, left=left))
    points.append(Point(moment=start, left=left))
    rate = _rate(used, start, now)
    return BurnDown(
        balance=balance,
        points=tuple(dict.fromkeys(reversed(points))),
        rate=rate,
        exhausted_at=_exhausted_at(balance, rate),
    )


def _since(balance: Balance) -> datetime:
    """From when on it can be followed: what renewed it last has made what was before another story."""
    now = balance.as_of
    begins = [now - LOOK_BACK, *(_renewed(grant, now) for grant in balance.grants)]
    first = min((each.effective_at for each in balance.grants), default=now - LOOK_BACK)
    return min(max(first, *(each for each in begins if each is not None)), now)


def _renewed(grant: GrantBalance, now: datetime) -> datetime | None:
    if grant.recurrence is None or grant.effective_at >= now:
        return None
    return max(grant.recurrence.last_until(now), grant.effective_at)


def _rate(
    used: list[tuple[datetime, datetime, Amount]], start: datetime, now: datetime
) -> Amount | None:
    since = max(start, now - RATE_OVER)
    if now - since < LEAST:
        return None
    amount = sum((each for moment, _, each in used if moment >= since), Decimal(0))
    return amount / (Decimal((now - since).total_seconds()) / 3600)


def _exhausted_at(balance: Balance, rate: Amount | None) -> datetime | None:
    if not rate or rate <= 0:
        return None
    if balance.available <= 0:
        return balance.as_of
    try:
        ends = balance.as_of + timedelta(hours=float(balance.available / rate))
    except OverflowError:
        return None
    return None if balance.resets_at is not None and balance.resets_at <= ends else ends


def _exact(value: float | Decimal) -> Amount:
    return Decimal(repr(value)) if isinstance(value, float) else value
