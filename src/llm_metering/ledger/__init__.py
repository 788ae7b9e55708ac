"""The ledger: usage on this machine, in one SQLite file. A sink that can be asked."""

from .billing import Billing, PriceVersion
from .pricing import PricedNow
from .repricing import Change, Repriced
from .store import Ledger
from .verification import Head, Tampering, Verification

__all__ = [
    "Billing",
    "Change",
    "Head",
    "Ledger",
    "PriceVersion",
    "PricedNow",
    "Repriced",
    "Tampering",
    "Verification",
]
