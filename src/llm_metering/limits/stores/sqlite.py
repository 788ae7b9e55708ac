"""`SQLiteStore`: accounts in a file, for the processes of one machine."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from ..account import Account
from ..features import Feature
from ..written import microseconds, moment_of, read_account, written
from ._sqlite_file import SQLiteFile
from .base import AccountKey, Held, Hold, Settlement, Shortage

__all__ = ["SQLiteStore"]

T = TypeVar("T")

_NEVER: Final = 1 << 62

_TAKE: Final = """
    UPDATE accounts SET reserved = reserved + :steps
    WHERE subject = :subject AND feature = :feature AND changes_at > :now
        AND free - reserved >= :steps
    """
_LOAD: Final = "SELECT state, reserved FROM accounts WHERE subject = ? AND feature = ?"
_SAVE: Final = """
    INSERT INTO accounts (subject, feature, free, reserved, changes_at, state)
    VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (subject, feature) DO UPDATE SET
        free = excluded.free, reserved = excluded.reserved,
        changes_at = excluded.changes_at, state = excluded.state
    """
_HOLD: Final = (
    "INSERT INTO reservations (id, subject, feature, steps, ends_at) VALUES (?, ?, ?, ?, ?)"
)
_LAPSED: Final = """
    DELETE FROM reservations WHERE subject = ? AND feature = ? AND ends_at <= ? RETURNING steps
    """
_RELEASE: Final = "DELETE FROM reservations WHERE id = ? RETURNING subject, feature, steps, ends_at"
_GIVE_BACK: Final = """
    UPDATE accounts SET reserved = reserved - ? WHERE subject = ? AND feature = ?
    """
_SETTLE: Final = "INSERT INTO settled (source, id) VALUES (?, ?) ON CONFLICT DO NOTHING"


class SQLiteStore:
    """Accounts in a file. Many processes may share it; it is opened when it is first needed.

    Args:
        path: The file; it is made, for this user only, when something is first granted.
        features: By their keys; what accounts are of.
    """

    def __init__(self, path: Path, features: Mapping[str, Feature]) -> None:
        self.path = path
        self._features = features
        self._file = SQLiteFile(path)

    def __repr__(self) -> str:
        return f"<SQLiteStore {self.path}>"

    def change(
        self, key: AccountKey, work: Callable[[Account], T], *, make: Callable[[datetime], Account]
    ) -> T:
        """Let something happen to an account as it is now; see `LimitStore`."""
        with self._writing() as (connection, now):
            found = self._current(connection, key, now)
            account, reserved = found or (make(moment_of(now)), 0)
            result = work(account)
            self._save(connection, key, account, reserved)
            return result

    def reserve(self, hold: Hold) -> Shortage | None:
        """Reserve something of several accounts together; see `LimitStore`."""
        with self._writing() as (connection, now):
            there = connection.execute("SELECT 1 FROM reservations WHERE id = ?", (hold.id,))
            if there.fetchone() is not None:
                return None
            for key, steps in hold.amounts.items():
                short = self._take(connection, key, steps, now)
                if short is not None:
                    connection.execute("ROLLBACK")
                    return short
            ends_at = now + int(hold.seconds * 1_000_000)
            connection.executemany(
                _HOLD, [(hold.id, *key, steps, ends_at) for key, steps in hold.amounts.items()]
            )
            return None

    def renew(self, ids: Iterable[str], seconds: float) -> set[str]:
        """Let reservations count for so long from now on; see `LimitStore`."""
        found = set()
        with self._writing() as (connection, now):
            ends_at = now + int(seconds * 1_000_000)
            for each in ids:
                done = connection.execute(
                    "UPDATE reservations SET ends_at = max(ends_at, ?) WHERE id = ? AND ends_at > ?",
                    (ends_at, each, now),
                )
                if done.rowcount:
                    found.add(each)
        return found

    def release(self, id: str) -> bool:
        """Reserve it no more; see `LimitStore`."""
        with self._writing() as (connection, now):
            return self._release(connection, id, now)

    def settle(self, settlements: Sequence[Settlement]) -> int:
        """Burn what calls have used, each once; see `LimitStore`."""
        with self._writing() as (connection, now):
            new = [
                each
                for each in settlements
                if connection.execute(_SETTLE, (each.source, each.id)).rowcount
            ]
            burnt: dict[AccountKey, int] = {}
            for each in new:
                if each.reservation is not None:
                    self._release(connection, each.reservation, now)
                for key, parts in each.amounts.items():
                    burnt[key] = burnt.get(key, 0) + parts
            for key, parts in burnt.items():
                found = self._current(connection, key, now)
                if found is not None:
                    account, reserved = found
                    account.burn(parts)
                    self._save(connection, key, account, reserved)
            return len(new)

    def read(self, keys: Iterable[AccountKey]) -> dict[AccountKey, Held]:
        """Those accounts that are there, at one moment; see `LimitStore`."""
        found: dict[AccountKey, Held] = {}
        if not self.path.exists():
            return found
        with self._file.lent() as connection:
            connection.execute("BEGIN")
            now = _now()
            for key in keys:
                row = connection.execute(_LOAD, key).fetchone()
                if row is not None:
                    account = read_account(row[0])
                    account.advance(moment_of(now))
                    (lapsed,) = connection.execute(
                        "SELECT ifnull(sum(steps), 0) FROM reservations "
                        "WHERE subject = ? AND feature = ? AND ends_at <= ?",
                        (*key, now),
                    ).fetchone()
                    found[key] = Held(account=account, reserved=row[1] - lapsed)
            connection.execute("COMMIT")
        return found

    def close(self) -> None:
        """Close the connection; the next who asks opens it again."""
        self._file.close()

    def _take(
        self, connection: sqlite3.Connection, key: AccountKey, steps: int, now: int
    ) -> Shortage | None:
        asked = {**key._asdict(), "steps": steps, "now": now}
        if connection.execute(_TAKE, asked).rowcount:
            return None
        found = self._current(connection, key, now)
        if found is None:
            return Shortage(key=key, available=None, needed=steps, changes_at=None)
        account, reserved = found
        available = self._features[key.feature].steps_down(account.left) - reserved
        if available < steps:
            changes_at = account.next_change()
            return Shortage(key=key, available=available, needed=steps, changes_at=changes_at)
        self._save(connection, key, account, reserved + steps)
        return None

    def _current(
        self, connection: sqlite3.Connection, key: AccountKey, now: int
    ) -> tuple[Account, int] | None:
        """An account as it is now, and what is reserved of it by what has not lapsed."""
        row = connection.execute(_LOAD, key).fetchone()
        if row is None:
            return None
        account = read_account(row[0])
        account.advance(moment_of(now))
        lapsed = sum(steps for (steps,) in connection.execute(_LAPSED, (*key, now)).fetchall())
        return account, row[1] - lapsed

    def _save(
        self, connection: sqlite3.Connection, key: AccountKey, account: Account, reserved: int
    ) -> None:
        change = account.next_change()
        changes_at = _NEVER if change is None else microseconds(change)
        free = self._features[key.feature].steps_down(account.left)
        connection.execute(_SAVE, (*key, free, reserved, changes_at, written(account)))

    def _release(self, connection: sqlite3.Connection, id: str, now: int) -> bool:
        rows = connection.execute(_RELEASE, (id,)).fetchall()
        for subject, feature, steps, _ in rows:
            connection.execute(_GIVE_BACK, (steps, subject, feature))
        return any(ends_at > now for *_, ends_at in rows)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[tuple[sqlite3.Connection, int]]:
        """A transaction that writes, and the moment that it is at."""
        with self._file.lent() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection, _now()
            if connection.in_transaction:
                connection.execute("COMMIT")


def _now() -> int:
    return time.time_ns() // 1000
