"""Stores of accounts: SQLite for the processes of one machine, PostgreSQL for those of many."""

from .base import (
    AccountKey,
    Held,
    Hold,
    LimitStore,
    OpenReservation,
    Rate,
    Settlement,
    Shortage,
    Terms,
    TooFast,
)
from .postgres import PostgresStore
from .sqlite import SQLiteStore

__all__ = [
    "AccountKey",
    "Held",
    "Hold",
    "LimitStore",
    "OpenReservation",
    "PostgresStore",
    "Rate",
    "SQLiteStore",
    "Settlement",
    "Shortage",
    "Terms",
    "TooFast",
]
