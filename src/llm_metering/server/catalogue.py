"""The file in which a server keeps what people have told it about meters and subjects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from ..errors import CatalogueError
from ..sqlite_files import SQLiteFile

__all__ = ["EPOCH", "json_text", "microseconds", "moment_of", "open_catalogue", "path_of"]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def path_of(home: Path) -> Path:
    """Where the file of a home is."""
    return home / "catalogue.db"


def open_catalogue(home: Path) -> SQLiteFile:
    """The file of a home, made when it is first written to."""
    return SQLiteFile(
        path_of(home),
        script=files(__package__).joinpath("catalogue.sql").read_text("utf-8"),
        name="the catalogue",
        error=CatalogueError,
    )


def json_text(value: Mapping[str, Any] | None) -> str | None:
    """A value as it is kept."""
    return None if value is None else json.dumps(value)


def microseconds(moment: datetime) -> int:
    """Microseconds from 1970 to an aware time."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def moment_of(microseconds: int) -> datetime:
    """The aware time so many microseconds after 1970."""
    return EPOCH + timedelta(microseconds=microseconds)
