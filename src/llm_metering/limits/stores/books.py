"""What all stores have in common: what becomes of accounts in one transaction.

A database brings the statements (`Transaction`); what they are for stands here once.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Final, NamedTuple, Protocol, TypeVar

from ..account import Account
from ..features import Feature
from ..written import microseconds, moment_of, read_account, written
from .base import AccountKey, Held, Hold, Rate, Settlement, Shortage, TooFast

__all__ = ["NEVER", "Books", "Dropped", "Row", "Transaction"]

T = TypeVar("T")

NEVER: Final = 1 << 62
"""Microseconds of a moment that does not come."""

_UNBOUNDED: Final = 1 << 60
"""Steps that an account has left which is only counted."""

_MINUTE: Final = 60_000_000


class Row(NamedTuple):
    """An account as it is kept.

    Attributes:
        free: Whole steps that grants have left; more than anybody asks for, if it is only counted.
        reserved: Steps that are reserved of it, also by what has lapsed.
        changes_at: Until when `free` is right if nothing is burnt, in microseconds.
        state: The account, as JSON.
    """

    free: int
    reserved: int
    changes_at: int
    state: str


class Dropped(NamedTuple):
    """Something that is reserved no more."""

    key: AccountKey
    steps: int
    ends_at: int


class Transaction(Protocol):
    """The statements of a database, in a transaction.

    Attributes:
        now: The moment that it is at, by the store's clock, in microseconds.
    """

    now: int

    def undo(self) -> None:
        """Take back all that was done, and end it."""
        ...

    def holds(self, id: str) -> bool:
        """Whether there is a reservation of that id."""
        ...

    def take(self, key: AccountKey, steps: int) -> bool:
        """Reserve steps of an account if it surely has them; nobody else changes it until the end."""
        ...

    def begin(self, subject: str, kind: str, cost: int, minute: int) -> int | None:
        """Let something begin that costs a part of a minute, in microseconds, if the minute has it.

        Returns:
            `None` if it has; else the moment up to which the subject has used its minutes up.
        """
        ...

    def load(self, keys: Collection[AccountKey]) -> dict[AccountKey, Row]:
        """Those accounts that are there; nobody else changes them until the end."""
        ...

    def save(self, rows: Mapping[AccountKey, Row]) -> None:
        """Write accounts down."""
        ...

    def hold(self, hold: Hold, ends_at: int) -> None:
        """Write down what is reserved, and until when."""
        ...

    def keys_of(self, ids: Collection[str]) -> set[AccountKey]:
        """The accounts that reservations are of."""
        ...

    def drop(self, ids: Collection[str]) -> list[Dropped]:
        """Remove reservations, of whose accounts nobody else changes any."""
        ...

    def lessen(self, id: str, steps: int) -> list[Dropped]:
        """Make a reservation of one account smaller, of which nobody else changes any; by how much."""
        ...

    def lapse(self, keys: Collection[AccountKey]) -> list[Dropped]:
        """Remove what has ended of accounts that were loaded."""
        ...

    def renew(self, ids: Collection[str], ends_at: int) -> set[str]:
        """Let reservations that have not ended end no sooner; those that there are."""
        ...

    def settle(self, events: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Write events down, by source and id; those that were not there."""
        ...


