"""How balances look in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from ..render import Listing, amount, plain

if TYPE_CHECKING:
    from ...limits import Balance, GrantBalance

__all__ = ["balance_view", "balances_view", "moment", "reservations_view", "share", "when"]


def moment(at: datetime) -> str:
    """A moment in UTC; a day alone is its beginning.

    >>> moment(datetime(2026, 12, 1, tzinfo=UTC)), moment(datetime(2026, 12, 1, 9, 30, tzinfo=UTC))
    ('2026-12-01', '2026-12-01 09:30')
    """
    there = at.astimezone(UTC)
    # A day in a list leaves room for the numbers beside it.
    return f"{there:%Y-%m-%d}" if there.time() == time.min else f"{there:%Y-%m-%d %H:%M}"


def when(grant: GrantBalance, now: datetime) -> str:
    """When a grant holds; nothing of one that holds now and for ever."""
    parts = []
    if grant.recurrence is not None:
        zone = grant.recurrence.time_zone
        place = "" if zone == "UTC" else f" ({plain(zone)})"
        parts.append(f"each {grant.recurrence.interval.lower()}{place}")
    if grant.effective_at > now:
        parts.append(f"from {moment(grant.effective_at)}")
    ends = [each for each in (grant.expires_at, grant.voided_at) if each is not None]
    if ends:
        parts.append(f"until {moment(min(ends))}")
    return ", ".join(parts)


def balance_view(balance: Balance) -> Iterator[RenderableType]:
    """What a subject has left of something, and of which grants, in the order in which they are used."""
    limit = ", soft limit" if balance.is_soft_limit else ""
    what = balance.feature
    if balance.unit != balance.feature:
        what = f"{plain(balance.feature)} ({balance.unit})"
    yield Text(f"{plain(balance.subject)}, {what}{limit}", style="bold")
    sums = {
        name: amount(getattr(balance, name))
        for name in ("granted", "used", "reserved", "available", "overage")
    }
    widest = max(map(len, sums.values()))
    for name, value in sums.items():
        yield Text(f"  {name:<9}  {value:>{widest}}")
    if balance.resets_at is not None:
        yield Text(f"  resets at  {moment(balance.resets_at)}")
    if balance.grants:
        yield Text()
        yield Listing(
            ("grant", "when"),
            # Short, for a line with an id has to fit into 80 columns.
            ("left", "of", "prio"),
            [
                (
                    plain(each.id),
                    when(each, balance.as_of),
                    *(amount(each.left), amount(each.amount), str(each.priority)),
                )
                for each in balance.grants
            ],
            lead=1,
        )


def share(balance: Balance) -> Decimal:
    """How much of what there was is used or reserved; of nothing, all."""
    gone = Decimal(balance.used + balance.reserved)
    return gone / Decimal(balance.granted) if balance.granted else Decimal(int(gone > 0))


def balances_view(
    balances: Sequence[Balance], subject: str | None = None
) -> Iterator[RenderableType]:
    """Many balances, one a line.

    Args:
        balances: Which.
        subject: Whose they are, if all are of one.
    """
    if not balances:
        who = (
            "Nobody was granted anything"
            if subject is None
            else f"{plain(subject)} was granted nothing"
        )
        yield Text(f"{who} yet")
        return
    yield Listing(
        ("subject", "of", "resets on"),
        ("granted", "used", "reserved", "available", "overage"),
        [
            (
                plain(each.subject),
                _unit(each),
                # The day alone: with the time, few lines would fit into 80 columns.
                "never" if each.resets_at is None else f"{each.resets_at.astimezone(UTC):%Y-%m-%d}",
                *(amount(value) for value in (each.granted, each.used, each.reserved)),
                *(amount(value) for value in (each.available, each.overage)),
            )
            for each in balances
        ],
        lead=2,
    )


def reservations_view(found: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    """What is reserved, one a line."""
    yield Text()
    if not found:
        yield Text("Nothing is reserved")
        return
    yield Listing(
        ("reservation", "subject", "of", "until"),
        ("reserved",),
        [
            (
                *(plain(each[name]) for name in ("id", "subject", "feature")),
                moment(each["ends_at"]),
                amount(each["amount"]),
            )
            for each in found
        ],
        lead=1,
    )


def _unit(balance: Balance) -> str:
    """What it is of, in few letters: money by its currency alone."""
    if balance.feature == "money":
        return balance.unit
    named = plain(balance.feature)
    return named if balance.unit in (balance.feature, "tokens") else f"{named} ({balance.unit})"
