"""`KnownSubjects`: what people have told a server about subjects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ..ulids import ulid_of
from .catalogue import json_text, microseconds, moment_of, open_catalogue, path_of

__all__ = ["KnownSubject", "KnownSubjects", "subject_id"]

_SUBJECT: Final = "key, display_name, metadata, stripe_customer_id, created_at, updated_at"
_UPSERT: Final = f"""
    INSERT INTO subjects ({_SUBJECT}) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET
        display_name = excluded.display_name, metadata = excluded.metadata,
        stripe_customer_id = excluded.stripe_customer_id, updated_at = excluded.updated_at
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSubject:
    """What people have told about a subject.

    Attributes:
        key: The subject.
        display_name: For people.
        metadata: Any JSON, by key.
        stripe_customer_id: Its customer at Stripe.
        created_at: In UTC.
        updated_at: In UTC.
    """

    key: str
    display_name: str | None = None
    metadata: Mapping[str, Any] | None = None
    stripe_customer_id: str | None = None
    created_at: datetime
    updated_at: datetime

    @property
    def id(self) -> str:
        """A ULID, the same for the same subject."""
        return subject_id(self.key)


class KnownSubjects:
    """What is known of the subjects of a home.

    Args:
        home: The home; the file is made when something is told.
    """

    def __init__(self, home: Path) -> None:
        self._path = path_of(home)
        self._file = open_catalogue(home)

    def __repr__(self) -> str:
        return f"<KnownSubjects {self._path}>"

    def all(self) -> dict[str, KnownSubject]:
        """What is known of subjects, by subject.

        Raises:
            CatalogueError: If it cannot be read now.
        """
        if not self._path.exists():
            return {}
        with self._file.lent() as connection:
            rows = connection.execute(f"SELECT {_SUBJECT} FROM subjects ORDER BY key").fetchall()
        return {row[0]: _read(row) for row in rows}

    def tell(self, subjects: list[KnownSubject]) -> None:
        """Store what is known of subjects, in the place of what was.

        Raises:
            CatalogueError: If it cannot be stored now.
        """
        with self._file.lent() as connection:
            connection.execute("BEGIN IMMEDIATE")
            for each in subjects:
                times = (microseconds(each.created_at), microseconds(each.updated_at))
                metadata = json_text(each.metadata)
                row = (each.key, each.display_name, metadata, each.stripe_customer_id, *times)
                connection.execute(_UPSERT, row)
            connection.execute("COMMIT")

    def forget(self, subject: str) -> bool:
        """Delete what is known of a subject, whose usage stays; whether there was something.

        Raises:
            CatalogueError: If it cannot be stored now.
        """
        with self._file.lent() as connection:
            return bool(
                connection.execute("DELETE FROM subjects WHERE key = ?", (subject,)).rowcount
            )

    def close(self) -> None:
        """Let go of the file; whoever asks next opens it again."""
        self._file.close()


def subject_id(key: str) -> str:
    """The ULID of a subject."""
    return ulid_of(f"subject {key}")


def _read(row: tuple[Any, ...]) -> KnownSubject:
    key, display_name, metadata, stripe, created, updated = row
    return KnownSubject(
        key=key,
        display_name=display_name,
        metadata=None if metadata is None else json.loads(metadata),
        stripe_customer_id=stripe,
        created_at=moment_of(created),
        updated_at=moment_of(updated),
    )