class Books(Protocol):
    """A store of accounts, as far as it does not matter of which database.

    Attributes:
        features: By their keys; what accounts are of.
    """

    features: Mapping[str, Feature]

    @abstractmethod
    def _begun(self, *, synced: bool = True) -> AbstractContextManager[Transaction]:
        """A transaction; committed at the end of the block, and rolled back by an error.

        Args:
            synced: Whether it has to be on the disk at its end. What is reserved need not: who loses
                power loses the calls that it was reserved for.

        Raises:
            LimitStoreError: If the store cannot be used now.
        """

    @abstractmethod
    def read(self, keys: Iterable[AccountKey]) -> dict[AccountKey, Held]:
        """Those accounts that are there, at one moment; see `LimitStore`."""

    def change(
        self, key: AccountKey, work: Callable[[Account], T], *, make: Callable[[datetime], Account]
    ) -> T:
        """Let something happen to an account as it is now; see `LimitStore`."""
        with self._begun() as books:
            account, reserved = self._current(books, [key]).get(key) or (
                make(moment_of(books.now)),
                0,
            )
            result = work(account)
            self._save(books, {key: (account, reserved)})
            return result

    def reserve(self, hold: Hold) -> Shortage | TooFast | None:
        """Reserve something of several accounts together; see `LimitStore`."""
        with self._begun(synced=False) as books:
            if books.holds(hold.id):
                return None
            for rate in hold.rates:
                fast = _begin(books, hold.subject, rate)
                if fast is not None:
                    books.undo()
                    return fast
            # Everybody in the same order, so that nobody waits for each other.
            for key, steps in sorted(hold.amounts.items()):
                short = None if books.take(key, steps) else self._take(books, key, steps)
                if short is not None:
                    books.undo()
                    return short
            books.hold(hold, books.now + int(hold.seconds * 1_000_000))
            return None

    def renew(self, ids: Iterable[str], seconds: float) -> set[str]:
        """Let reservations count for so long from now on; see `LimitStore`."""
        with self._begun(synced=False) as books:
            return books.renew(list(ids), books.now + int(seconds * 1_000_000))

    def release(self, id: str) -> bool:
        """Reserve it no more; see `LimitStore`."""
        with self._begun(synced=False) as books:
            accounts = self._current(books, books.keys_of([id]))
            found = books.drop([id])
            self._save(books, self._less(books, accounts, found))
            return any(each.ends_at > books.now for each in found)

    def lessen(self, id: str, steps: int) -> None:
        """Reserve so many steps less under an id; see `LimitStore`."""
        with self._begun(synced=False) as books:
            accounts = self._current(books, books.keys_of([id]))
            self._save(books, self._less(books, accounts, books.lessen(id, steps)))

    def settle(self, settlements: Sequence[Settlement]) -> dict[AccountKey, Account]:
        """Burn what calls have used, each once; see `LimitStore`."""
        with self._begun() as books:
            new = books.settle({(each.source, each.id) for each in settlements})
            firsts: dict[tuple[str, str], Settlement] = {}
            for each in settlements:
                if (each.source, each.id) in new:
                    firsts.setdefault((each.source, each.id), each)
            ids: set[str] = set()
            parts_of: dict[str, int] = {}
            for each in firsts.values():
                if each.reservation is not None and each.part is None:
                    ids.add(each.reservation)
                elif each.reservation is not None and each.part is not None:
                    so_far = parts_of.get(each.reservation, 0)
                    parts_of[each.reservation] = so_far + each.part
            keys = books.keys_of([*ids, *parts_of])
            for each in firsts.values():
                keys |= each.amounts.keys()
            accounts = self._less(books, self._current(books, keys), books.drop(ids))
            for id, steps in sorted(parts_of.items()):
                accounts = self._less(books, accounts, books.lessen(id, steps))
            burnt: dict[AccountKey, Account] = {}
            for each in firsts.values():
                for key, parts in each.amounts.items():
                    if key in accounts:
                        burnt[key] = accounts[key][0]
                        burnt[key].burn(parts)
            self._save(books, accounts)
            return burnt

    def _take(self, books: Transaction, key: AccountKey, steps: int) -> Shortage | None:
        """Reserve steps of an account, which is brought to now first; or why it cannot be."""
        found = self._current(books, [key]).get(key)
        if found is None:
            return Shortage(key=key, available=None, needed=steps, changes_at=None)
        account, reserved = found
        available = self._free(key, account) - reserved
        if available < steps:
            changes_at = account.next_change()
            return Shortage(key=key, available=available, needed=steps, changes_at=changes_at)
        self._save(books, {key: (account, reserved + steps)})
        return None

    def _less(
        self,
        books: Transaction,
        accounts: dict[AccountKey, tuple[Account, int]],
        dropped: Sequence[Dropped],
    ) -> dict[AccountKey, tuple[Account, int]]:
        """Accounts, of which less is reserved; those that were reserved of a moment ago among them."""
        late = {each.key for each in dropped} - accounts.keys()
        if late:
            accounts = accounts | self._current(books, late)
        return _given_back(accounts, dropped)

    def _free(self, key: AccountKey, account: Account) -> int:
        if account.is_soft:
            return _UNBOUNDED
        feature = self.features.get(key.feature)
        # Of a feature that only others know nothing is reserved here; they look at the account itself.
        return 0 if feature is None else feature.steps_down(account.left)

    def _current(
        self, books: Transaction, keys: Collection[AccountKey]
    ) -> dict[AccountKey, tuple[Account, int]]:
        """Accounts as they are now, and what is reserved of them by what has not lapsed."""
        rows = books.load(keys)
        found = {}
        for key, row in rows.items():
            account = read_account(row.state)
            account.advance(moment_of(books.now))
            found[key] = account, row.reserved
        return _given_back(found, books.lapse(rows.keys()))

    def _save(self, books: Transaction, accounts: Mapping[AccountKey, tuple[Account, int]]) -> None:
        rows = {}
        for key, (account, reserved) in accounts.items():
            change = account.next_change()
            rows[key] = Row(
                free=min(self._free(key, account), _UNBOUNDED),
                reserved=reserved,
                changes_at=NEVER if change is None else microseconds(change),
                state=written(account),
            )
        books.save(rows)


def _begin(books: Transaction, subject: str, rate: Rate) -> TooFast | None:
    """Count what begins; or why it may not."""
    # What begins fills a minute, and time empties it: over any minute no more begins than twice what
    # may, and over many of them what may. One number is kept, the moment at which it will be empty
    # (https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm).
    cost = -(-rate.amount * _MINUTE // rate.per_minute)
    if cost > _MINUTE:
        return TooFast(kind=rate.kind, per_minute=rate.per_minute, needed=rate.amount, fits_at=None)
    empty_at = books.begin(subject, rate.kind, cost, _MINUTE)
    if empty_at is None:
        return None
    fits_at = moment_of(empty_at + cost - _MINUTE)
    return TooFast(kind=rate.kind, per_minute=rate.per_minute, needed=rate.amount, fits_at=fits_at)


def _given_back(
    accounts: dict[AccountKey, tuple[Account, int]], dropped: Iterable[Dropped]
) -> dict[AccountKey, tuple[Account, int]]:
    """Accounts, of which less is reserved now."""
    for key, steps, _ in dropped:
        if key in accounts:
            account, reserved = accounts[key]
            accounts[key] = account, reserved - steps
    return accounts
