"""Events as they stand in a ledger of an older schema, which has fewer columns."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from llm_metering.ledger._rows import COLUMNS, read_row

__all__ = ["insert_as_before"]

_INSERT = (
    f"INSERT INTO events ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) "
    "ON CONFLICT (source, id) DO NOTHING"
)


def insert_as_before(connection: sqlite3.Connection, payloads: Iterable[bytes]) -> None:
    """Insert events where they are not there yet, in the transaction that the connection is in."""
    connection.executemany(_INSERT, [read_row(each)[: len(COLUMNS)] for each in payloads])
