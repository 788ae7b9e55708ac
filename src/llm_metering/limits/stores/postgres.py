"""`PostgresStore`: accounts in PostgreSQL, for the processes of many machines."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from ... import system
from ...errors import LimitStoreError, MissingExtraError
from ..account import Account
from ..features import Feature
from ..written import moment_of, read_account
from .base import (
    AccountKey,
    Held,
    Hold,
    OpenReservation,
    Settlement,
    Shortage,
    Terms,
    TooFast,
)
from .books import Books, Dropped, Row

if TYPE_CHECKING:
    import psycopg
    from psycopg_pool import ConnectionPool

__all__ = ["PostgresStore"]

CONNECTIONS: Final = 8
"""Of one process, at most."""

AT_ONCE: Final = 100
"""Events that are settled in one transaction."""

TIMEOUT: Final = 5.0
"""Seconds to wait for a connection."""

_NOW: Final = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_ACCOUNTS: Final = "llm_metering_accounts"
_RESERVATIONS: Final = "llm_metering_reservations"
# In one statement, so that nobody waits for an answer in between.
_RESERVE: Final = f"""
    WITH taken AS (
        UPDATE {_ACCOUNTS} SET reserved = reserved + %(steps)s
        WHERE subject = %(subject)s AND feature = %(feature)s AND changes_at > {{now}}
            AND free - reserved >= %(steps)s
            AND NOT EXISTS (SELECT 1 FROM {_RESERVATIONS} WHERE id = %(id)s)
        RETURNING subject, feature
    )
    INSERT INTO {_RESERVATIONS} (id, subject, feature, steps, ends_at)
    SELECT %(id)s, subject, feature, %(steps)s, {{now}} + %(length)s FROM taken
    """
_HOLDS: Final = f"SELECT 1 FROM {_RESERVATIONS} WHERE id = %s LIMIT 1"
_TAKE: Final = f"""
    UPDATE {_ACCOUNTS} SET reserved = reserved + %(steps)s
    WHERE subject = %(subject)s AND feature = %(feature)s AND changes_at > %(now)s
        AND free - reserved >= %(steps)s
    """
_THOSE: Final = "(SELECT * FROM unnest(%(subjects)s::text[], %(features)s::text[]))"
# In one order, so that no two wait for each other.
_LOAD: Final = f"""
    SELECT subject, feature, free, reserved, changes_at, state FROM {_ACCOUNTS}
    WHERE (subject, feature) IN {_THOSE} ORDER BY subject, feature
    """
_SAVE: Final = f"""
    INSERT INTO {_ACCOUNTS} (subject, feature, free, reserved, changes_at, state)
    SELECT * FROM json_to_recordset(%s::json) AS given
        (subject text, feature text, free bigint, reserved bigint, changes_at bigint, state text)
    ON CONFLICT (subject, feature) DO UPDATE SET
        free = excluded.free, reserved = excluded.reserved,
        changes_at = excluded.changes_at, state = excluded.state
    """
_HOLD: Final = f"""
    INSERT INTO {_RESERVATIONS} (id, subject, feature, steps, ends_at)
    SELECT %s, subject, feature, steps, %s
    FROM unnest(%s::text[], %s::text[], %s::bigint[]) AS given (subject, feature, steps)
    """
_KEYS: Final = f"SELECT DISTINCT subject, feature FROM {_RESERVATIONS} WHERE id = ANY(%s)"
_DROPPED: Final = "subject, feature, steps, ends_at"
_DROP: Final = f"DELETE FROM {_RESERVATIONS} WHERE id = ANY(%s) RETURNING {_DROPPED}"
_LAPSED: Final = f"""
    FROM {_RESERVATIONS} WHERE (subject, feature) IN {_THOSE} AND ends_at <= %(now)s
    """
_RENEW: Final = f"""
    UPDATE {_RESERVATIONS} SET ends_at = greatest(ends_at, %s)
    WHERE id = ANY(%s) AND ends_at > %s RETURNING id
    """
_BEGIN: Final = """
    INSERT INTO llm_metering_rates AS had (subject, kind, empty_at)
    VALUES (%(subject)s, %(kind)s, %(now)s + %(cost)s)
    ON CONFLICT (subject, kind) DO UPDATE SET
        empty_at = greatest(had.empty_at, %(now)s) + %(cost)s
        WHERE greatest(had.empty_at, %(now)s) + %(cost)s <= %(now)s + %(minute)s
    """
_TERMS: Final = f"""
    SELECT array(SELECT feature FROM {_ACCOUNTS} WHERE subject = %(subject)s),
        given.requests_per_minute, given.tokens_per_minute
    FROM (SELECT 1) AS one LEFT JOIN llm_metering_terms AS given ON given.subject = %(subject)s
    """
_SET_RATES: Final = """
    INSERT INTO llm_metering_terms (subject, requests_per_minute, tokens_per_minute)
    VALUES (%s, %s, %s) ON CONFLICT (subject) DO UPDATE SET
        requests_per_minute = excluded.requests_per_minute,
        tokens_per_minute = excluded.tokens_per_minute
    """
_OF: Final = "(%(subject)s::text IS NULL OR subject = %(subject)s)"
_NAMED: Final = "AND id = %(id)s"
_SETTLE: Final = """
    INSERT INTO llm_metering_settled (source, id)
    SELECT * FROM unnest(%s::text[], %s::text[]) ORDER BY 1, 2
    ON CONFLICT DO NOTHING RETURNING source, id
    """


class PostgresStore(Books):
    """Accounts in PostgreSQL, whose clock decides. The tables are made when they are first needed.

    Args:
        url: Where the database is, as libpq has it: `postgresql://user@host/name`.
        features: By their keys; what accounts are of.

    Raises:
        MissingExtraError: If psycopg is not installed.
    """

    is_remote = True

    def __init__(self, url: str, features: Mapping[str, Feature]) -> None:
        try:
            import psycopg  # noqa: F401
            import psycopg_pool  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("psycopg", "postgres") from error
        self._url = url
        self.features = features
        self._pool: ConnectionPool[psycopg.Connection[Any]] | None = None
        self._lock = threading.Lock()
        system.on_fork(self)

    def __repr__(self) -> str:
        return f"<PostgresStore {len(self.features)} features>"

    def reserve(self, hold: Hold) -> Shortage | TooFast | None:
        """Reserve something of several accounts together; see `LimitStore`."""
        if len(hold.amounts) == 1 and not hold.rates:
            [(key, steps)] = hold.amounts.items()
            asked = {
                **key._asdict(),
                "id": hold.id,
                "steps": steps,
                "length": int(hold.seconds * 1_000_000),
            }
            with self._lent() as connection:
                if connection.execute(_RESERVE.format(now=_NOW), asked).rowcount:
                    return None
        return super().reserve(hold)

    def settle(self, settlements: Sequence[Settlement]) -> dict[AccountKey, Account]:
        """Burn what calls have used, each once; see `LimitStore`."""
        # Some at a time, each part by itself: whoever reserves waits for accounts that are being settled.
        burnt: dict[AccountKey, Account] = {}
        for start in range(0, len(settlements), AT_ONCE):
            burnt |= super().settle(settlements[start : start + AT_ONCE])
        return burnt

    def read(self, keys: Iterable[AccountKey]) -> dict[AccountKey, Held]:
        """Those accounts that are there, at one moment; see `LimitStore`."""
        asked = _arrays(list(keys))
        with self._lent() as connection, connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            [now] = connection.execute(f"SELECT {_NOW}").fetchone() or (0,)
            rows = connection.execute(_LOAD, asked).fetchall()
            lapsed = connection.execute(
                f"SELECT {_DROPPED} {_LAPSED}", {**asked, "now": now}
            ).fetchall()
        gone: dict[AccountKey, int] = {}
        for key, steps, _ in map(_dropped, lapsed):
            gone[key] = gone.get(key, 0) + steps
        found = {}
        for subject, feature, *row in rows:
            key = AccountKey(subject, feature)
            account = read_account(row[3])
            account.advance(moment_of(now))
            found[key] = Held(account=account, reserved=row[1] - gone.get(key, 0))
        return found

    def terms(self, subject: str) -> Terms:
        """What holds for a subject; see `LimitStore`."""
        with self._lent() as connection:
            found = connection.execute(_TERMS, {"subject": subject}).fetchone()
        features, requests, tokens = found or ([], None, None)
        return Terms(
            features=frozenset(features), requests_per_minute=requests, tokens_per_minute=tokens
        )

    def set_rates(
        self, subject: str, *, requests_per_minute: int | None, tokens_per_minute: int | None
    ) -> None:
        """Say how much a subject may begin a minute; see `LimitStore`."""
        with self._lent() as connection, connection.transaction():
            connection.execute(_SET_RATES, (subject, requests_per_minute, tokens_per_minute))
            # What was begun is kept as a part of a minute, and was one of the former rate.
            connection.execute("DELETE FROM llm_metering_rates WHERE subject = %s", (subject,))

    def keys(self, subjects: Collection[str] | None = None) -> list[AccountKey]:
        """The accounts there are; see `LimitStore`."""
        # In the order of the characters, as everywhere else, whatever the database sorts by.
        sql = f"""
            SELECT subject, feature FROM {_ACCOUNTS}
            WHERE %(subjects)s::text[] IS NULL OR subject = ANY(%(subjects)s)
            ORDER BY subject COLLATE "C", feature COLLATE "C"
            """
        with self._lent() as connection:
            asked = {"subjects": None if subjects is None else list(subjects)}
            return [AccountKey(*row) for row in connection.execute(sql, asked)]

    def reservations(
        self, subject: str | None = None, *, id: str | None = None
    ) -> list[OpenReservation]:
        """What is reserved now; see `LimitStore`."""
        sql = f"""
            SELECT id, subject, feature, steps, ends_at FROM {_RESERVATIONS}
            WHERE {_OF} {_NAMED if id is not None else ""} AND ends_at > {_NOW}
            ORDER BY ends_at, id COLLATE "C", feature COLLATE "C"
            """
        with self._lent() as connection:
            rows = connection.execute(sql, {"subject": subject, "id": id}).fetchall()
        return [
            OpenReservation(id, AccountKey(whose, feature), steps, moment_of(ends_at))
            for id, whose, feature, steps, ends_at in rows
        ]

    def close(self) -> None:
        """Close all connections; the next who asks opens new ones."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def after_fork(self) -> None:
        """Begin anew in a forked child; the parent's connections stay as they are."""
        self._lock = threading.Lock()
        pool, self._pool = self._pool, None
        if pool is not None:
            system.never_close(pool)

    @contextlib.contextmanager
    def _begun(self, *, synced: bool = True) -> Iterator[_Transaction]:
        # What is not synced here may be lost with the server, not with this machine: always synced.
        with self._lent() as connection, connection.transaction() as transaction:
            [now] = connection.execute(f"SELECT {_NOW}").fetchone() or (0,)
            yield _Transaction(connection, transaction, now)

    @contextlib.contextmanager
    def _lent(self) -> Iterator[psycopg.Connection[Any]]:
        import psycopg
        from psycopg_pool import PoolTimeout

        system.notice_fork()
        try:
            with self._opened().connection(timeout=TIMEOUT) as connection:
                yield connection
        except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout, OSError) as error:
            if isinstance(error, psycopg.OperationalError) and self._pool is not None:
                # One connection was cut, and so are the others, perhaps: each would fail one caller.
                with contextlib.suppress(psycopg.Error, PoolTimeout, OSError):
                    self._pool.check()
            # Its class alone: what it says may hold the address.
            raise LimitStoreError(f"the store of limits: {type(error).__name__}") from error

    def _opened(self) -> ConnectionPool[psycopg.Connection[Any]]:
        from psycopg_pool import ConnectionPool

        with self._lock:
            if self._pool is None:
                self._pool = ConnectionPool(
                    self._url,
                    min_size=1,
                    max_size=CONNECTIONS,
                    open=True,
                    configure=_configured,
                    kwargs={"autocommit": True},
                    name="llm-metering-limits",
                )
            return self._pool


