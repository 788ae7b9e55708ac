"""`Extract`: the events of a ledger as they were at one moment, read in pieces.

Rows are only ever added, and SQLite gives each a `rowid` above all others while rows are not deleted
(https://www.sqlite.org/autoinc.html, section 2), in the order of their commits. So what lies at or
below the highest one of a moment is what was there at that moment, however long it takes to read, and
no transaction has to stay open, which would keep the write-ahead log from being begun anew.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from ..errors import LedgerError
from ._files import check_version
from ._handle import Handle
from ._rows import COLUMNS, microseconds

__all__ = ["Bodies", "Extract", "StoredEvent", "Wanted", "bodies_before"]

PAGE: Final = 5_000
"""Events that are read at once, which takes some milliseconds and megabytes."""

_CHOSEN: Final = {"subject": "subjects", "type": "types", "source": "sources"}
_KEPT: Final = tuple(name for name in COLUMNS if name != "payload")
_PAGE: Final = f"""
    SELECT rowid, payload, {", ".join(_KEPT)} FROM events
    WHERE rowid > :after AND rowid <= :last AND {{wanted}}
    ORDER BY rowid LIMIT {PAGE}
    """
_PRUNED: Final = """
    SELECT 1 FROM events WHERE time < :pruned_before AND payload = '' AND {wanted} LIMIT 1
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which events; `None` is all of them.

    Attributes:
        start: First moment that counts.
        end: First moment that no longer counts.
        subjects: Of these alone.
        types: Of these CloudEvents types alone.
        sources: Of these CloudEvents sources alone.
    """

    start: datetime | None = None
    end: datetime | None = None
    subjects: tuple[str, ...] | None = None
    types: tuple[str, ...] | None = None
    sources: tuple[str, ...] | None = None

    def parameters(self) -> dict[str, str | int]:
        """What the SQL of `condition` is asked with."""
        asked: dict[str, str | int] = {}
        for name, moment in (("start", self.start), ("end", self.end)):
            if moment is not None:
                asked[name] = microseconds(moment)
        for column, name in _CHOSEN.items():
            values: Iterable[str] | None = getattr(self, name)
            if values is not None:
                asked[column] = json.dumps(list(values))
        return asked

    def condition(self) -> str:
        """The same in SQL."""
        bounds = {"start": "time >= :start", "end": "time < :end"}
        return (
            " AND ".join(
                bounds.get(name, f"{name} IN (SELECT value FROM json_each(:{name}))")
                for name in self.parameters()
            )
            or "true"
        )


class StoredEvent(NamedTuple):
    """An event as it is kept.

    Attributes:
        payload: The CloudEvent as it was delivered; empty if it was pruned.
        columns: What queries ask for, by name; `time` is in microseconds since 1970.
    """

    payload: bytes
    columns: Mapping[str, str | int | None]


class Bodies(NamedTuple):
    """Bodies of events.

    Attributes:
        events: How many.
        size: Their bytes.
    """

    events: int
    size: int


def bodies_before(path: Path, moment: datetime) -> Bodies:
    """The bodies that a ledger has of events of before a moment. All events are looked at.

    Raises:
        LedgerError: If the file cannot be read, or a newer library wrote it.
    """
    sql = """
        SELECT count(*), ifnull(sum(length(CAST(payload AS BLOB))), 0) FROM events
        WHERE time < ? AND payload <> ''
        """
    with _reading(Handle(path)) as connection:
        if connection is None:
            return Bodies(0, 0)
        return Bodies(*connection.execute(sql, (microseconds(moment),)).fetchone())


class Extract:
    """The events of a ledger that there are when this is made.

    Args:
        path: The ledger's file.
        wanted: Which of them.

    Attributes:
        last: The number of the last event of the ledger.
        has_pruned: Whether the bodies of some of those that are wanted were pruned.
        pruned_before: The moment up to which bodies may be missing, in microseconds since 1970;
            `None` if none was ever pruned.

    Raises:
        LedgerError: If the file cannot be read, or a newer library wrote it.
    """

    def __init__(self, path: Path, wanted: Wanted) -> None:
        self._handle = Handle(path)
        self._wanted = wanted
        self.last = 0
        self.has_pruned = False
        self.pruned_before: int | None = None
        with _reading(self._handle) as connection:
            if connection is None:
                return
            (self.last,) = connection.execute("SELECT ifnull(max(rowid), 0) FROM events").fetchone()
            found = connection.execute(
                "SELECT value FROM meta WHERE key = 'pruned_before'"
            ).fetchone()
            if found is not None:
                self.pruned_before = found[0]
                sql = _PRUNED.format(wanted=wanted.condition())
                asked = wanted.parameters() | {"pruned_before": found[0]}
                self.has_pruned = connection.execute(sql, asked).fetchone() is not None

    def __repr__(self) -> str:
        return f"<Extract last={self.last}>"

    def pages(self) -> Iterator[tuple[int, list[StoredEvent]]]:
        """How far it has come, to be compared with `last`, and the events of that piece.

        They come in the order in which they were taken in.

        Raises:
            LedgerError: If the file cannot be read any more, or is another one.
        """
        sql = _PAGE.format(wanted=self._wanted.condition())
        asked = self._wanted.parameters() | {"last": self.last}
        after = 0
        while after < self.last:
            with _reading(self._handle) as connection:
                if connection is None:
                    raise LedgerError("the ledger was removed while it was read")
                found = connection.execute(sql, asked | {"after": after}).fetchall()
            after = found[-1][0] if len(found) == PAGE else self.last
            yield (
                after,
                [
                    StoredEvent(payload.encode(), dict(zip(_KEPT, columns, strict=True)))
                    for _, payload, *columns in found
                ],
            )


@contextlib.contextmanager
def _reading(handle: Handle) -> Iterator[sqlite3.Connection | None]:
    """Lend the ledger as it is at this moment; `None` while nothing was delivered to it."""
    with handle.reading() as connection:
        if connection is None:
            yield None
            return
        connection.execute("BEGIN")
        yield connection if check_version(connection) else None
