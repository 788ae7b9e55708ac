"""The file of a home that says who may send and see what; and times as it keeps them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Final

from ..errors import AccessStoreError
from ..sqlite_files import SQLiteFile

__all__ = ["FILE", "microseconds", "moment_of", "open_file"]

FILE: Final = "access.db"
"""Where it is, in a home."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def open_file(home: Path) -> SQLiteFile:
    """The file of a home, made when it is first written to."""
    return SQLiteFile(
        home / FILE,
        script=files(__package__).joinpath("access.sql").read_text("utf-8"),
        name="the keys",
        error=AccessStoreError,
    )


def microseconds(moment: datetime) -> int:
    """Microseconds from 1970 to an aware time."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment_of(microseconds: float) -> datetime:
    """The aware time so many microseconds after 1970."""
    return _EPOCH + timedelta(microseconds=microseconds)
