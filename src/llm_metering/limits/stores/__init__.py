"""Stores of accounts: SQLite for the processes of one machine."""

from .base import AccountKey, Held, Hold, LimitStore, Settlement, Shortage
from .sqlite import SQLiteStore

__all__ = ["AccountKey", "Held", "Hold", "LimitStore", "SQLiteStore", "Settlement", "Shortage"]
