"""Recorded events that go under one id: as providers' response ids may, which some servers draw anew."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from ..errors import HomeError

__all__ = ["Collisions"]


class Collisions:
    """The ids on the wire, and those of them that more than one recorded event has.

    All of them lie in a temporary file that SQLite makes and that has no name.

    Args:
        ids: Each id on the wire, with the recorded event's.

    Raises:
        HomeError: If there is no room for temporary files.
    """

    def __init__(self, ids: Iterable[tuple[str, str]]) -> None:
        self.records: dict[str, list[str]] = {}
        self._index = index = sqlite3.connect("", isolation_level=None)
        try:
            index.execute("PRAGMA journal_mode = OFF")
            index.execute("PRAGMA synchronous = OFF")
            index.execute(
                "CREATE TABLE sent (id TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (id, record))"
                " WITHOUT ROWID"
            )
            index.execute("BEGIN")
            index.executemany("INSERT OR IGNORE INTO sent VALUES (?, ?)", ids)
            index.execute("COMMIT")
            for wire_id, record in index.execute(
                "SELECT id, record FROM sent"
                " WHERE id IN (SELECT id FROM sent GROUP BY id HAVING count(*) > 1) ORDER BY id, record"
            ):
                self.records.setdefault(wire_id, []).append(record)
        except sqlite3.OperationalError as error:
            index.close()
            raise HomeError(f"events cannot be sorted in a temporary file: {error}") from error

    def __repr__(self) -> str:
        return f"<Collisions {len(self.records)}>"

    def __contains__(self, wire_id: str) -> bool:
        return wire_id in self.records

    def known(self, wire_ids: Iterable[str]) -> set[str]:
        """Those of the ids that are there at all."""
        asked = json.dumps(list(wire_ids))
        found = self._index.execute(
            "SELECT DISTINCT id FROM sent WHERE id IN (SELECT value FROM json_each(?))", (asked,)
        )
        return {wire_id for (wire_id,) in found}

    def close(self) -> None:
        """Delete the file."""
        self._index.close()
