"""Accounts whose grants somebody else keeps: what that one says, and what it cannot know of yet."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

__all__ = ["KEPT", "Mirror", "RemoteBalance", "RemoteGrants"]

KEPT: Final = timedelta(minutes=15)
"""How far back an account that is a mirror knows what was burnt here."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE: Final = timedelta(minutes=1)


class RemoteGrants(Protocol):
    """Who keeps accounts in step with grants that are elsewhere; safe in several threads."""

    def refresh(self, subject: str, features: Collection[str]) -> None:
        """See to it that a subject's accounts of these features are not older than they may be.

        It is called for each call that is checked: where nothing is to be asked, it costs next to
        nothing.

        Raises:
            LimitStoreError: If nobody knows what is left, and what was known is too old.
        """
        ...

    def close(self) -> None:
        """Wait for what is being asked, and let go of connections; the next refresh opens them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteBalance:
    """What somebody else says of an account, in parts.

    Attributes:
        balance: What is left.
        usage: What was used in the usage period.
        overage: What of it no grant has paid for.
        is_soft: Whether it is only counted.
    """

    balance: int = 0
    usage: int = 0
    overage: int = 0
    is_soft: bool = False


@dataclass(slots=True, kw_only=True)
class Mirror:
    """What an account has to remember to be one.

    Attributes:
        asked_at: When what it says was asked for; it was said at this moment or later.
        used: What was used in the usage period, as it was said then.
        recent: What was burnt here lately, by the minute from 1970 on.
    """

    asked_at: datetime
    used: int = 0
    recent: dict[int, int] = field(default_factory=dict)

    def burnt(self, amount: int, moment: datetime) -> None:
        """Something was burnt here."""
        self.forget(moment)
        minute = _minute(moment)
        self.recent[minute] = self.recent.get(minute, 0) + amount

    def forget(self, moment: datetime) -> None:
        """Let go of what was burnt long before a moment."""
        first = _minute(moment - KEPT)
        for minute in [each for each in self.recent if each < first]:
            del self.recent[minute]

    def burnt_since(self, moment: datetime) -> int:
        """What was burnt here from a moment on, and what was in the minute that it is in."""
        first = _minute(moment)
        return sum(amount for minute, amount in self.recent.items() if minute >= first)


def _minute(moment: datetime) -> int:
    return (moment - _EPOCH) // _MINUTE
