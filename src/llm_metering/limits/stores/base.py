"""What a store of accounts is: the one port between limits and the databases that hold them.

A store does each thing in one transaction, and its own clock decides when that is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple, Protocol, TypeVar

from ..account import Account

__all__ = [
    "AccountKey",
    "Held",
    "Hold",
    "LimitStore",
    "OpenReservation",
    "Rate",
    "RateKind",
    "Settlement",
    "Shortage",
    "Terms",
    "TooFast",
]

T = TypeVar("T")


class AccountKey(NamedTuple):
    """Whose account it is, and of which feature."""

    subject: str
    feature: str


RateKind = Literal["requests", "tokens"]
"""What is counted a minute."""


class Rate(NamedTuple):
    """How much of something a subject may begin a minute, and how much it is about to begin.

    Attributes:
        kind: Of what.
        amount: How much is about to begin.
        per_minute: How much may.
    """

    kind: RateKind
    amount: int
    per_minute: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What holds for a subject.

    Attributes:
        features: Those that it has an account of.
        requests_per_minute: How many calls it may begin a minute; `None` where nothing is said.
        tokens_per_minute: How many tokens, likewise.
    """

    features: frozenset[str] = frozenset()
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TooFast:
    """Why nothing was reserved: too much was begun in the last minute.

    Attributes:
        kind: Of what.
        per_minute: How much may be begun.
        needed: How much was asked for.
        fits_at: When it may be; `None` if it is more than may be begun in any minute.
    """

    kind: RateKind
    per_minute: int
    needed: int
    fits_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What is to be reserved.

    Attributes:
        id: Names it; to reserve under the same id again changes nothing.
        subject: Whose it is.
        amounts: How many steps, by account.
        seconds: How long it counts, unless it is renewed.
        rates: What is begun besides.
    """

    id: str
    subject: str = ""
    amounts: Mapping[AccountKey, int]
    seconds: float
    rates: tuple[Rate, ...] = ()


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
        part: How many steps of that were for it; `None` is all.
        amounts: How many parts it used, by account; those that are not there are passed over.
    """

    source: str
    id: str
    reservation: str | None = None
    part: int | None = None
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


class OpenReservation(NamedTuple):
    """Something that is reserved.

    Attributes:
        id: Names it.
        key: Of which account.
        steps: How much.
        ends_at: From when on it no longer counts, unless it is renewed.
    """

    id: str
    key: AccountKey
    steps: int
    ends_at: datetime


class LimitStore(Protocol):
    """Keeps accounts and what is reserved of them.

    Every method raises `LimitStoreError` if the store cannot be reached or used now.

    Attributes:
        is_remote: Whether it is on another machine, perhaps, so that to ask it may take a while.
    """

    @property
    def is_remote(self) -> bool: ...

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

    def reserve(self, hold: Hold) -> Shortage | TooFast | None:
        """Reserve something of several accounts together; `None` if all have enough."""
        ...

    def renew(self, ids: Iterable[str], seconds: float) -> set[str]:
        """Let reservations count for so long from now on; those that are still there."""
        ...

    def release(self, id: str) -> bool:
        """Reserve it no more; whether it was there."""
        ...

    def lessen(self, id: str, steps: int) -> None:
        """Reserve so many steps less under an id, if it is there."""
        ...

    def settle(self, settlements: Sequence[Settlement]) -> dict[AccountKey, Account]:
        """Burn what calls have used, each once, and release what was reserved for them.

        Returns:
            The accounts that something was burnt of, as they are behind it.
        """
        ...

    def terms(self, subject: str) -> Terms:
        """What holds for a subject; nothing is written."""
        ...

    def set_rates(
        self, subject: str, *, requests_per_minute: int | None, tokens_per_minute: int | None
    ) -> None:
        """Say how much a subject may begin a minute."""
        ...

    def keys(self, subjects: Collection[str] | None = None) -> list[AccountKey]:
        """The accounts there are, or those of some subjects, in order."""
        ...

    def reservations(
        self, subject: str | None = None, *, id: str | None = None
    ) -> list[OpenReservation]:
        """What is reserved now, of everybody or of a subject, or under an id, in the order in which it ends."""
        ...

    def read(self, keys: Iterable[AccountKey]) -> dict[AccountKey, Held]:
        """Those accounts that are there, at one moment; nothing is written."""
        ...

    def close(self) -> None:
        """Let go of connections; the next who asks opens them again."""
        ...
