"""`Staging`: events on their way into the ledger, all of a file at once or none.

They are gathered in a temporary table, which SQLite keeps in a file without a name: it is gone with
the process, however that ends. Then one transaction takes them in. Whoever dies before its end leaves
nothing behind, and readers see all of them or none. Meanwhile other writers wait, or come again: what
they hold is in the journal.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from ..meters.moments import rfc3339
from ..sinks._payload import UnusableEventError
from ._breaks import PAUSE
from ._chain import Chain
from ._files import UnavailableError, check_version, make_schema
from ._folding import FOLD_AT, fold_if_due
from ._handle import Handle
from ._rows import ALL_COLUMNS, COLUMNS, microseconds, read_row
from .staging_values import Counts, Differing, Sum

__all__ = ["Staging", "staging"]

PATIENCE: Final = 30.0
"""Seconds to wait for others who write."""

_NAMES: Final = ", ".join(ALL_COLUMNS)
_MAKE: Final = f"""
    CREATE TEMP TABLE staged (place INTEGER PRIMARY KEY, {_NAMES});
    CREATE TEMP TABLE passed (place INTEGER PRIMARY KEY, reason TEXT NOT NULL);
    """
_STAGE: Final = f"INSERT INTO staged VALUES (?, {', '.join('?' * len(ALL_COLUMNS))})"
# Of what is there more than once in the file, the first counts.
_REPEATED: Final = """
    INSERT INTO passed
    SELECT staged.place, 'repeated' FROM (
        SELECT source, id, min(place) AS first FROM staged
        GROUP BY source, id HAVING count(*) > 1
    ) AS found JOIN staged ON staged.source = found.source AND staged.id = found.id
    WHERE staged.place > found.first
    """
_KNOWN: Final = """
    INSERT INTO passed
    SELECT staged.place, 'known' FROM staged JOIN events USING (source, id)
    WHERE staged.place NOT IN (SELECT place FROM passed)
    """
_TAKE: Final = f"""
    INSERT INTO main.events ({_NAMES})
    SELECT {_NAMES} FROM staged WHERE place NOT IN (SELECT place FROM passed)
    ORDER BY place
    ON CONFLICT (source, id) DO NOTHING
    """
# Beside another event of the file, or that of the ledger; a body that was pruned differs from none.
_DIFFERING: Final = f"""
    SELECT staged.place, staged.payload, stored.payload,
        {", ".join(f"stored.{name} IS NOT staged.{name}" for name in COLUMNS[2:-1])}
    FROM passed JOIN staged USING (place) JOIN {{stored}} AS stored USING (source, id)
    WHERE passed.reason = ? AND stored.payload <> staged.payload{{first}}
    ORDER BY 1
    """
_FIRST: Final = " AND stored.place NOT IN (SELECT place FROM passed WHERE reason = 'repeated')"
_SUMS: Final = """
    SELECT subject, model, count(*), sum(input_tokens), sum(output_tokens), sum(total_tokens),
        sum(calls)
    FROM staged WHERE place NOT IN (SELECT place FROM passed)
    GROUP BY subject, model ORDER BY subject, model
    """
_ANY: Final = """
    SELECT 1 FROM rollups
    WHERE grain = 86400 AND window_start >= :before AND window_start < :end AND provider = :provider
    LIMIT 1
    """
# Where an imported bucket ends that was pruned nobody knows: it may be a day long, as none is longer.
_BESIDE: Final = """
    SELECT source, count(*) FROM main.events AS stored
    WHERE provider = :provider AND time >= :before AND time < :end
        AND stored.rowid > :after AND ifnull(status, '') <> 'cached'
        AND (ifnull(operation, '') IN ('embeddings', 'moderations')) = :apart
        AND (:apart = 0 OR operation = :operation)
        AND (time >= :start OR CASE WHEN json_valid(payload) THEN
            ifnull(json_extract(payload, '$.data.bucket_end') > :start_text, false)
            ELSE payload = '' AND time > :start - 86400000000 AND time % 60000000 = 0
                AND (source LIKE 'import:%' OR source IN (SELECT source FROM staged)) END)
        AND NOT EXISTS (
            SELECT 1 FROM staged WHERE staged.source = stored.source AND staged.id = stored.id
        )
    GROUP BY source ORDER BY source
    """

_DAY: Final = 86_400_000_000
_NO_SPACE: Final = (
    "no space is left for what is gathered of the file, in the folder of temporary files "
    "(SQLITE_TMPDIR or TMPDIR names another one)"
)


@contextlib.contextmanager
def staging(path: Path, *, dry_run: bool, keys: Iterable[bytes] = ()) -> Iterator[Staging]:
    """Events for a ledger.

    Args:
        path: The ledger's file.
        keys: What its events are signed with, as `Ledger` has it.
        dry_run: Only to look: nothing is made or written.

    Raises:
        UnavailableError: If the ledger cannot be read, or written.
    """
    handle = Handle(path, keys)
    if not dry_run:
        handle.catch_up()
        with contextlib.closing(handle), handle.writing() as connection:
            yield Staging(connection, handle.chain)
        return
    with handle.reading() as found:
        if found is not None:
            found.execute("BEGIN")
            is_made = check_version(found)
            found.execute("COMMIT")
            if is_made:
                yield Staging(found)
                return
        with contextlib.closing(sqlite3.connect("", isolation_level=None)) as empty:
            make_schema(empty)
            yield Staging(empty)


class Staging:
    """Events that are gathered, compared with the ledger's, and taken in.

    Args:
        connection: Of the ledger.
        chain: Signs what is taken in.
    """

    def __init__(self, connection: sqlite3.Connection, chain: Chain | None = None) -> None:
        self._connection = connection
        self._chain = chain or Chain()
        connection.executescript(_MAKE)
        self._compared = 0
        self.staged = 0

    def __repr__(self) -> str:
        return f"<Staging staged={self.staged}>"

    def add(self, events: Iterable[tuple[int, bytes]]) -> list[tuple[int, str]]:
        """Gather events, each with its place in the file.

        Returns:
            The places of those that no ledger takes, each with the reason, which quotes nothing.
        """
        placed: list[tuple[str | int | None, ...]] = []
        refused = []
        for place, payload in events:
            try:
                placed.append((place, *read_row(payload)))
            except UnusableEventError as error:
                refused.append((place, str(error)))
        try:
            self._connection.execute("BEGIN")
            self._connection.executemany(_STAGE, placed)
            self._connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
                raise UnavailableError(_NO_SPACE, hold=False) from error
            raise
        self.staged += len(placed)
        return refused

    def compare(self) -> Counts:
        """Compare what was gathered with the ledger."""
        execute = self._connection.execute
        execute("CREATE INDEX IF NOT EXISTS temp.staged_by_id ON staged (source, id)")
        execute("DELETE FROM passed")
        (self._compared,) = execute("SELECT ifnull(max(rowid), 0) FROM main.events").fetchone()
        repeated = execute(_REPEATED).rowcount
        known = execute(_KNOWN).rowcount
        return Counts(self.staged - repeated - known, known, repeated)

    def differing(self) -> Iterator[Differing]:
        """Those that are known or repeated with another content than the one that counts."""
        for reason, stored, first in (
            ("known", "main.events", ""),
            ("repeated", "staged", _FIRST),
        ):
            sql = _DIFFERING.format(stored=stored, first=first)
            for place, payload, other, *differ in self._connection.execute(sql, (reason,)):
                columns = tuple(
                    name for name, flag in zip(COLUMNS[2:-1], differ, strict=True) if flag
                )
                if other or columns:
                    yield Differing(place, payload.encode(), other.encode(), columns)

    def sums(self) -> list[Sum]:
        """What the new ones add up to."""
        return [Sum(*found) for found in self._connection.execute(_SUMS)]

    def beside(
        self,
        provider: str,
        operation: str | None,
        start: datetime,
        end: datetime,
        *,
        is_new: bool = False,
    ) -> list[tuple[str, int]]:
        """By source, how many events of a provider and period the ledger has that are not among these.

        Args:
            provider: Its name.
            operation: Embeddings and moderations are apart from all other calls.
            start: The first moment. A bucket that began before it may reach into the period.
            end: The first moment after the period.
            is_new: Of those alone that were taken in since `compare` looked.
        """
        first = microseconds(start)
        asked = {
            "provider": provider,
            "apart": int(operation in ("embeddings", "moderations")),
            "operation": operation,
            "start": first,
            "start_text": rfc3339(start),
            "before": first - first % _DAY - _DAY,
            "end": microseconds(end),
            "after": self._compared if is_new else 0,
        }
        # By the sums of days first: mostly there is none, and then no event has to be looked at.
        if self._connection.execute(_ANY, asked).fetchone() is None:
            return []
        return self._connection.execute(_BESIDE, asked).fetchall()

    def take(self, expected: int, check: Callable[[], None] | None = None) -> bool:
        """Take in the new ones, all of them or none.

        Args:
            expected: How many are new.
            check: Called when nobody else can write any more; what it raises leaves nothing behind.

        Returns:
            Whether they were; if not, somebody took in some of them meanwhile: compare again.

        Raises:
            sqlite3.Error: If SQLite cannot.
        """
        self._begin()
        check_version(self._connection)
        if check is not None:
            check()
        tail = self._chain.tail(self._connection)
        taken = self._connection.execute(_TAKE).rowcount
        if taken != expected:
            self._connection.execute("ROLLBACK")
            return False
        self._chain.extend(self._connection, tail)
        self._connection.execute("COMMIT")
        self._fold(taken)
        return True

    def _fold(self, taken: int) -> None:
        """Add up what was taken in: until that is done, questions read all of it."""
        for done in range(0, taken, FOLD_AT):
            if done:
                time.sleep(PAUSE)
            fold_if_due(self._connection)

    def _begin(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                if time.monotonic() >= deadline:
                    raise
            else:
                return