class _Transaction:
    """The statements of PostgreSQL."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        transaction: psycopg.Transaction,
        now: int,
    ) -> None:
        self._execute = connection.execute
        self._transaction = transaction
        self.now = now

    def undo(self) -> None:
        self._transaction.force_rollback = True

    def holds(self, id: str) -> bool:
        return self._execute(_HOLDS, (id,)).fetchone() is not None

    def take(self, key: AccountKey, steps: int) -> bool:
        asked = {**key._asdict(), "steps": steps, "now": self.now}
        return bool(self._execute(_TAKE, asked).rowcount)

    def begin(self, subject: str, kind: str, cost: int, minute: int) -> int | None:
        asked = {"subject": subject, "kind": kind, "cost": cost, "minute": minute, "now": self.now}
        if self._execute(_BEGIN, asked).rowcount:
            return None
        sql = "SELECT empty_at FROM llm_metering_rates WHERE subject = %s AND kind = %s"
        found = self._execute(sql, (subject, kind)).fetchone()
        return self.now if found is None else int(found[0])

    def load(self, keys: Collection[AccountKey]) -> dict[AccountKey, Row]:
        rows = self._execute(f"{_LOAD} FOR UPDATE", _arrays(keys))
        return {AccountKey(subject, feature): Row(*row) for subject, feature, *row in rows}

    def save(self, rows: Mapping[AccountKey, Row]) -> None:
        if rows:
            # As one text: psycopg writes lists of texts character by character.
            given = [{**key._asdict(), **row._asdict()} for key, row in rows.items()]
            self._execute(_SAVE, (json.dumps(given),))

    def hold(self, hold: Hold, ends_at: int) -> None:
        asked = _arrays(hold.amounts)
        steps = list(hold.amounts.values())
        self._execute(_HOLD, (hold.id, ends_at, asked["subjects"], asked["features"], steps))

    def keys_of(self, ids: Collection[str]) -> set[AccountKey]:
        return {AccountKey(*row) for row in self._execute(_KEYS, (list(ids),))}

    def drop(self, ids: Collection[str]) -> list[Dropped]:
        return [_dropped(row) for row in self._execute(_DROP, (list(ids),))]

    def lessen(self, id: str, steps: int) -> list[Dropped]:
        sql = f"SELECT {_DROPPED} FROM {_RESERVATIONS} WHERE id = %s"
        found = [_dropped(row) for row in self._execute(sql, (id,))]
        for key, reserved, _ in found:
            if reserved <= steps:
                self._execute(f"DELETE FROM {_RESERVATIONS} WHERE id = %s", (id,))
            else:
                sql = (
                    f"UPDATE {_RESERVATIONS} SET steps = steps - %s WHERE id = %s AND feature = %s"
                )
                self._execute(sql, (steps, id, key.feature))
        return [each._replace(steps=min(each.steps, steps)) for each in found]

    def lapse(self, keys: Collection[AccountKey]) -> list[Dropped]:
        asked = {**_arrays(keys), "now": self.now}
        rows = self._execute(f"DELETE {_LAPSED} RETURNING {_DROPPED}", asked)
        return [_dropped(row) for row in rows]

    def renew(self, ids: Collection[str], ends_at: int) -> set[str]:
        return {id for (id,) in self._execute(_RENEW, (ends_at, list(ids), self.now))}

    def settle(self, events: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        sources, ids = [source for source, _ in events], [id for _, id in events]
        return set(self._execute(_SETTLE, (sources, ids)))


def _arrays(keys: Collection[AccountKey]) -> dict[str, Any]:
    return {
        "subjects": [key.subject for key in keys],
        "features": [key.feature for key in keys],
    }


def _dropped(row: tuple[Any, ...]) -> Dropped:
    subject, feature, steps, ends_at = row
    return Dropped(AccountKey(subject, feature), steps, ends_at)


def _configured(connection: psycopg.Connection[Any]) -> None:
    """Have what is committed be on the disk, and make the tables, if they are not there."""
    [commits] = connection.execute("SHOW synchronous_commit").fetchone() or ("on",)
    if commits == "off":
        # What a role or a database has by default, for data that may be lost: grants may not.
        connection.execute("SET synchronous_commit = on")
    # Looked at first: to make an index that is there waits for all who write, and they for it.
    if _are_there(connection):
        return
    script = files(__package__).joinpath("postgres.sql").read_text("utf-8")
    with connection.transaction():
        # Of many who make them at once, one after the other.
        connection.execute("SELECT pg_advisory_xact_lock(5641877)")
        if not _are_there(connection):
            connection.execute(script)


def _are_there(connection: psycopg.Connection[Any]) -> bool:
    # Made last of all. Not by `to_regclass`, which goes on saying no, as it did before a lock was waited
    # for: what it looks into is brought up to date when a transaction begins or locks a table.
    found = connection.execute(
        "SELECT FROM pg_catalog.pg_class "
        "WHERE relname = 'llm_metering_settled' AND pg_table_is_visible(oid)"
    )
    return found.rowcount > 0
