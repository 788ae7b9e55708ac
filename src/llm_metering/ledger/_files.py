"""Opening the ledger's file: schema, versions, and what SQLite's errors mean for us.

A file of an older schema is brought to ours by whoever opens it for writing, step by step and in one
transaction. A newer one is left as it is, if it lets us write at all.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Final

from ..errors import LedgerError

__all__ = [
    "SCHEMA_VERSION",
    "UnavailableError",
    "check_version",
    "explain",
    "make_schema",
    "open_for_reading",
    "open_for_writing",
]

SCHEMA_VERSION: Final = 6

_STEPS: Final = {2: "0002.sql", 3: "0003.sql", 4: "0004.sql", 5: "0005.sql", 6: "0006.sql"}
"""By the version that it leads to: what makes a file of the version before into one of it."""

BUSY_TIMEOUT: Final = 2.0
"""Seconds to wait for another process that writes. Short, since a shipper tries again anyway
and an interpreter that ends waits for it."""

CACHE: Final = 16 << 10
"""KiB of pages that a connection that writes may keep: about what a fold of many subjects writes. As
much again saves nothing, since the system keeps what was read."""

CHECKPOINT_AT: Final = 4_000
"""Pages of the log that are copied into the file at once. With SQLite's 1,000 a batch alone would make
them due, so that pages which the next batch writes again are copied with each one."""

LOG_LIMIT: Final = 64 << 20
"""Bytes that the log may keep when it begins anew: more than a fold writes, and far less than a
migration does."""

OPEN_AGAIN_AFTER: Final = 0.005
"""Seconds; those who make a ledger, or are the last to close it, take about as long."""

_PASSING: Final = {
    sqlite3.SQLITE_BUSY: "another process keeps the ledger locked",
    sqlite3.SQLITE_LOCKED: "another process keeps the ledger locked",
    sqlite3.SQLITE_PROTOCOL: "another process keeps the ledger locked",
    sqlite3.SQLITE_FULL: "no space is left for the ledger",
    sqlite3.SQLITE_IOERR: "the ledger's disk fails to read or write",
    sqlite3.SQLITE_NOMEM: "no memory is left for the ledger",
    sqlite3.SQLITE_INTERRUPT: "writing the ledger was interrupted",
}
_LASTING: Final = {
    sqlite3.SQLITE_READONLY: "this process may not write the ledger or its folder",
    sqlite3.SQLITE_PERM: "the ledger is not accessible to this process",
    sqlite3.SQLITE_CANTOPEN: "the ledger cannot be opened; may this process write its folder?",
    sqlite3.SQLITE_CORRUPT: "the ledger is damaged",
    sqlite3.SQLITE_NOTADB: "the ledger's file is no SQLite database",
}
_PASSING_OS: Final = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EIO}


class UnavailableError(LedgerError):
    """The ledger can be neither written nor read now.

    Attributes:
        hold: Only a person can mend it.
    """

    def __init__(self, reason: str, *, hold: bool) -> None:
        super().__init__(reason)
        self.hold = hold


def explain(error: sqlite3.Error | OSError) -> UnavailableError:
    """Say what an error means for us.

    Raises:
        sqlite3.Error: The same, if it is a mistake of this library.
    """
    if isinstance(error, OSError):
        hold = error.errno not in _PASSING_OS
        return UnavailableError(f"the ledger's file or folder: {error.strerror}", hold=hold)
    primary = _primary_code(error)
    if primary is None:
        raise error
    if primary in _PASSING:
        return UnavailableError(_PASSING[primary], hold=False)
    return UnavailableError(_LASTING.get(primary, f"the ledger: {error}"), hold=True)


def _primary_code(error: sqlite3.Error) -> int | None:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF  # the rest tells apart how it came about


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open the ledger, making it if it is not there.

    Raises:
        UnavailableError: If the file is not ours to write.
        sqlite3.Error: If SQLite cannot.
        OSError: If the folder cannot be made.
    """
    _make_private(path)
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            return _opened(path)
        except sqlite3.OperationalError as error:
            # SQLite's own waiting is none where the journal mode changes, or the last connection
            # is being closed: https://www.sqlite.org/wal.html, section 8.
            if _primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
        time.sleep(OPEN_AGAIN_AFTER)


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path,
        timeout=BUSY_TIMEOUT,
        isolation_level=None,  # we say BEGIN ourselves
        check_same_thread=False,  # one thread after another; the caller sees to it
    )
    try:
        # Before anything is changed, be it the journal mode: the file may not be ours.
        connection.execute("BEGIN")
        is_current = check_version(connection) and _version(connection) >= SCHEMA_VERSION
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")
        # Once we say accepted, the journal lets go of the event: it has to be on the disk.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{CACHE}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_AT}")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_LIMIT}")
        if not is_current:
            connection.execute("BEGIN IMMEDIATE")
            # Looked at again: somebody may have been faster.
            if check_version(connection):
                _migrate(connection)
            else:
                make_schema(connection)
            connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open the ledger so that nothing can be written to it.

    Raises:
        sqlite3.Error: If SQLite cannot.
    """
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        timeout=BUSY_TIMEOUT,
        isolation_level=None,
        check_same_thread=False,  # one thread after another; the caller sees to it
    )


def check_version(connection: sqlite3.Connection) -> bool:
    """Make sure that this library may use the ledger.

    Call it in a transaction: outside, somebody could make the ledger between two looks at it.

    Returns:
        Whether there is anything in it; a process may be about to make it.

    Raises:
        UnavailableError: If the file belongs to a newer library or to somebody else.
    """
    found = _version(connection)
    if found == 0:
        if connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
            return False
        raise UnavailableError("the ledger's file holds another application's tables", hold=True)
    (oldest,) = connection.execute(
        "SELECT ifnull(max(value), 0) FROM meta WHERE key = 'oldest_writer'"
    ).fetchone()
    if oldest > SCHEMA_VERSION:
        raise UnavailableError(
            f"the ledger was written by a newer llm-metering (schema {found}, for {oldest} and "
            f"later; this is {SCHEMA_VERSION}); upgrade it here too",
            hold=True,
        )
    return True


def make_schema(connection: sqlite3.Connection) -> None:
    """Make an empty ledger of a database that has nothing in it."""
    _run(connection, "schema.sql")


def _make_private(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # SQLite would make it readable to everybody, and it names customers. Never opened when it
    # is there: closing would drop the locks this process holds on it.
    if not path.exists():
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            return


def _version(connection: sqlite3.Connection) -> int:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    return int(found)


def _migrate(connection: sqlite3.Connection) -> None:
    for version in range(_version(connection) + 1, SCHEMA_VERSION + 1):
        _run(connection, "migrations", _STEPS[version])


def _run(connection: sqlite3.Connection, *script: str) -> None:
    text = files(__package__).joinpath(*script).read_text("utf-8")
    for statement in _statements(text):
        connection.execute(statement)


def _statements(script: str) -> Iterator[str]:
    # `executescript` would commit the transaction we are in.
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
