"""What a subject may use: grants, what is left of them, and what is reserved."""

from .account import Account, Holding
from .amounts import Amounts
from .balances import Balance, GrantBalance
from .burn_down import BurnDown, Point, burn_down, burn_down_query
from .call_reservations import CallReservation
from .estimates import Estimates, Needs
from .features import FEATURES, Feature, LimitUnit
from .gate import Gate
from .grants import Grant
from .mirrors import RemoteBalance, RemoteGrants
from .notices import BalanceNotice
from .recurrence import Interval, Recurrence
from .reservations import Reservation
from .service import DefaultGrant, Limits
from .sink import LimitsSink
from .stores import (
    AccountKey,
    Held,
    Hold,
    LimitStore,
    OpenReservation,
    PostgresStore,
    Rate,
    Settlement,
    Shortage,
    SQLiteStore,
    Terms,
    TooFast,
)

__all__ = [
    "FEATURES",
    "Account",
    "AccountKey",
    "Amounts",
    "Balance",
    "BalanceNotice",
    "BurnDown",
    "CallReservation",
    "DefaultGrant",
    "Estimates",
    "Feature",
    "Gate",
    "Grant",
    "GrantBalance",
    "Held",
    "Hold",
    "Holding",
    "Interval",
    "LimitStore",
    "LimitUnit",
    "Limits",
    "LimitsSink",
    "Needs",
    "OpenReservation",
    "Point",
    "PostgresStore",
    "Rate",
    "Recurrence",
    "RemoteBalance",
    "RemoteGrants",
    "Reservation",
    "SQLiteStore",
    "Settlement",
    "Shortage",
    "Terms",
    "TooFast",
    "burn_down",
    "burn_down_query",
]
