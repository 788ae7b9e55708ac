"""Looking at a ledger from outside, without writing to it or beside it."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

from ._chain import read_seals
from ._files import BUSY_TIMEOUT, SCHEMA_VERSION, UnavailableError, check_version, explain
from ._links import Signer
from ._rows import microseconds
from .intake import omitted_since
from .recounting import differences, has_rollups

__all__ = ["Inspection", "inspect_ledger", "key_ids"]

_RECENTLY: Final = timedelta(days=7)

_MOST: Final = 10
"""Wrong sums that are looked for in each table."""

Found = TypeVar("Found")

_STEPS: Final = 10_000
"""Steps of SQLite's machine between two looks at the clock; about a millisecond."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What a ledger's file is like.

    Attributes:
        size: Bytes.
        problem: Why it cannot be used; `None` if it can.
        schema: The version of its schema, if it could be read.
        oldest_writer: The oldest version that may write to it, if it could be read.
        supported: The version of this library's schema.
        damage: What SQLite's `quick_check` found; none of it if nothing is wrong.
        is_checked: Whether that came to its end in time.
        wrong_sums: How many rows say something else than the events, of those that were named; `None`
            if they were not counted again in time, or the ledger has no such sums yet.
        key_id: Of the key that signs its events; `None` if nobody does.
        omitted: Of a broker's records that made no events, how many times each kind was seen within
            a week.
    """

    size: int
    problem: str | None = None
    schema: int | None = None
    oldest_writer: int | None = None
    supported: int = SCHEMA_VERSION
    damage: tuple[str, ...] = ()
    is_checked: bool = False
    wrong_sums: int | None = None
    key_id: str | None = None
    omitted: Mapping[str, int] = field(default_factory=dict)


def inspect_ledger(path: Path, *, limit: float) -> Inspection | None:
    """Look at a ledger.

    Args:
        path: Its file.
        limit: Seconds that may be taken by `quick_check`, which reads all of it, and then by
            counting again all that was added up.

    Returns:
        What was found; `None` if there is no ledger.
    """
    while True:
        try:
            before = _state(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            return Inspection(size=0, problem=str(explain(error)))
        found = _look(path, alone=not before[2], size=before[1], limit=limit)
        # Read as if nobody could write; if somebody did, what was read may be of two moments.
        if before[2] or _state(path) == before:
            return found


def key_ids(keys: Iterable[bytes]) -> set[str]:
    """What keys are called where something was signed with them."""
    return {Signer(key).id for key in keys}


def _state(path: Path) -> tuple[int, int, bool]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size, path.with_name(f"{path.name}-wal").exists()


def _look(path: Path, *, alone: bool, size: int, limit: float) -> Inspection:
    # A read-only connection makes the files of the write-ahead log where they are missing, as
    # they are while nobody has the ledger open (https://www.sqlite.org/wal.html#readonly).
    mode = "mode=ro&immutable=1" if alone else "mode=ro"
    schema = oldest = key_id = None
    omitted: dict[str, int] = {}
    try:
        with contextlib.closing(
            sqlite3.connect(
                f"{path.absolute().as_uri()}?{mode}",
                uri=True,
                timeout=BUSY_TIMEOUT,
                isolation_level=None,
            )
        ) as connection:
            connection.execute("BEGIN")
            (schema,) = connection.execute("PRAGMA user_version").fetchone()
            if check_version(connection):
                (oldest,) = connection.execute(
                    "SELECT ifnull(max(value), 0) FROM meta WHERE key = 'oldest_writer'"
                ).fetchone()
                since = microseconds(datetime.now(UTC) - _RECENTLY)
                omitted = omitted_since(connection, since)
                key_id = _key_id(connection)
            deadline = time.monotonic() + limit
            damage = _in_time(connection, deadline, _quick_check)
            wrong_sums = None
            if damage == () and has_rollups(connection):
                wrong_sums = _in_time(connection, deadline, _wrong_sums)
    except UnavailableError as error:
        return Inspection(size=size, problem=str(error), schema=schema)
    except sqlite3.Error as error:
        return Inspection(size=size, problem=str(explain(error)), schema=schema)
    return Inspection(
        size=size,
        schema=schema,
        oldest_writer=oldest,
        damage=damage or (),
        is_checked=damage is not None,
        wrong_sums=wrong_sums,
        key_id=key_id,
        omitted=omitted,
    )


def _key_id(connection: sqlite3.Connection) -> str | None:
    there = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'seals'").fetchone()
    seals = read_seals(connection) if there else []
    return seals[-1].key_id if seals else None


def _quick_check(connection: sqlite3.Connection) -> tuple[str, ...]:
    lines = [str(line) for (line,) in connection.execute("PRAGMA quick_check(10)")]
    return () if lines == ["ok"] else tuple(lines)


def _wrong_sums(connection: sqlite3.Connection) -> int:
    return len(differences(connection, _MOST))


def _in_time(
    connection: sqlite3.Connection, deadline: float, work: Callable[[sqlite3.Connection], Found]
) -> Found | None:
    """What is found, unless it takes too long."""
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    try:
        return work(connection)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return None
        raise
    finally:
        connection.set_progress_handler(None, 0)
