"""`KnownEvents`: whether an event was recorded, for who asks hundreds of times a second."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ..errors import LedgerError
from ..sqlite_files import BUSY_TIMEOUT, LentConnection, is_busy
from ._events import payloads_of
from ._files import check_version, open_for_reading

__all__ = ["KnownEvents"]

_LOOK_AGAIN_AFTER: Final = 0.005


class KnownEvents:
    """Looks events of a ledger up, on a connection that stays open.

    Args:
        path: The ledger's file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _Open(path, name="the ledger", error=LedgerError)

    def __repr__(self) -> str:
        return f"<KnownEvents {self._path}>"

    def payloads(self, ids: Iterable[str], *, source: str) -> dict[str, bytes]:
        """The CloudEvents of those ids that there are, as they were delivered, by id.

        An event whose body was given up is none of them.

        Raises:
            LedgerError: If the file cannot be read, or a newer library wrote it.
        """
        listed = list(ids)
        deadline = time.monotonic() + BUSY_TIMEOUT
        while True:
            if not self._path.exists():
                return {}
            try:
                with self._file.lent() as connection:
                    # One look: between two, somebody could make the ledger.
                    connection.execute("BEGIN")
                    is_made = check_version(connection)
                    found = payloads_of(connection, source, listed) if is_made else {}
                    connection.execute("COMMIT")
                    return found
            except LedgerError as error:
                # SQLite itself does not wait for who makes the file.
                if not is_busy(error.__cause__) or time.monotonic() >= deadline:
                    raise
            time.sleep(_LOOK_AGAIN_AFTER)

    def close(self) -> None:
        """Let go of the file; whoever asks next opens it again."""
        self._file.close()


class _Open(LentConnection):
    def _opened(self) -> sqlite3.Connection:
        return open_for_reading(self._path)
