"""How long a question may take."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from typing import Final

from ..errors import QueryError

__all__ = ["patience"]

_STEPS: Final = 20_000
"""Steps of SQLite's machine between two looks at the clock; some milliseconds."""


@contextlib.contextmanager
def patience(connection: sqlite3.Connection, seconds: float | None, words: str) -> Iterator[None]:
    """Break statements off that take longer.

    Args:
        connection: Where they run.
        seconds: For all in the block together; `None` is no limit.
        words: What takes longer, and what to do instead, with `{}` for the seconds.

    Raises:
        QueryError: If they do.
    """
    if seconds is None:
        yield
        return
    until = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        raise QueryError(words.format(f"{seconds:g} seconds")) from None
    finally:
        connection.set_progress_handler(None, 0)
