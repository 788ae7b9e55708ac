"""What was recorded, by time: an index on disk, so that any number of events can be sorted."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final, NamedTuple

from ...errors import HomeError

__all__ = ["Entry", "TimeOrder"]

_SCHEMA: Final = """
    CREATE TABLE recorded (
        time INTEGER NOT NULL,
        id TEXT NOT NULL UNIQUE,  -- an event that was put back after its death is there twice
        place INTEGER NOT NULL,
        start INTEGER NOT NULL,
        end INTEGER NOT NULL,
        PRIMARY KEY (time, id)
    ) WITHOUT ROWID
    """


class Entry(NamedTuple):
    """An event, and where it is.

    Attributes:
        time: In microseconds since 1970.
        id: Its id.
        place: The number of the file it is in.
        start: Where its record begins there.
        end: Where the next one does.
    """

    time: int
    id: str
    place: int = 0
    start: int = 0
    end: int = 0


class TimeOrder:
    """Events in the order of their time, each once.

    It lies in a temporary file that SQLite makes and that has no name: it is gone with the
    process, however that ends. Memory is a few megabytes.
    """

    def __init__(self) -> None:
        self._index = sqlite3.connect("", isolation_level=None)
        # It need survive nothing.
        self._index.execute("PRAGMA journal_mode = OFF")
        self._index.execute("PRAGMA synchronous = OFF")
        self._index.execute(_SCHEMA)
        self.total = 0

    def __repr__(self) -> str:
        return f"<TimeOrder {self.total}>"

    def fill(self, entries: Iterable[Entry]) -> None:
        """Take events in; one that is there already is not taken twice.

        Raises:
            HomeError: If there is no room for temporary files.
        """
        try:
            self._index.execute("BEGIN")
            self._index.executemany(
                "INSERT OR IGNORE INTO recorded (time, id, place, start, end)"
                " VALUES (?, ?, ?, ?, ?)",
                entries,
            )
            self._index.execute("COMMIT")
            (self.total,) = self._index.execute("SELECT count(*) FROM recorded").fetchone()
        except sqlite3.OperationalError as error:
            raise HomeError(f"events cannot be sorted in a temporary file: {error}") from error

    def after(self, last: Entry | None, limit: int) -> list[Entry]:
        """The next events.

        Args:
            last: The last one of before.
            limit: How many at most.
        """
        found = self._index.execute(
            "SELECT time, id, place, start, end FROM recorded"
            " WHERE (time, id) > (?, ?) ORDER BY time, id LIMIT ?",
            (last.time, last.id, limit) if last else (-(1 << 62), "", limit),
        )
        return [Entry(*row) for row in found]

    def close(self) -> None:
        """Delete it."""
        self._index.close()
