"""`Intake`: what was read from a broker, into the ledger, with the place that was read up to.

Events, sums and positions are one transaction. So a reader that dies reads again from where the
ledger is, however far it had come itself.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from ..errors import LedgerError
from ..sinks._payload import UnusableEventError
from ._files import UnavailableError, check_version
from ._handle import Handle
from ._rows import EPOCH, Row, inserts, microseconds, read_row
from .intake_values import Bookmark, Omission, OmissionKind, PartitionBooks, Stretch, Taken

__all__ = ["Intake", "PositionMovedError", "UnavailableError", "omitted_since"]


class PositionMovedError(LedgerError):
    """The ledger is elsewhere in these partitions: another reader's, or another file."""


_POSITIONS: Final = """
    SELECT cluster, topic, partition, next_offset, last_offset, last_digest,
        taken, repeated, refused, lost
    FROM ingest_positions
    """
_MOVE: Final = """
    INSERT INTO ingest_positions (cluster, topic, partition, next_offset, last_offset, last_digest,
        taken, repeated, refused, lost)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (cluster, topic, partition) DO UPDATE SET
        next_offset = excluded.next_offset,
        last_offset = excluded.last_offset,
        last_digest = excluded.last_digest,
        taken = taken + excluded.taken,
        repeated = repeated + excluded.repeated,
        refused = refused + excluded.refused,
        lost = lost + excluded.lost
    """
# What continues what was omitted last, for the same reason, makes no row of its own: a topic that is
# full of something else must not fill the ledger.
_PROLONG: Final = """
    UPDATE ingest_omissions SET next_offset = ?, records = records + ?, time = ?
    WHERE cluster = ? AND topic = ? AND partition = ? AND next_offset = ? AND kind = ? AND reason = ?
    """
_OMIT: Final = """
    INSERT INTO ingest_omissions
        (kind, cluster, topic, partition, first_offset, next_offset, records, reason, time)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    """
_OMISSIONS: Final = """
    SELECT cluster, topic, partition, kind, first_offset, next_offset, records, reason, time
    FROM ingest_omissions ORDER BY rowid DESC LIMIT ?
    """

_HAS_TABLES: Final = "SELECT 1 FROM sqlite_master WHERE name = 'ingest_positions'"


class Intake:
    """The ledger as those see it who read a broker's topics into it.

    Args:
        path: The SQLite file; it and its folder are made when needed.
        keys: What its events are signed with, as `Ledger` has it.
    """

    def __init__(self, path: Path, *, keys: Iterable[bytes] = ()) -> None:
        self.path = path
        self._handle = Handle(path, keys)

    def positions(self, cluster: str, topic: str) -> dict[int, PartitionBooks]:
        """How far each partition was read, by its number; the ledger is made if need be.

        Raises:
            UnavailableError: If it can be neither made nor read.
        """
        with self._handle.writing() as connection:
            where = f"{_POSITIONS} WHERE cluster = ? AND topic = ?"
            found = connection.execute(where, (cluster, topic)).fetchall()
        return {books.partition: books for books in map(_books, found)}

    def commit(
        self, cluster: str, topic: str, stretches: Sequence[Stretch], *, now: datetime
    ) -> dict[int, Taken]:
        """Take in what was read, all of it or nothing.

        Returns:
            What became of each partition's records.

        Raises:
            PositionMovedError: If a position is not the one that reading began at.
            UnavailableError: If the ledger cannot be written now.
        """
        # Read before the ledger is locked: others write, too.
        read = [(each, *_rows(each)) for each in stretches]
        taken: dict[int, Taken] = {}
        with self._handle.inserting() as connection:
            for stretch, rows, omissions in read:
                _check(connection, (cluster, topic), stretch)
                new = _insert(connection, rows)
                taken[stretch.partition] = done = Taken(
                    new=new,
                    repeated=len(rows) - new,
                    refused=_records(omissions, "refused"),
                    lost=_records(omissions, "lost"),
                )
                place = (cluster, topic, stretch.partition)
                connection.execute(
                    _MOVE,
                    (
                        *(*place, stretch.next_offset, *(stretch.bookmark or (None, None))),
                        *(done.new, done.repeated, done.refused, done.lost),
                    ),
                )
                for each in omissions:
                    _omit(connection, place, each, microseconds(now))
        return taken

    def books(self) -> list[PartitionBooks]:
        """What is known of every partition that was ever read.

        Raises:
            UnavailableError: If the ledger cannot be read.
        """
        with self._reading() as connection:
            if connection is None:
                return []
            order = f"{_POSITIONS} ORDER BY cluster, topic, partition"
            return [_books(row) for row in connection.execute(order)]

    def omissions(self, most: int) -> list[tuple[str, str, int, Omission, datetime]]:
        """Cluster, topic, partition, what was passed over and when, the latest first.

        Args:
            most: How many.

        Raises:
            UnavailableError: If the ledger cannot be read.
        """
        with self._reading() as connection:
            if connection is None:
                return []
            found = connection.execute(_OMISSIONS, (most,)).fetchall()
        return [
            (
                *(cluster, topic, partition),
                Omission(kind=kind, first=first, end=end, records=records, reason=reason),
                EPOCH + timedelta(microseconds=time),
            )
            for cluster, topic, partition, kind, first, end, records, reason, time in found
        ]

    def close(self) -> None:
        """Close the file; whoever asks next opens it again."""
        self._handle.close()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        with self._handle.reading() as connection:
            if connection is None:
                yield None
                return
            connection.execute("BEGIN")
            usable = check_version(connection) and connection.execute(_HAS_TABLES).fetchone()
            yield connection if usable else None


