"""What a subject may use: grants, what is left of them, and what is reserved."""

from .account import Account, Holding
from .features import FEATURES, Feature, LimitUnit
from .grants import Grant
from .recurrence import Interval, Recurrence
from .stores import (
    AccountKey,
    Held,
    Hold,
    LimitStore,
    PostgresStore,
    Settlement,
    Shortage,
    SQLiteStore,
)

__all__ = [
    "FEATURES",
    "Account",
    "AccountKey",
    "Feature",
    "Grant",
    "Held",
    "Hold",
    "Holding",
    "Interval",
    "LimitStore",
    "LimitUnit",
    "PostgresStore",
    "Recurrence",
    "SQLiteStore",
    "Settlement",
    "Shortage",
]
