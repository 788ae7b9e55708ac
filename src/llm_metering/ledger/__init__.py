"""The ledger: usage on this machine, in one SQLite file. A sink that can be asked."""

from ..sinks._payload import UnusableEventError
from ._rows import check_event
from .billing import Billing, PriceVersion
from .known import KnownEvents
from .listing import MOST_EVENTS, EventQuery, ListedEvent
from .pricing import PricedNow
from .repricing import Change, Repriced
from .store import Ledger
from .verification import Head, Tampering, Verification

__all__ = [
    "MOST_EVENTS",
    "Billing",
    "Change",
    "EventQuery",
    "Head",
    "KnownEvents",
    "Ledger",
    "ListedEvent",
    "PriceVersion",
    "PricedNow",
    "Repriced",
    "Tampering",
    "UnusableEventError",
    "Verification",
    "check_event",
]
