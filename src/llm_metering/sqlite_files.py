"""The open connection to a SQLite file of ours, which a fork must not carry into the child.

SQLite keeps its POSIX locks per process: a connection that a child opens beside an inherited one takes
none (https://www.sqlite.org/howtocorrupt.html, section 2.6). So it is closed before a fork.

The ledger's writer has a connection of its own kind (`ledger._handle`): it migrates, and folds between two
batches.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from . import system
from .errors import MeteringError
from .handoff import Turn

__all__ = ["BUSY_TIMEOUT", "LentConnection", "SQLiteFile", "is_busy"]

BUSY_TIMEOUT: Final = 2.0
"""Seconds to wait for others who write."""

_OPEN_AGAIN_AFTER: Final = 0.005
"""Seconds between two attempts to open it, since SQLite itself does not wait there."""

_SCHEMA_VERSION: Final = 1
_SPOILED: Final = "this process was forked while it was in use, and cannot use it"


class LentConnection(ABC):
    """Lends a connection to one thread at a time.

    Args:
        path: The file.
        name: What it is called in errors.
        error: What is raised if it cannot be used now.
    """

    def __init__(self, path: Path, *, name: str, error: type[MeteringError]) -> None:
        self._path = path
        self._name = name
        self._error = error
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._spoiled = False
        self._turn = Turn()
        self._forker: int | None = None
        system.guard_fork(self)

    @contextlib.contextmanager
    def lent(self) -> Iterator[sqlite3.Connection]:
        """Lend it; after an error it is closed, and so rolled back.

        Raises:
            MeteringError: The file's own, if it cannot be used now.
        """
        system.notice_fork()
        if self._spoiled:
            raise self._error(f"{self._name}: {_SPOILED}")
        with self._turn:
            try:
                yield self._connected()
            except BaseException as error:
                self._disconnect()
                if isinstance(error, sqlite3.Error | OSError):
                    raise self._error(f"{self._name}, {self._path}: {error}") from error
                raise

    def close(self) -> None:
        """Close it; the next one who asks opens it again."""
        system.notice_fork()
        with self._turn:
            self._disconnect()

    def before_fork(self, deadline: float) -> None:
        """Close it, unless somebody uses it for longer than may be waited."""
        patience = min(deadline - time.monotonic(), system.FORK_PATIENCE)
        if self._turn.acquire(timeout=max(patience, 0.0)):
            self._forker = threading.get_ident()
            self._disconnect()

    def after_fork_in_parent(self) -> None:
        """Let the others go on."""
        if self._forker == threading.get_ident():
            self._forker = None
            self._turn.release()

    def after_fork(self) -> None:
        """Begin anew in a forked child, spoiled if it was in use at the fork."""
        at_rest = self._forker == threading.get_ident() or not self._turn.locked()
        self._forker = None
        self._turn = Turn()
        if self._connection is not None or not at_rest:
            self._spoiled = True
            if self._connection is not None:
                system.never_close(self._connection)
            self._connection = None

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and self._file != system.identity_of(self._path):
            # Somebody removed or replaced the file: what went into the old one would be gone.
            self._disconnect()
        if self._connection is None:
            self._connection = self._opened()
            self._file = system.identity_of(self._path)
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    @abstractmethod
    def _opened(self) -> sqlite3.Connection:
        """Open it."""


class SQLiteFile(LentConnection):
    """Lends a connection to one thread at a time, and makes the file if it is not there.

    Args:
        path: The file; made for this user only.
        script: What makes its tables and ends with `PRAGMA user_version = 1`: statements, each of which
            ends with a semicolon at the end of a line.
        name: What it is called in errors.
        error: What is raised if it cannot be used now.
    """

    def __init__(self, path: Path, *, script: str, name: str, error: type[MeteringError]) -> None:
        super().__init__(path, name=name, error=error)
        self._script = script

    def _opened(self) -> sqlite3.Connection:
        path = self._path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        deadline = time.monotonic() + BUSY_TIMEOUT
        while True:
            connection = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
            )
            try:
                # Waiting is none of SQLite's own where the journal mode changes.
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("BEGIN IMMEDIATE")
                self._make_schema(connection)
                connection.execute("COMMIT")
            except sqlite3.OperationalError as error:
                connection.close()
                if not is_busy(error) or time.monotonic() >= deadline:
                    raise
                time.sleep(_OPEN_AGAIN_AFTER)
            except BaseException:
                connection.close()
                raise
            else:
                return connection

    def _make_schema(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == _SCHEMA_VERSION:
            return
        if version:
            raise self._error(
                f"{self._path} was written by a newer llm-metering; upgrade it here too"
            )
        for statement in self._script.split(";\n"):
            connection.execute(statement)


def is_busy(error: BaseException | None) -> bool:
    """Whether it is somebody else who is at the file just now."""
    return (
        isinstance(error, sqlite3.OperationalError)
        and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
    )
