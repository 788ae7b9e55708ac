"""`Meters`: the meters that there are, those of the settings and those that people have made.

A meter is a question that is asked when somebody asks it: one that is made today counts what was recorded
before, and nothing is lost with one that is deleted.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ..meters import MeterDefinition
from ..ulids import new_ulid, ulid_of
from .catalogue import EPOCH, json_text, microseconds, moment_of, open_catalogue, path_of

__all__ = ["StoredMeter", "StoredMeters"]

_METER: Final = (
    "id, slug, name, description, event_type, aggregation, value_property, group_by, metadata, "
    "event_from, created_at, updated_at, deleted_at"
)
_METERS: Final = (
    f"SELECT {_METER} FROM meters WHERE deleted_at IS NULL OR :deleted ORDER BY slug, id"
)
_INSERT: Final = f"INSERT INTO meters ({_METER}) VALUES ({', '.join('?' * 13)})"
_UPDATE: Final = """
    UPDATE meters SET name = ?, description = ?, group_by = ?, metadata = ?, updated_at = ?
    WHERE id = ? AND deleted_at IS NULL
    """
_DELETE: Final = "UPDATE meters SET deleted_at = ? WHERE id = ? AND deleted_at IS NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMeter:
    """A meter, with what a server keeps about it.

    Attributes:
        id: A ULID.
        definition: What it counts.
        name: For people.
        metadata: What its maker has noted.
        event_from: The first moment that counts, in UTC.
        created_at: In UTC; the beginning of 1970 of those that the settings have.
        updated_at: The same.
        deleted_at: When it was deleted, in UTC.
        is_configured: Whether the settings have it, so that the API cannot change it.
    """

    id: str
    definition: MeterDefinition
    name: str
    metadata: Mapping[str, str] | None = None
    event_from: datetime | None = None
    created_at: datetime = EPOCH
    updated_at: datetime = EPOCH
    deleted_at: datetime | None = None
    is_configured: bool = False

    @property
    def slug(self) -> str:
        """Its name in paths."""
        return self.definition.slug


class StoredMeters:
    """The meters of a home.

    Args:
        home: The home; the file is made when something is stored.
        meters: Those of the settings, by slug.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        home: Path,
        meters: Mapping[str, MeterDefinition],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path_of(home)
        self._clock = clock
        self._configured = {
            slug: StoredMeter(
                id=ulid_of(f"meter {slug}"), definition=meter, name=slug, is_configured=True
            )
            for slug, meter in meters.items()
        }
        self._file = open_catalogue(home)

    def __repr__(self) -> str:
        return f"<StoredMeters {self._path}>"

    def all(self, *, deleted: bool = False) -> list[StoredMeter]:
        """All meters: those of the settings, then the others by slug.

        Args:
            deleted: Those that were deleted as well.

        Raises:
            CatalogueError: If it cannot be read now.
        """
        return [*self._configured.values(), *self._stored(deleted=deleted)]

    def find(self, name: str) -> StoredMeter | None:
        """The meter of a slug or an id, unless it was deleted.

        Raises:
            CatalogueError: If it cannot be read now.
        """
        found = (each for each in self.all() if name in (each.slug, each.id))
        return next(found, None)

    def create(self, meter: StoredMeter) -> StoredMeter | None:
        """Store a meter as a new one, with an id and times of its own.

        Returns:
            The meter; `None` if there is one of its slug.

        Raises:
            CatalogueError: If it cannot be stored now.
        """
        if meter.slug in self._configured:
            return None
        now = self._now()
        made = replace(meter, id=new_ulid(), created_at=now, updated_at=now)
        with self._file.lent() as connection:
            connection.execute("BEGIN IMMEDIATE")
            taken = "SELECT 1 FROM meters WHERE slug = ? AND deleted_at IS NULL"
            is_new = connection.execute(taken, (made.slug,)).fetchone() is None
            if is_new:
                connection.execute(_INSERT, _row(made))
            connection.execute("COMMIT")
        return made if is_new else None

    def update(self, meter: StoredMeter) -> StoredMeter | None:
        """Store what of a meter may be changed: name, description, keys, metadata.

        Returns:
            The meter; `None` if it has gone meanwhile.

        Raises:
            CatalogueError: If it cannot be stored now.
        """
        changed = replace(meter, updated_at=self._now())
        definition = changed.definition
        with self._file.lent() as connection:
            found = connection.execute(
                _UPDATE,
                (
                    changed.name,
                    definition.description,
                    json.dumps(dict(definition.group_by)),
                    json_text(changed.metadata),
                    microseconds(changed.updated_at),
                    changed.id,
                ),
            )
            return changed if found.rowcount else None

    def delete(self, meter: StoredMeter) -> bool:
        """Delete a meter; whether it was there.

        Raises:
            CatalogueError: If it cannot be stored now.
        """
        with self._file.lent() as connection:
            moment = microseconds(self._now())
            return bool(connection.execute(_DELETE, (moment, meter.id)).rowcount)

    def close(self) -> None:
        """Let go of the file; whoever asks next opens it again."""
        self._file.close()

    def _stored(self, *, deleted: bool) -> list[StoredMeter]:
        if not self._path.exists():
            return []
        with self._file.lent() as connection:
            rows = connection.execute(_METERS, {"deleted": deleted}).fetchall()
        # What the settings call by the same name since then is meant.
        return [meter for meter in map(_read, rows) if meter.slug not in self._configured]

    def _now(self) -> datetime:
        return moment_of(int(self._clock() * 1_000_000))


def _row(meter: StoredMeter) -> tuple[Any, ...]:
    definition = meter.definition
    return (
        meter.id,
        meter.slug,
        meter.name,
        definition.description,
        definition.event_type,
        definition.aggregation,
        definition.value_property,
        json.dumps(dict(definition.group_by)),
        json_text(meter.metadata),
        None if meter.event_from is None else microseconds(meter.event_from),
        microseconds(meter.created_at),
        microseconds(meter.updated_at),
        None,
    )


def _read(row: sqlite3.Row | tuple[Any, ...]) -> StoredMeter:
    (id, slug, name, description, event_type, aggregation, path, group_by, metadata, *times) = row
    event_from, created, updated, deleted = times
    return StoredMeter(
        id=id,
        definition=MeterDefinition(
            slug=slug,
            event_type=event_type,
            aggregation=aggregation,
            value_property=path,
            group_by=json.loads(group_by),
            description=description,
        ),
        name=name,
        metadata=None if metadata is None else json.loads(metadata),
        event_from=None if event_from is None else moment_of(event_from),
        created_at=moment_of(created),
        updated_at=moment_of(updated),
        deleted_at=None if deleted is None else moment_of(deleted),
    )
