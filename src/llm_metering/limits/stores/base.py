"""What a store of accounts is: the one port between limits and the databases that hold them.

A store does each thing in one transaction, and its own clock decides when that is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol, TypeVar

from ..account import Account

__all__ = ["AccountKey", "Held", "Hold", "LimitStore", "Settlement", "Shortage"]

T = TypeVar("T")


class AccountKey(NamedTuple):
    """Whose account it is, and of which feature."""

    subject: str
    feature: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What is to be reserved.

    Attributes:
        id: Names it; to reserve under the same id again changes nothing.
        amounts: How many steps, by account.
        seconds: How long it counts, unless it is renewed.
    """

    id: str
    amounts: Mapping[AccountKey, int]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """Why nothing was reserved.

    Attributes:
        key: Which account has too little.
        available: Steps that it has; `None` if there is no such account.
        needed: Steps that were asked for.
        changes_at: When it changes next by itself; `None` if never.
    """

    key: AccountKey
    available: int | None
    needed: int
    changes_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What a call has used.

    Attributes:
        source: The CloudEvents source of its event.
        id: The event's id: what was settled under both is not settled again.
        reservation: What was reserved for it, if anything was.
        amounts: How many parts it used, by account; those that are not there are passed over.
    """

    source: str
    id: str
    reservation: str | None = None
    amounts: Mapping[AccountKey, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An account as it is now.

    Attributes:
        account: The account.
        reserved: Steps that are reserved of it.
    """

    account: Account
    reserved: int


class LimitStore(Protocol):
    """Keeps accounts and what is reserved of them.

    Every method raises `LimitStoreError` if the store cannot be reached or used now.
    """

    def change(
        self, key: AccountKey, work: Callable[[Account], T], *, make: Callable[[datetime], Account]
    ) -> T:
        """Let something happen to an account as it is now.

        Args:
            key: Which.
            work: What happens.
            make: Makes the account, if it is not there, as of now.
        """
        ...

    def reserve(self, hold: Hold) -> Shortage | None:
        """Reserve something of several accounts together; `None` if all have enough."""
        ...

    def renew(self, ids: Iterable[str], seconds: float) -> set[str]:
        """Let reservations count for so long from now on; those that are still there."""
        ...

    def release(self, id: str) -> bool:
        """Reserve it no more; whether it was there."""
        ...

    def settle(self, settlements: Sequence[Settlement]) -> int:
        """Burn what calls have used, each once, and release what was reserved for them.

        Returns:
            How many were not settled before.
        """
        ...

    def read(self, keys: Iterable[AccountKey]) -> dict[AccountKey, Held]:
        """Those accounts that are there, at one moment; nothing is written."""
        ...

    def close(self) -> None:
        """Let go of connections; the next who asks opens them again."""
        ...