def omitted_since(connection: sqlite3.Connection, moment: int) -> dict[str, int]:
    """How many stretches of offsets of each kind were passed over since a microsecond."""
    if connection.execute(_HAS_TABLES).fetchone() is None:
        return {}
    return dict(
        connection.execute(
            "SELECT kind, count(*) FROM ingest_omissions WHERE time >= ? GROUP BY kind", (moment,)
        )
    )


def _books(row: tuple[Any, ...]) -> PartitionBooks:
    cluster, topic, partition, next_offset, last_offset, digest, new, repeated, refused, lost = row
    return PartitionBooks(
        cluster=cluster,
        topic=topic,
        partition=partition,
        next_offset=next_offset,
        bookmark=None if last_offset is None else Bookmark(last_offset, digest),
        taken=Taken(new=new, repeated=repeated, refused=refused, lost=lost),
    )


def _rows(stretch: Stretch) -> tuple[list[Row], list[Omission]]:
    rows: list[Row] = []
    omissions = list(stretch.omissions)
    for offset, event in stretch.events:
        try:
            rows.append(read_row(event))
        except UnusableEventError as error:
            omissions.append(
                Omission(kind="refused", first=offset, end=offset + 1, records=1, reason=str(error))
            )
    return rows, sorted(omissions, key=lambda each: each.first)


def _check(connection: sqlite3.Connection, topic: tuple[str, str], stretch: Stretch) -> None:
    found = connection.execute(
        "SELECT next_offset FROM ingest_positions WHERE cluster = ? AND topic = ? AND partition = ?",
        (*topic, stretch.partition),
    ).fetchone()
    position = found[0] if found else None
    if position == stretch.expected:
        return
    where = f"partition {stretch.partition} of {topic[1]}"
    if position is None:
        raise PositionMovedError(f"it knows nothing of {where} any more; was its file removed?")
    if stretch.expected is not None and position < stretch.expected:
        raise PositionMovedError(
            f"it is at offset {position} of {where}, and was at {stretch.expected}; was its file "
            "replaced by an older one?"
        )
    raise PositionMovedError(f"{where} was read into it by somebody else")


def _insert(connection: sqlite3.Connection, rows: list[Row]) -> int:
    most = connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
    return sum(
        connection.execute(statement, parameters).rowcount
        for statement, parameters in inserts(rows, most_parameters=most)
    )


def _omit(
    connection: sqlite3.Connection, place: tuple[str, str, int], each: Omission, time: int
) -> None:
    prolonged = connection.execute(
        _PROLONG, (each.end, each.records, time, *place, each.first, each.kind, each.reason)
    )
    if not prolonged.rowcount:
        connection.execute(
            _OMIT, (each.kind, *place, each.first, each.end, each.records, each.reason, time)
        )


def _records(omissions: Iterable[Omission], kind: OmissionKind) -> int:
    return sum(each.records or 0 for each in omissions if each.kind == kind)
