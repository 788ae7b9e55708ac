"""The open connections of a ledger, which a fork must not carry into the child.

SQLite keeps its POSIX locks per process, which a child does not inherit, while it does inherit
SQLite's belief to hold them: a connection that the child opens beside an inherited one takes no
locks at all, and what it commits can be lost (https://www.sqlite.org/howtocorrupt.html, section
2.6). So the one that writes is closed before a fork, and opened again by whoever delivers next; and
a fork waits for a question, which has one of its own.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from .. import system
from ..handoff import Turn
from ._chain import Chain
from ._files import (
    UnavailableError,
    check_version,
    explain,
    open_for_reading,
    open_for_writing,
)
from ._folding import fold_if_due

__all__ = ["Handle"]

IMPATIENCE: Final = 0.05
"""Seconds that a fork waits for a ledger that an earlier one has waited for in vain."""

_LOOK_AGAIN_AFTER: Final = 0.005
"""Seconds between two attempts to interrupt a fold."""

_SPOILED: Final = (
    "this process was forked while the ledger was open and cannot use it; its events stay in "
    "the journal for a process that can (with uWSGI, set py-call-uwsgi-fork-hooks)"
)


class Handle:
    """Lends a connection to one thread that writes, and another to one that reads, at a time.

    Args:
        path: The ledger's file.
        keys: What its events are signed with, as `Chain` has it.
    """

    def __init__(self, path: Path, keys: Iterable[bytes] = ()) -> None:
        self._path = path
        self.chain = Chain(keys)
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._spoiled = False
        self._lock = Turn()
        self._readers = Turn()
        self._forker: int | None = None
        self._patience = system.FORK_PATIENCE
        self._folding: sqlite3.Connection | None = None
        system.guard_fork(self)

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection that writes; after an error it is closed, and so rolled back.

        Raises:
            UnavailableError: If the ledger cannot be written.
        """
        system.notice_fork()
        with self._alone(self._lock):
            try:
                yield self._connected()
            except BaseException as error:
                self._disconnect()
                if isinstance(error, sqlite3.Error | OSError):
                    raise explain(error) from error
                raise

    @contextlib.contextmanager
    def inserting(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection that writes for one transaction, whose events are signed and summed up.

        Raises:
            UnavailableError: If the ledger cannot be written, or is signed with a key that is not
                known here.
        """
        self.catch_up()
        with self.writing() as connection:
            connection.execute("BEGIN IMMEDIATE")
            # Each time: a newer library may have changed the file while we had it open.
            check_version(connection)
            with self.chain.extending(connection):
                yield connection
            connection.execute("COMMIT")
            self._fold(connection)

    def catch_up(self) -> None:
        """Have signed what was there before; `inserting` does it by itself.

        Raises:
            UnavailableError: As in `inserting`.
        """
        is_behind = True
        while is_behind:
            started = time.monotonic()
            with self.writing() as connection:
                is_behind = self.chain.catch_up(connection)
            if is_behind:
                # For others who write: they look every tenth of a second at most.
                time.sleep(time.monotonic() - started)

    def _fold(self, connection: sqlite3.Connection) -> None:
        """Fold what is recent, if it is due."""
        self._folding = connection
        try:
            fold_if_due(connection)
        finally:
            self._folding = None

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """Lend a connection that only reads; `None` while there is no ledger.

        Who writes does not wait for it: a question may take seconds.

        Raises:
            UnavailableError: If the ledger cannot be read.
        """
        system.notice_fork()
        with self._alone(self._readers):
            if not self._path.exists():
                yield None
                return
            try:
                with contextlib.closing(open_for_reading(self._path)) as connection:
                    yield connection
            except sqlite3.Error as error:
                raise explain(error) from error

    def close(self) -> None:
        """Close the connection; the next one who writes opens it again."""
        system.notice_fork()
        with self._alone(self._lock, spoiled_too=True):
            self._disconnect()

    def before_fork(self, deadline: float) -> None:
        """Close the connection, unless a batch or a question takes longer than may be waited."""
        patience = min(deadline - time.monotonic(), self._patience)
        # A ledger that keeps one fork waiting for nothing would do so with all of them.
        self._patience = IMPATIENCE
        until = time.monotonic() + max(patience, 0.0)
        if not self._acquire(until):
            return
        if not self._readers.acquire(timeout=max(until - time.monotonic(), 0.0)):
            self._lock.release()
            return
        self._patience = system.FORK_PATIENCE
        self._forker = threading.get_ident()
        self._disconnect()

    def _acquire(self, until: float) -> bool:
        """Wait for who writes, but for no fold, which can be done another time."""
        while (folding := self._folding) is not None and time.monotonic() < until:
            # Again and again, since between two statements nobody hears it. At worst it hits a batch
            # that has come meanwhile, which is offered again.
            with contextlib.suppress(sqlite3.Error):
                folding.interrupt()
            if self._lock.acquire(timeout=_LOOK_AGAIN_AFTER):
                return True
        return self._lock.acquire(timeout=max(until - time.monotonic(), 0.0))

    def after_fork_in_parent(self) -> None:
        """Let the others go on."""
        if self._forker == threading.get_ident():  # two threads may fork at once
            self._forker = None
            self._readers.release()
            self._lock.release()

    def after_fork(self) -> None:
        """Begin anew in a forked child, spoiled if anything was open or in use at the fork."""
        in_use = self._lock.locked() or self._readers.locked()
        at_rest = self._forker == threading.get_ident() or not in_use
        self._forker = None
        self._folding = None
        self._lock = Turn()
        self._readers = Turn()
        if self._connection is not None or not at_rest:
            self._spoiled = True
            if self._connection is not None:
                system.never_close(self._connection)
            self._connection = None

    @contextlib.contextmanager
    def _alone(self, turn: Turn, *, spoiled_too: bool = False) -> Iterator[None]:
        # After `notice_fork`, which may put other turns in place.
        if self._spoiled and not spoiled_too:
            raise UnavailableError(_SPOILED, hold=True)
        with turn:
            yield

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and self._file != system.identity_of(self._path):
            # Somebody removed or replaced the file: what we wrote into the old one would be
            # accepted and gone.
            self._disconnect()
        if self._connection is None:
            self._connection = open_for_writing(self._path)
            self._file = system.identity_of(self._path)
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
