"""`SQLiteStore`: accounts in a file, for the processes of one machine."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Final

from ...errors import LimitStoreError
from ...sqlite_files import SQLiteFile
from ..features import Feature
from ..written import moment_of, read_account
from .base import AccountKey, Held, Hold, OpenReservation, Terms
from .books import Books, Dropped, Row

__all__ = ["SQLiteStore"]

_OF: Final = "(:subject IS NULL OR subject = :subject)"
_NAMED: Final = "AND id = :id"
_HOLDS: Final = "SELECT 1 FROM reservations WHERE id = ? LIMIT 1"
_TAKE: Final = """
    UPDATE accounts SET reserved = reserved + :steps
    WHERE subject = :subject AND feature = :feature AND changes_at > :now
        AND free - reserved >= :steps
    """
_LOAD: Final = """
    SELECT free, reserved, changes_at, state FROM accounts WHERE subject = ? AND feature = ?
    """
_SAVE: Final = """
    INSERT INTO accounts (subject, feature, free, reserved, changes_at, state)
    VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (subject, feature) DO UPDATE SET
        free = excluded.free, reserved = excluded.reserved,
        changes_at = excluded.changes_at, state = excluded.state
    """
_HOLD: Final = (
    "INSERT INTO reservations (id, subject, feature, steps, ends_at) VALUES (?, ?, ?, ?, ?)"
)
_AMONG: Final = "id IN (SELECT value FROM json_each(?))"
_KEYS: Final = f"SELECT DISTINCT subject, feature FROM reservations WHERE {_AMONG}"
_DROPPED: Final = "subject, feature, steps, ends_at"
_DROP: Final = f"DELETE FROM reservations WHERE {_AMONG} RETURNING {_DROPPED}"
_LAPSED: Final = "FROM reservations WHERE subject = ? AND feature = ? AND ends_at <= ?"
_RENEW: Final = f"""
    UPDATE reservations SET ends_at = max(ends_at, ?) WHERE {_AMONG} AND ends_at > ? RETURNING id
    """
_BEGIN: Final = """
    INSERT INTO rates (subject, kind, empty_at) VALUES (:subject, :kind, :now + :cost)
    ON CONFLICT (subject, kind) DO UPDATE SET empty_at = max(empty_at, :now) + :cost
        WHERE max(empty_at, :now) + :cost <= :now + :minute
    """
_TERMS: Final = "SELECT requests_per_minute, tokens_per_minute FROM terms WHERE subject = ?"
_SET_RATES: Final = """
    INSERT INTO terms (subject, requests_per_minute, tokens_per_minute) VALUES (?, ?, ?)
    ON CONFLICT (subject) DO UPDATE SET
        requests_per_minute = excluded.requests_per_minute,
        tokens_per_minute = excluded.tokens_per_minute
    """
_SETTLE: Final = "INSERT INTO settled (source, id) VALUES (?, ?) ON CONFLICT DO NOTHING"


class SQLiteStore(Books):
    """Accounts in a file. Many processes may share it; it is opened when it is first needed.

    Args:
        path: The file; it is made, for this user only, when it is first written.
        features: By their keys; what accounts are of.
    """

    is_remote = False

    def __init__(self, path: Path, features: Mapping[str, Feature]) -> None:
        self.path = path
        self.features = features
        self._file = SQLiteFile(
            path,
            script=files(__package__).joinpath("sqlite.sql").read_text("utf-8"),
            name="the store of limits",
            error=LimitStoreError,
        )

    def __repr__(self) -> str:
        return f"<SQLiteStore {self.path}>"

    def read(self, keys: Iterable[AccountKey]) -> dict[AccountKey, Held]:
        """Those accounts that are there, at one moment; see `LimitStore`."""
        found: dict[AccountKey, Held] = {}
        if not self.path.exists():
            return found
        with self._file.lent() as connection:
            connection.execute("BEGIN")
            books = _Transaction(connection, _now())
            for key, row in books.load(list(keys)).items():
                account = read_account(row.state)
                account.advance(moment_of(books.now))
                lapsed = connection.execute(
                    f"SELECT ifnull(sum(steps), 0) {_LAPSED}", (*key, books.now)
                )
                found[key] = Held(account=account, reserved=row.reserved - lapsed.fetchone()[0])
            connection.execute("COMMIT")
        return found

    def terms(self, subject: str) -> Terms:
        """What holds for a subject; see `LimitStore`."""
        if not self.path.exists():
            return Terms()
        with self._file.lent() as connection:
            rows = connection.execute("SELECT feature FROM accounts WHERE subject = ?", (subject,))
            features = frozenset(feature for (feature,) in rows)
            rates = connection.execute(_TERMS, (subject,)).fetchone() or (None, None)
        return Terms(features=features, requests_per_minute=rates[0], tokens_per_minute=rates[1])

    def set_rates(
        self, subject: str, *, requests_per_minute: int | None, tokens_per_minute: int | None
    ) -> None:
        """Say how much a subject may begin a minute; see `LimitStore`."""
        with self._file.lent() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_SET_RATES, (subject, requests_per_minute, tokens_per_minute))
            # What was begun is kept as a part of a minute, and was one of the former rate.
            connection.execute("DELETE FROM rates WHERE subject = ?", (subject,))
            connection.execute("COMMIT")

    def keys(self, subjects: Collection[str] | None = None) -> list[AccountKey]:
        """The accounts there are; see `LimitStore`."""
        if not self.path.exists():
            return []
        of = ""
        if subjects is not None:
            of = "WHERE subject IN (SELECT value FROM json_each(:subjects))"
        sql = f"SELECT subject, feature FROM accounts {of} ORDER BY subject, feature"
        asked = {} if subjects is None else {"subjects": json.dumps(list(subjects))}
        with self._file.lent() as connection:
            return [AccountKey(*row) for row in connection.execute(sql, asked)]

    def reservations(
        self, subject: str | None = None, *, id: str | None = None
    ) -> list[OpenReservation]:
        """What is reserved now; see `LimitStore`."""
        if not self.path.exists():
            return []
        sql = f"""
            SELECT id, subject, feature, steps, ends_at FROM reservations
            WHERE {_OF} {_NAMED if id is not None else ""} AND ends_at > :now ORDER BY ends_at, id, feature
            """
        with self._file.lent() as connection:
            rows = connection.execute(sql, {"subject": subject, "id": id, "now": _now()}).fetchall()
        return [
            OpenReservation(id, AccountKey(whose, feature), steps, moment_of(ends_at))
            for id, whose, feature, steps, ends_at in rows
        ]

    def close(self) -> None:
        """Close the file; the next who asks opens it again."""
        self._file.close()

    @contextlib.contextmanager
    def _begun(self, *, synced: bool = True) -> Iterator[_Transaction]:
        with self._file.lent() as connection:
            connection.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            yield _Transaction(connection, _now())
            if connection.in_transaction:
                connection.execute("COMMIT")


class _Transaction:
    """The statements of SQLite; one process at a time has a transaction that writes."""

    def __init__(self, connection: sqlite3.Connection, now: int) -> None:
        self._execute = connection.execute
        self._execute_many = connection.executemany
        self.now = now

    def undo(self) -> None:
        self._execute("ROLLBACK")

    def holds(self, id: str) -> bool:
        return self._execute(_HOLDS, (id,)).fetchone() is not None

    def take(self, key: AccountKey, steps: int) -> bool:
        asked = {**key._asdict(), "steps": steps, "now": self.now}
        return bool(self._execute(_TAKE, asked).rowcount)

    def begin(self, subject: str, kind: str, cost: int, minute: int) -> int | None:
        asked = {"subject": subject, "kind": kind, "cost": cost, "minute": minute, "now": self.now}
        if self._execute(_BEGIN, asked).rowcount:
            return None
        sql = "SELECT empty_at FROM rates WHERE subject = ? AND kind = ?"
        (empty_at,) = self._execute(sql, (subject, kind)).fetchone()
        return int(empty_at)

    def load(self, keys: Collection[AccountKey]) -> dict[AccountKey, Row]:
        rows = ((key, self._execute(_LOAD, key).fetchone()) for key in keys)
        return {key: Row(*row) for key, row in rows if row is not None}

    def save(self, rows: Mapping[AccountKey, Row]) -> None:
        self._execute_many(_SAVE, [(*key, *row) for key, row in rows.items()])

    def hold(self, hold: Hold, ends_at: int) -> None:
        self._execute_many(
            _HOLD, [(hold.id, *key, steps, ends_at) for key, steps in hold.amounts.items()]
        )

    def keys_of(self, ids: Collection[str]) -> set[AccountKey]:
        return {AccountKey(*row) for row in self._execute(_KEYS, (json.dumps(list(ids)),))}

    def drop(self, ids: Collection[str]) -> list[Dropped]:
        return _dropped(self._execute(_DROP, (json.dumps(list(ids)),)))

    def lessen(self, id: str, steps: int) -> list[Dropped]:
        sql = f"SELECT {_DROPPED} FROM reservations WHERE id = ?"
        found = _dropped(self._execute(sql, (id,)))
        for key, reserved, _ in found:
            if reserved <= steps:
                self._execute("DELETE FROM reservations WHERE id = ?", (id,))
            else:
                sql = "UPDATE reservations SET steps = steps - ? WHERE id = ? AND feature = ?"
                self._execute(sql, (steps, id, key.feature))
        return [each._replace(steps=min(each.steps, steps)) for each in found]

    def lapse(self, keys: Collection[AccountKey]) -> list[Dropped]:
        found = []
        for key in keys:
            sql = f"DELETE {_LAPSED} RETURNING {_DROPPED}"
            found += _dropped(self._execute(sql, (*key, self.now)))
        return found

    def renew(self, ids: Collection[str], ends_at: int) -> set[str]:
        asked = (ends_at, json.dumps(list(ids)), self.now)
        return {id for (id,) in self._execute(_RENEW, asked)}

    def settle(self, events: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        return {event for event in events if self._execute(_SETTLE, event).rowcount}


def _dropped(rows: Iterable[tuple[str, str, int, int]]) -> list[Dropped]:
    return [
        Dropped(AccountKey(subject, feature), steps, ends_at)
        for subject, feature, steps, ends_at in rows
    ]


def _now() -> int:
    return time.time_ns() // 1000
